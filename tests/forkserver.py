"""Opens hostile runs and says what went wrong: each try is a forked child of one process that has imported everything.

A child works in a scratch folder of its own, under an audit hook that records what Python is asked to do. Nothing may
run, connect, unpickle, or write beyond the run folder; the answer is one line, or the command works. Linux only.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from hostile.base import SECRET, Case, Place

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 60
"""Seconds of a try; longer is a hang."""

MEMORY = 8 * 2**30
"""Address space of a child beyond what it has at its start: who asks for more is told so."""

MOONS = ("data=moons", "data.train=200", "data.val=40", "data.test=40")
TINY = (
    *("trainer.max_steps=6", "trainer.eval_every=3", "trainer.log_every=2", "trainer.batch_size=32"),
    *("logger=none", "n=4", "device=cpu"),
)
GOOD: dict[str, tuple[str, ...]] = {
    "flow": (*MOONS, "model=realnvp", "model.net.vector.hidden=[8]"),
    "tilted": (
        *(*MOONS, "model=ebm", "model.net.vector.hidden=[8]", "model.base=run", "model.run=flow", "objective=nce"),
        *("objective.noise.kind=run", "objective.noise.run=flow", "sampler.steps=4", "sampler.warmup=2"),
        *("estimator=ais", "estimator.base.kind=run", "estimator.base.run=flow", "estimator.chains=16"),
        *("estimator.betas=4", "estimator.refresh=2"),
    ),
    "field": (*MOONS, "model=flow_matching", "model.net.vector.width=8", "model.net.vector.blocks=1"),
    "student": (
        *(*MOONS, "model=flow_matching", "model.net.vector.width=8", "model.net.vector.blocks=1"),
        *("objective=reflow", "objective.teacher=field", "objective.pairs=50"),
    ),
    "digits": ("data=digits", "model=made", "model.hidden=[16]"),
}
"""The runs that cases start from; each takes a second or two to make."""


def make_good(parent: Path, names: Sequence[str]) -> Path:
    """Train good runs in a child; their folder."""
    folder = parent / "good"
    folder.mkdir()

    def work() -> int:
        import gencli

        os.chdir(folder)
        for name in names:
            gencli.train([*TINY, *GOOD[name], f"run_dir={folder / name}"])
        return 0

    code, _, out, err = _fork(work, parent, 600)
    if code:
        raise RuntimeError(f"the good runs cannot be made:\n{out.decode()}\n{err.decode()}")
    return folder


# --- verbs -----------------------------------------------------------------------------------------------------------


def _words(verb: str, place: Place, extra: Iterable[str]) -> list[str]:
    run, more = os.path.relpath(place.run, place.work), [*extra]
    named = f"'{_escaped(run)}'"
    return {
        "sample": ["sample", f"run={named}", "n=4", "device=cpu", *more],
        "eval": ["eval", f"run={named}", "device=cpu", *more],
        "resume": ["train", f"resume={named}", "device=cpu", "trainer.max_steps=8", *more],
        "again": ["train", f"resume={named}", *more],
        "latest": ["sample", "run=latest", "n=4", "device=cpu"],
        "compare": ["compare", "outputs/*"] if not run.startswith("-") else ["compare", "outputs"],
        "compare-json": ["compare", "--json", "outputs/*"],
        "compare-csv": ["compare", "--csv", "outputs/*"],
        "near": ["sample", "run=outputs/b"],
        "near-compare": ["compare", "outputs/b"],
        "complete": ["--complete", "sample", "run="],
        "complete-resume": ["--complete", "train", "resume=outputs/"],
        "complete-compare": ["--complete", "compare", ""],
        "complete-data": ["--complete", "train", "data.path="],
    }[verb]


COMMANDS = (
    *("sample", "eval", "resume", "again", "load", "latest", "compare", "compare-json", "compare-csv"),
    *("near", "near-compare", "complete", "complete-resume", "complete-compare", "complete-data"),
)
"""Verbs that a case may name; ``script:VERB`` and ``module:VERB`` start a process of their own."""


def _escaped(text: str) -> str:
    """A text within single quotes of Hydra's grammar."""
    return re.sub(r"\\+(?='|$)", lambda m: m[0] * 2, text).replace("'", "\\'")


def _load(place: Place) -> int:
    """Everything that the Python side offers of a run; the first error is told as the command line tells it."""
    import gencli
    from gencli.cli.main import _report
    from gencli.core.errors import GencliError

    first: GencliError | None = None
    try:
        run = gencli.load(place.run, device="cpu")
        for act in (
            lambda: run.log_prob(run.sample(2).float()),
            lambda: run.info,
            lambda: run.metrics,
            lambda: run.results,
        ):
            try:
                act()
            except GencliError as error:
                first = first or error
    except GencliError as error:
        first = error
    return _report(first) if first else 0


# --- the child -------------------------------------------------------------------------------------------------------

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), (0,)),
    **{"os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,), "shutil.rmtree": (0,), "os.mkfifo": (0,)},
    **{"os.setxattr": (0,), "os.removexattr": (0,), "shutil.move": (0, 1), "sqlite3.connect": (0,)},
}
_FOLLOW = ("os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "sqlite3.connect")
_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "os.startfile"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"),
    *("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect", "webbrowser.open"),
    *("pickle.find_class", "ctypes.dlopen", "code.__new__", "os.kill", "os.putenv", "os.unsetenv"),
)
_ALLOWED_ENVIRONMENT = ("HYDRA_", "KMP_", "TORCH", "OMP_", "PYTORCH", "TF_", "MPL", "CUDA", "TRITON")
_MARKERS = ("evil", "payload", "hydra_plugins")


class Hook:
    """Records what a hostile run must not make Python do.

    Args:
        place: of the case.
        log: gets a line for each breach, at once: a child may not live to tell.
        allowed: folders that may be written to.
    """

    def __init__(self, place: Place, log: int, allowed: Iterable[Path]) -> None:
        self.place, self.log = place, log
        self.allowed = tuple(os.path.realpath(path) for path in allowed)
        self.scratch = os.path.realpath(place.scratch)
        self.inside = False

    def __call__(self, event: str, args: tuple) -> None:
        if self.inside:
            return
        self.inside = True
        try:
            breach = self._breach(event, args)
            if breach:
                os.write(self.log, f"{event}: {breach}".replace("\n", "\\n")[:300].encode(errors="replace") + b"\n")
        finally:
            self.inside = False

    def _breach(self, event: str, args: tuple) -> str | None:
        if event == "open":
            path, _, flags = args
            return None if not isinstance(flags, int) or not flags & _WRITES else self._beyond(path)
        if event == "os.mkdir" and os.path.isdir(args[0]):
            return None  # Hydra makes the working directory, which is there
        if event in _PATHS:
            follows = event in _FOLLOW
            return next(filter(None, (self._beyond(args[k], follows) for k in _PATHS[event])), None)
        if event == "subprocess.Popen":
            return None if _is_git(args[1]) else repr(args[1])
        if event in ("os.putenv", "os.unsetenv"):
            name = os.fsdecode(args[0])
            return None if name.startswith(_ALLOWED_ENVIRONMENT) else name
        if event == "ctypes.dlopen":
            return self._within(args[0])
        if event in _NEVER:
            return repr(args)
        if event == "import":
            return args[0] if args[0].partition(".")[0] in _MARKERS and args[1] else self._within(args[1])
        if event == "exec":
            return self._within(getattr(args[0], "co_filename", None))
        return None

    def _beyond(self, path: object, follows: bool = True) -> str | None:
        """A path that is written to, if that lies where nothing may be written; some calls change a link itself."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        head, tail = os.path.split(os.path.abspath(os.fsdecode(path)))
        found = os.path.realpath(os.path.join(head, tail)) if follows else os.path.join(os.path.realpath(head), tail)
        if found == "/dev/null" or any(found == a or found.startswith(a + "/") for a in self.allowed):
            return None
        return found

    def _within(self, path: object) -> str | None:
        """A file of code, if it lies among what belongs to the case."""
        if not isinstance(path, str | bytes) or not path or os.fsdecode(path).startswith("<"):
            return None
        found = os.path.realpath(os.fsdecode(path))
        return found if found.startswith(self.scratch + "/") else None


def _is_git(words: object) -> bool:
    """The two questions by which a run records the commit of the source tree."""
    found = [os.fspath(word) for word in words] if isinstance(words, list | tuple) else []
    tails = (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
    return found[:2] == ["git", "-C"] and found[2] == str(ROOT) and found[3:] in tails


def _fork(
    work: Callable[[], int], parent: Path, limit: float, begin: Callable[[], None] = lambda: None
) -> tuple[int, float, bytes, bytes]:
    """Run a function in a child; (exit code, seconds, stdout, stderr). The code is -9 if the limit was passed."""
    began = time.monotonic()
    out, err = parent / "stdout", parent / "stderr"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setpgid(0, 0)
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # as Python opens them on a terminal of UTF-8, whatever stands there in this process
            sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            begin()
            code = work()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 0)  # as sys.exit would take it
    code = _wait(child, began + limit)
    return code, time.monotonic() - began, out.read_bytes(), err.read_bytes()


def _wait(child: int, until: float) -> int:
    """The exit code of a child; it is killed when its time is over."""
    pause = 0.002
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    for kill in (lambda: os.killpg(child, signal.SIGKILL), lambda: os.kill(child, signal.SIGKILL)):
        try:
            kill()
        except ProcessLookupError:
            continue
    os.waitpid(child, 0)
    return -9


# --- one try ---------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a try came to.

    Args:
        case: its name.
        verb: what was tried.
        failures: what must not be; empty if all is well.
        line: the first line that the command said.
        code: its exit code.
        seconds: how long it took.
    """

    case: str
    verb: str
    failures: list[str] = field(default_factory=list)
    line: str = ""
    code: int = 0
    seconds: float = 0.0


class Server:
    """Tries cases, one after another; the process has to be young: it forks.

    Args:
        parent: a folder for the good runs and the scratch folders.
        bases: the good runs that the cases need.
    """

    def __init__(self, parent: Path, bases: Sequence[str] = tuple(GOOD)) -> None:
        self.parent = parent
        _import_everything()
        self.good = make_good(parent, bases)
        self.digest = snapshot(self.good)
        self._warm_up()
        gc.collect()
        gc.freeze()  # children share these pages

    def _warm_up(self) -> None:
        """Fill the caches of Hydra's parser and of matplotlib, which each child would fill anew."""
        from gencli.cli.main import main

        before = Path.cwd()
        with tempfile.TemporaryDirectory(dir=self.parent) as folder, redirect_stdout(io.StringIO()):
            os.chdir(folder)
            try:
                shutil.copytree(self.good / "flow", "run")
                for words in (["sample", "run=run"], ["eval", "run=run"]):
                    main([*words, "device=cpu"])
            finally:
                os.chdir(before)

    def run(self, case: Case, verb: str) -> Outcome:
        """Try one verb on a fresh copy of the case."""
        scratch = Path(tempfile.mkdtemp(prefix="case-", dir=self.parent))
        try:
            place = self._place(scratch, case)
            try:
                case.change(place)
            except Exception as error:
                raise RuntimeError(f"{case.name} cannot be made: {error!r}") from error
            return self._tried(case, verb, place)
        finally:
            _remove(scratch)

    def _place(self, scratch: Path, case: Case) -> Place:
        place = Place(
            scratch=scratch,
            work=scratch / "work",
            run=scratch / "work" / "outputs" / case.name_of_run,
            outside=scratch / "outside",
            path=scratch / "path",
            good=self.good,
        )
        for name in ("work/outputs", "outside", "path", "tmp", "cache", "home"):
            (scratch / name).mkdir(parents=True)
        shutil.copytree(self.good / case.base, place.run, copy_function=shutil.copyfile)
        (place.outside / "mine.txt").write_text("mine\n")
        return place

    def _tried(self, case: Case, verb: str, place: Place) -> Outcome:
        kept = (os.path.realpath(place.run), str(place.scratch / "tmp"), str(place.scratch / "cache"))
        own = [place.scratch / name for name in ("log", "stdout", "stderr")]
        log = own[0]
        log.touch()
        before = snapshot(place.scratch, skip=(*kept, *map(str, own)))
        how, _, rest = verb.rpartition(":")
        if how:
            code, seconds, out, err = self._process(how, rest, place, case)
        else:
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
            hook = Hook(place, descriptor, map(Path, kept))
            code, seconds, out, err = _fork(
                lambda: _command(verb, place, case), place.scratch, LIMIT, lambda: _begin(place, hook)
            )
            os.close(descriptor)
        outcome = Outcome(case.name, verb, code=code, seconds=seconds)
        texts = [data.decode("utf-8", errors="surrogateescape") for data in (out, err)]
        lines = [line for text in reversed(texts) for line in text.splitlines() if line.strip()]
        outcome.line = lines[0] if lines else ""
        outcome.failures = [
            *dict.fromkeys(log.read_text(errors="replace").splitlines()),
            *_said(verb, code, *texts),
            *(_inserted(place, texts[0]) if rest.startswith("complete") else ()),
        ]
        after = snapshot(place.scratch, skip=(*kept, *map(str, own)))
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        outcome.failures += [f"changed: {path}" for path in changed[:5]]
        if Path(place.mark).exists():
            outcome.failures.append("the stranger's code ran")
        return outcome

    def _process(self, how: str, verb: str, place: Place, case: Case) -> tuple[int, float, bytes, bytes]:
        """A process of its own, as a user starts it in a working directory that is the stranger's."""
        script = Path(sys.executable).with_name("gencli")
        start = [str(script)] if how == "script" else [sys.executable, "-m", "gencli"]
        environment = {key: value for key, value in os.environ.items() if key.startswith(("OMP_", "LANG", "LC_"))}
        environment |= {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", **_environment(place)}
        began = time.monotonic()
        out, err = place.scratch / "stdout", place.scratch / "stderr"
        with out.open("wb") as o, err.open("wb") as e:
            child = subprocess.Popen(
                [*start, *_words(verb, place, case.extra)],
                cwd=place.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=o,
                stderr=e,
                start_new_session=True,
            )
            try:
                code = child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                code = -9
        return code, time.monotonic() - began, out.read_bytes(), err.read_bytes()

    def good_is_untouched(self) -> bool:
        """Whether the runs that cases started from, and that some name, are as they were."""
        return snapshot(self.good) == self.digest


def _environment(place: Place) -> dict[str, str]:
    """Variables by which everything of a user lies in the scratch folder."""
    return {
        "HOME": str(place.scratch / "home"),
        "XDG_CACHE_HOME": str(place.scratch / "cache"),
        "TMPDIR": str(place.scratch / "tmp"),
        "MPLCONFIGDIR": str(place.scratch / "cache"),
        "HOSTILE_SECRET": SECRET,
    }


def _begin(place: Place, hook: Hook) -> None:
    """Make the child the case's own."""
    os.chdir(place.work)
    os.environ.update(_environment(place))
    tempfile.tempdir = None
    sys.path.append(str(place.path))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(hook)


def _command(verb: str, place: Place, case: Case) -> int:
    if verb == "load":
        return _load(place)
    from gencli.cli.main import main

    return main(_words(verb, place, case.extra))


def _import_everything() -> None:
    """What commands import, once for all children."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)
    import importlib
    import pkgutil

    import hydra
    import matplotlib.pyplot
    import pandas
    import rich.table
    import scipy.io
    import sklearn.datasets
    import torch._dynamo  # optimizers import it
    import torch.utils.tensorboard

    import gencli

    assert hydra
    assert matplotlib
    assert pandas
    assert rich
    assert scipy
    assert sklearn
    for module in pkgutil.walk_packages(gencli.__path__, "gencli."):
        if module.name != "gencli.__main__":
            try:
                importlib.import_module(module.name)
            except ImportError:
                continue  # of a package that is optional


def _remove(folder: Path) -> None:
    """Take a scratch folder away, whatever its rights are."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


# --- what must not be ------------------------------------------------------------------------------------------------


def snapshot(folder: Path, skip: Iterable[str] = ()) -> dict[str, str]:
    """What lies in a folder: kinds and contents by path."""
    found: dict[str, str] = {}
    for path in _walk(str(folder), frozenset(skip)):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            found[path] = f"-> {os.readlink(path)}"
        elif stat.S_ISREG(mode):
            with open(path, "rb") as file:
                found[path] = hashlib.sha256(file.read()).hexdigest()
        else:
            found[path] = str(stat.S_IFMT(mode))
    return found


def _walk(folder: str, skip: frozenset[str]) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.path in skip:
            continue
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, skip)


def _said(verb: str, code: int, out: str, err: str) -> Iterator[str]:
    """What is wrong with the exit code and with what a command said."""
    if code == -9:
        yield f"hang: longer than {LIMIT} s, or killed"
    elif code not in (0, 1, 2):
        yield f"exit code {code}"
    if "Traceback (most recent call last)" in out + err:
        last = next((line for line in reversed(err.splitlines()) if line and not line.startswith(" ")), "")
        yield f"traceback: {last[:200]}"
    lines = [line for line in err.splitlines() if line.strip()]
    if code in (1, 2) and len(lines) != 1 and "Traceback" not in err:
        yield f"{len(lines)} lines of error"
    if verb == "compare-csv":
        out = out.replace("\r\n", "\n")
    strange = sorted({c for c in out + err if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")})
    if strange:
        yield f"control characters: {[hex(ord(c)) for c in strange]}"
    if SECRET in out + err:
        yield "an interpolation was resolved"


def _inserted(place: Place, out: str) -> Iterator[str]:
    """Put what completion offers into a shell, as if the user had pressed Enter; the mark shows whether it ran."""
    for line in filter(None, out.split("\n")):
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", f": {line}"],
            cwd=place.work,
            env={"PATH": os.environ.get("PATH", os.defpath), **_environment(place)},
            capture_output=True,
            timeout=10,
            check=False,
        )
        if done.returncode:
            yield f"a candidate is no word of a shell: {line[:80]!r}"
        if not line.startswith(("run=", "resume=", "data.path=", "--", "outputs")):
            yield f"a candidate is cut: {line[:80]!r}"


def as_json(outcome: Outcome) -> str:
    """One line, for a worker to hand over."""
    return json.dumps(vars(outcome))


@dataclass(frozen=True)
class Pair:
    """A case and a verb."""

    case: Case
    verb: str

    @property
    def name(self) -> str:
        return f"{self.case.name}:{self.verb}"


def pairs(cases: Iterable[Case]) -> list[Pair]:
    """All that is to be tried."""
    return [Pair(case, verb) for case in cases for verb in case.verbs]
