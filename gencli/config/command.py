"""A command as Hydra runs it: its flags, its config, the jobs of a sweep.

Only this module, ``compose``, ``schema`` and ``explain`` know Hydra. What they use of its private parts, and of the
wording of its messages, stands in tests/config/test_hydra.py, which would notice another version.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from gencli.config import clusters, names
from gencli.config.compose import (
    chosen,
    compose,
    expand_runs,
    initialized,
    overrides_of,
    parse_overrides,
    prepare,
    quote,
    to_plain,
)
from gencli.config.explain import CONFIG_ERRORS, explain
from gencli.config.locate import config_dir
from gencli.config.multirun import Multirun, multirun
from gencli.core.errors import RunFailed, UsageError, quoted, shown
from gencli.core.output import output

Work = Callable[[str, dict[str, Any], Path | None], None]
Report = Callable[[BaseException], int]
Launch = Callable[[Multirun, Work, Report], int]


@dataclass
class Task:
    """What Hydra calls for each job, in this process or in a launcher's.

    It lets no exception through, so that one failed job does not end a sweep: the outcome is in ``exit_code`` or, for
    the jobs of a sweep, in a line of the ledger.

    Args:
        verb: train, sample or eval.
        work: runs a verb with its config; ``sweep_dir`` is the folder of a sweep's job.
        report: tells a failure to the user; returns the exit code.
        config_dirs: the user's own directories of options.
        run_config: of the run that the command is about; plain data that Hydra does not see.
        ledger: file that gets one line a job; None outside sweeps.
        first: number of the first job, where a sweep takes several calls of Hydra.
    """

    verb: str
    work: Work
    report: Report
    config_dirs: list[str]
    run_config: dict[str, Any] | None = None
    ledger: Path | None = None
    first: int = 0
    exit_code: int = field(default=0, init=False)

    def __call__(self, cfg: DictConfig) -> None:
        hydra = HydraConfig.get()
        if self.ledger is None:
            self.exit_code, _ = self._attempt(cfg, hydra, None)
            return

        folder = Path(os.path.relpath(hydra.runtime.output_dir))
        _remove_empty(folder)  # Hydra made it; the command makes it again once every check has passed
        number, overrides = self.first + hydra.job.num, " ".join(hydra.overrides.task)
        print(f"job {number}: {quoted(overrides, 10_000)}", file=output(), flush=True)
        code, message = self._attempt(cfg, hydra, folder if self.verb == "train" else None)
        line = json.dumps({"job": number, "overrides": overrides, "exit_code": code, "message": message})
        with self.ledger.open("a", encoding="utf-8") as ledger:
            ledger.write(line + "\n")
        if code >= 128:  # stopped by the user: the sweep stops too
            raise SystemExit(code)

    def _attempt(self, cfg: DictConfig, hydra: Any, sweep_dir: Path | None) -> tuple[int, str]:
        """Run the command; (exit code, first line of what went wrong)."""
        try:
            config = to_plain(cfg, chosen(hydra), overrides_of(hydra), self.run_config, self.config_dirs)
            self.work(self.verb, config, sweep_dir)
        except CONFIG_ERRORS as error:
            message = explain(error, self.verb)
            return self.report(UsageError(message)), message.splitlines()[0]
        except BaseException as error:
            message = str(error) or type(error).__name__
            return self.report(error), message.splitlines()[0]
        return 0, ""


def call(verb: str, words: list[str], work: Work, report: Report, launch: Launch | None = None) -> int:
    """Run ``gencli VERB WORDS``; returns the exit code.

    Args:
        verb: train, sample or eval.
        words: what comes after it.
        work: runs a verb with its config.
        report: tells a failure to the user; returns the exit code.
        launch: runs the sweeps of ``train`` that ask for no launcher or sweeper of Hydra's; None: Hydra runs all.

    Raises:
        UsageError: a word is wrong.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of being printed
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]  # argparse would print its usage
    words = _words(verb, words, parser)
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
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise UsageError("-m inside torchrun: each process would sweep by itself; call torchrun for each job")
            shows = args.cfg or args.info or args.hydra_help
            if launch is not None and verb == "train" and not shows and not _are_hydras(parsed):
                return launch(multirun(words, args.overrides, config_dirs), work, report)
            _refuse_keys_of_sweeps(args.overrides, f"gencli {verb} -m as it stands here runs its jobs by Hydra")
            return _sweep(Task(verb, work, report, config_dirs), flags, args.overrides)
        _refuse_keys_of_sweeps(args.overrides, "without -m this is no sweep")
        if own := clusters.ours(parsed):
            raise UsageError(f"hydra/launcher={own}: a launcher runs the jobs of a sweep: add -m (gencli train -m ...)")
        overrides = [] if args.hydra_help else args.overrides  # Hydra's help page knows no group of ours
        prepared = prepare(verb, overrides, config_dirs, need_run=not (args.hydra_help or args.info))
        if args.cfg and prepared.run_config is not None:
            return _show_config(verb, overrides, config_dirs, args.cfg, args.package)
        task = Task(verb, work, report, config_dirs, prepared.run_config)
        if args.cfg or args.info or args.hydra_help:
            _call_hydra(task, prepared.config_name, [*flags, *prepared.overrides])
        else:
            _run(task, prepared.config_name, prepared.overrides)
        return task.exit_code
    except (*CONFIG_ERRORS, ValueError) as error:
        raise UsageError(explain(error, verb, args.overrides)) from error


def _words(verb: str, words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The words as Hydra's parser reads them: ``--info`` takes no override for its value.

    Raises:
        UsageError: a flag is one of other tools; says what it is here.
    """
    known = parser._option_string_actions
    read = []
    for k, word in enumerate(words):
        following = words[k + 1] if k + 1 < len(words) else None
        if word in ("--info", "-i") and (following is None or "=" in following):
            read.append("--info=all")
            continue
        read.append(word)
        name = word.partition("=")[0]
        own = known.get(name)  # --run, which takes no value, is a flag of Hydra's and run=RUN a key of ours
        ours = "=" in word and own is not None and own.nargs == 0
        flag = any(flag.startswith(name) for flag in known) and not ours
        if not name.startswith("-") or flag or re.fullmatch(r"-[\d.]+", name):
            continue
        if found := names.flag(word, following, verb):
            raise UsageError(f"{quoted(word)}: a command of gencli takes key=value. {names.meant(found)}")
    return read


def _show_config(verb: str, overrides: list[str], config_dirs: list[str], which: str, package: str | None) -> int:
    """``--cfg job`` of a command about a run: Hydra does not see the run's sections and could not print them."""
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


def _run(task: Task, config_name: str, overrides: list[str]) -> None:
    """One job, as ``hydra.main`` runs it; that composes everything twice, to learn first that this is no sweep."""
    with initialized(task.config_dirs) as search:
        ready = GlobalHydra.instance().hydra
        assert ready is not None
        ready.run(config_name, task, [*overrides, *search])


def _call_hydra(task: Task, config_name: str, words: list[str]) -> None:
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


def _are_hydras(parsed: list[Override]) -> bool:
    """Whether a sweep is asked of Hydra itself."""
    own = (clusters.GROUP, clusters.KEYS) if clusters.ours(parsed) else ()
    return any(_is_hydras(override) for override in parsed if not override.key_or_group.startswith(own))


def _is_hydras(override: Override) -> bool:
    """Whether an override asks for it: another launcher or sweeper, Hydra's own settings, runs that go on."""
    key = override.key_or_group
    own = key.startswith(("hydra.", "hydra/")) and key not in ("hydra.sweep.dir", "hydra.mode")
    return own or (key == "resume" and not override.is_delete())


def _refuse_keys_of_sweeps(overrides: list[str], why: str) -> None:
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        kind, dot, _ = override.key_or_group.partition(".")
        if (kind == "sweep" and dot) or kind == "search":
            raise UsageError(f"{text}: {why}; {kind}.* are keys of gencli train -m with its own launcher")


# --- sweeps by Hydra -------------------------------------------------------------------------------------------------


def _sweep(each: Task, flags: list[str], overrides: list[str]) -> int:
    """Every job of a sweep.

    Args:
        each: what all of them are.
        flags: of Hydra.
        overrides: the sweep's.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # a launcher's processes take no modules from the current folder
    chosen = [o.value() for o in parse_overrides(overrides) if o.key_or_group == "hydra.sweep.dir"]
    folder = Path(str(chosen[-1])) if chosen else _reserve(Path("outputs/sweeps"))
    place = [] if chosen else [f"hydra.sweep.dir={quote(str(folder))}"]
    scratch = Path(tempfile.mkdtemp(prefix="gencli-sweep-"))
    ledger = scratch / "jobs.jsonl"
    ledger.touch()
    try:
        # Sections come from one run: a sweep over runs is one call of Hydra for each.
        for own in expand_runs(each.verb, overrides):
            prepared = prepare(each.verb, own, each.config_dirs)
            done = len(ledger.read_text(encoding="utf-8").splitlines())
            task = replace(each, run_config=prepared.run_config, ledger=ledger, first=done)
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
    if not failed:
        print(f"{len(jobs)} of {len(jobs)} jobs done", file=output())
        return 0
    print(f"{len(failed)} of {len(jobs)} jobs failed", file=sys.stderr)
    for job in sorted(failed, key=lambda job: job["job"]):
        print(quoted(f"job {job['job']} failed ({job['overrides']}): {job['message']}", 10_000), file=sys.stderr)
    return 2 if all(job["exit_code"] == 2 for job in jobs) else 1  # 2: nothing was written


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
