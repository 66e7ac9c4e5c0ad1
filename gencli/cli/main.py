"""The command line: a verb, and what comes after it in Hydra's grammar.

Help, version, list, compare and completion import neither torch nor Hydra.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gencli import __version__
from gencli.cli import help as helptext
from gencli.core.errors import GencliError, Interrupted, RunFailed, UsageError, near, quoted, shown

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``gencli``; None: those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except BrokenPipeError:  # `gencli list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        return _report(error)


def _dispatch(words: list[str]) -> int:
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("--help", "-h", "help"):
        print(helptext.PAGES.get(rest[0], helptext.MAIN) if rest else helptext.MAIN, end="")
        return 0
    if verb == "--version":
        print(f"gencli {__version__}")
        return 0
    if verb in ("--completion", "--complete"):
        from gencli.cli import completion

        print(completion.script(rest) if verb == "--completion" else "\n".join(completion.candidates(rest)))
        return 0
    if verb not in helptext.PAGES:
        raise UsageError(f"'{verb}' is no command of gencli. {near(verb, helptext.PAGES)}")
    if "--help" in rest or "-h" in rest:
        print(helptext.PAGES[verb], end="")
        return 0

    if verb == "list":
        from gencli.cli.list import main as list_main

        return list_main(rest)
    if verb == "compare":
        from gencli.cli.compare import main as compare_main

        return compare_main(rest)
    return _through_hydra(verb, rest)


def _report(error: BaseException) -> int:
    """Tell a failure to the user; the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 2
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    if isinstance(error, GencliError):
        if not isinstance(error, Interrupted):  # the run has said how to go on
            print(f"error: {quoted(error, 10_000)}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError) and error.filename is not None:  # a full disk, a permission, a file that went away
        print(f"error: {quoted(error.filename, 300)}: {error.strerror}", file=sys.stderr)
        return 1
    traceback.print_exception(error)
    return 1


# --- train, sample, eval ---------------------------------------------------------------------------------------------


@dataclass
class Task:
    """What Hydra calls for each job, in this process or in a launcher's.

    It lets no exception through, so that one failed job does not end a sweep: the outcome is in ``exit_code`` or, for
    the jobs of a sweep, in a line of the ledger.

    Args:
        verb: train, sample or eval.
        config_dirs: the user's own directories of options.
        run_config: of the run that the command is about; plain data that Hydra does not see.
        ledger: file that gets one line a job; None outside sweeps.
        first: number of the first job, where a sweep takes several calls of Hydra.
    """

    verb: str
    config_dirs: list[str]
    run_config: dict[str, Any] | None
    ledger: Path | None = None
    first: int = 0
    exit_code: int = field(default=0, init=False)

    def __call__(self, cfg: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        if self.ledger is None:
            self.exit_code, _ = self._attempt(cfg, dict(hydra.runtime.choices), None)
            return

        folder = Path(os.path.relpath(hydra.runtime.output_dir))
        _remove_empty(folder)  # Hydra made it; the command makes it again once every check has passed
        number, overrides = self.first + hydra.job.num, " ".join(hydra.overrides.task)
        print(f"job {number}: {quoted(overrides, 10_000)}", flush=True)
        code, message = self._attempt(cfg, dict(hydra.runtime.choices), folder if self.verb == "train" else None)
        line = json.dumps({"job": number, "overrides": overrides, "exit_code": code, "message": message})
        with self.ledger.open("a", encoding="utf-8") as ledger:
            ledger.write(line + "\n")
        if code >= 128:  # stopped by the user: the sweep stops too
            raise SystemExit(code)

    def _attempt(self, cfg: DictConfig, choices: dict[str, Any], sweep_dir: Path | None) -> tuple[int, str]:
        """Run the command; (exit code, first line of what went wrong)."""
        from gencli.config.compose import CONFIG_ERRORS, explain, to_plain

        try:
            _run_verb(self.verb, to_plain(cfg, choices, self.run_config, self.config_dirs), sweep_dir)
        except CONFIG_ERRORS as error:
            message = explain(error)
            return _report(UsageError(message)), message.splitlines()[0]
        except BaseException as error:
            message = str(error) or type(error).__name__
            return _report(error), message.splitlines()[0]
        return 0, ""


def _run_verb(verb: str, config: dict[str, Any], sweep_dir: Path | None) -> None:
    if verb == "train":
        from gencli.cli.train import train

        train(config, sweep_dir)
    elif verb == "sample":
        from gencli.cli.sample import sample

        sample(config)
    else:
        from gencli.cli.eval import evaluate_run

        evaluate_run(config)


def _through_hydra(verb: str, words: list[str]) -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of being printed
    from hydra._internal.utils import get_args_parser

    from gencli.config.compose import CONFIG_ERRORS, explain, parse_overrides, prepare

    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]  # argparse would print its usage
    args = parser.parse_intermixed_args(words)
    if args.experimental_rerun is not None:
        raise UsageError("--experimental-rerun unpickles a file, which gencli never does; train with resume=RUN")
    if args.shell_completion:
        raise UsageError("gencli --completion bash|zsh|fish prints gencli's own completion script")
    flags = [word for word in words if word not in args.overrides]
    config_dirs = [args.config_dir] if args.config_dir else []

    try:
        parsed = parse_overrides(args.overrides)
        if args.multirun or any(o.key_or_group == "hydra.mode" and str(o.value()) == "MULTIRUN" for o in parsed):
            return _sweep(verb, flags, args.overrides, config_dirs)
        overrides = [] if args.hydra_help else args.overrides  # Hydra's help page knows no group of ours
        prepared = prepare(verb, overrides, config_dirs, need_run=not (args.hydra_help or args.info))
        if args.cfg and prepared.run_config is not None:
            return _show_config(verb, overrides, config_dirs, args.cfg, args.package)
        task = Task(verb, config_dirs, prepared.run_config)
        _call_hydra(task, prepared.config_name, [*flags, *prepared.overrides])
        return task.exit_code
    except (*CONFIG_ERRORS, ValueError) as error:
        raise UsageError(explain(error)) from error


def _show_config(verb: str, overrides: list[str], config_dirs: list[str], which: str, package: str | None) -> int:
    """``--cfg job`` of a command about a run: Hydra does not see the run's sections and could not print them."""
    import yaml

    from gencli.config.compose import compose

    if which != "job":
        raise UsageError(f"--cfg {which}: with a run, --cfg job shows its config as the command takes it")
    config: Any = {key: value for key, value in compose(verb, overrides, config_dirs).items() if key != "choices"}
    for key in package.split(".") if package and package != "_global_" else ():
        if not isinstance(config, dict) or key not in config:
            raise UsageError(f"--package {package}: there is no such section")
        config = config[key]
    print(shown(yaml.safe_dump(config, sort_keys=False, allow_unicode=True)), end="")
    return 0


def _refuse_flag(message: str) -> NoReturn:
    raise UsageError(f"{message}; gencli VERB --help and --hydra-help tell the flags")


def _call_hydra(task: Task, config_name: str, words: list[str]) -> None:
    import hydra

    from gencli.config.locate import config_dir

    given = sys.argv
    sys.argv = [f"gencli {task.verb}", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(task)()
    except SystemExit as stop:
        if stop.code == 1:  # Hydra's own word for a wrong flag
            raise SystemExit(2) from stop
        if stop.code:
            raise
    finally:
        sys.argv = given


# --- sweeps ----------------------------------------------------------------------------------------------------------


def _sweep(verb: str, flags: list[str], overrides: list[str], config_dirs: list[str]) -> int:
    from gencli.config.compose import expand_runs, parse_overrides, prepare, quote

    os.environ.setdefault("PYTHONSAFEPATH", "1")  # a launcher's processes take no modules from the current folder
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("-m inside torchrun: each process would sweep by itself; call torchrun once for each job")
    chosen = [o.value() for o in parse_overrides(overrides) if o.key_or_group == "hydra.sweep.dir"]
    folder = Path(str(chosen[-1])) if chosen else _reserve(Path("outputs/sweeps"))
    place = [] if chosen else [f"hydra.sweep.dir={quote(str(folder))}"]
    scratch = Path(tempfile.mkdtemp(prefix="gencli-sweep-"))
    ledger = scratch / "jobs.jsonl"
    ledger.touch()
    try:
        # Sections come from one run: a sweep over runs is one call of Hydra for each.
        for each in expand_runs(verb, overrides):
            prepared = prepare(verb, each, config_dirs)
            done = len(ledger.read_text().splitlines())
            task = Task(verb, config_dirs, prepared.run_config, ledger, done)
            _call_hydra(task, prepared.config_name, [*flags, *prepared.overrides, *place])
        return _summary([json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()])
    finally:
        shutil.rmtree(scratch)
        _tidy(folder, given=bool(chosen))


def _reserve(parent: Path) -> Path:
    """A sweep folder named by the second, with a counter where two sweeps start in the same one."""
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for k in range(1, 1000):
        folder = parent / (name if k == 1 else f"{name}-{k}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunFailed(f"cannot write a sweep folder: {error}") from error
        return folder
    raise RunFailed(f"too many sweeps named {parent / name}")


def _summary(jobs: list[dict[str, Any]]) -> int:
    if not jobs:
        raise UsageError("this sweep expands to no jobs: a glob or a list in it matches nothing")
    failed = [job for job in jobs if job["exit_code"]]
    print(f"{len(jobs) - len(failed)} of {len(jobs)} jobs done", file=sys.stderr if failed else sys.stdout)
    for job in sorted(failed, key=lambda job: job["job"]):
        print(quoted(f"job {job['job']} failed ({job['overrides']}): {job['message']}", 10_000), file=sys.stderr)
    return 0 if not failed else 2 if all(job["exit_code"] == 2 for job in failed) else 1


def _tidy(folder: Path, given: bool) -> None:
    """Leave nothing behind of a sweep that made no run."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - {"multirun.yaml"}:
        return
    (folder / "multirun.yaml").unlink(missing_ok=True)
    for path in (folder,) if given else (folder, folder.parent, folder.parent.parent):
        _remove_empty(path)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
