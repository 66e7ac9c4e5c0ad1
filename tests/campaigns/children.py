"""Commands as forked children of one process that has imported everything: a try costs no start of Python.

Linux only.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple, NoReturn


class Ended(NamedTuple):
    """How a child ended.

    Args:
        code: its exit code; minus the signal that ended it, -9 where it passed its limit.
        seconds: how long it lived.
        out: what it wrote to its standard output.
        err: what it wrote to its standard error.
    """

    code: int
    seconds: float
    out: bytes
    err: bytes

    @property
    def texts(self) -> tuple[str, str]:
        """What it wrote to both, as text."""
        out, err = (data.decode("utf-8", errors="surrogateescape") for data in (self.out, self.err))
        return out, err


def forked(
    work: Callable[[], int],
    parent: Path,
    limit: float,
    begin: Callable[[], None] = lambda: None,
    meanwhile: Callable[[int], None] = lambda child: None,
) -> Ended:
    """Run a function in a child that is the leader of a process group.

    Args:
        work: what the child does; what it returns is its exit code.
        parent: a folder for what it says.
        limit: seconds after which it is killed.
        begin: what the child does first.
        meanwhile: is told the child's number and may disturb it.
    """
    began = time.monotonic()
    out, err = parent / "stdout", parent / "stderr"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        live(work, out, err, begin)
    meanwhile(child)
    code = _waited(child, began + limit)
    return Ended(code, time.monotonic() - began, out.read_bytes(), err.read_bytes())


def live(work: Callable[[], int], out: Path, err: Path, begin: Callable[[], None] = lambda: None) -> NoReturn:
    """All that a forked child is: a process as a shell starts it, whose exit code is what its work returns.

    Args:
        work: what it does.
        out: a file for its standard output.
        err: a file for its standard error; may be the same one.
        begin: what it does first.
    """
    code = 99
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whatever this process was started under
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # as Python opens them on a terminal of UTF-8, whatever stands there in this process
        sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        begin()
        code = work()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code if isinstance(code, int) else 0)  # as sys.exit would take it


def interrupting(*pauses: float) -> Callable[[int], None]:
    """What happens meanwhile: Ctrl-C, if the child still runs after so many seconds, and again after some more."""

    def meanwhile(child: int) -> None:
        for seconds in pauses:
            if not _ends(child, time.monotonic() + seconds):
                os.killpg(child, signal.SIGINT)

    return meanwhile


def _ends(child: int, until: float) -> bool:
    """Wait for the end of a child, until a moment at most; whether it came."""
    pause = 0.002
    while not (ended := os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
        if time.monotonic() > until:
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return ended is not None


def _waited(child: int, until: float) -> int:
    """The exit code of a child; it is killed when its time is over."""
    if _ends(child, until):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for kill in (lambda: os.killpg(child, signal.SIGKILL), lambda: os.kill(child, signal.SIGKILL)):
        try:
            kill()
        except ProcessLookupError:
            continue
    os.waitpid(child, 0)
    return -9


BELONGINGS = {"HOME": "home", "XDG_CACHE_HOME": "cache", "MPLCONFIGDIR": "cache", "TMPDIR": "tmp"}
"""Folders for everything of a user, by the variables that name them."""


def belongings(scratch: Path) -> dict[str, str]:
    """Variables by which everything of a user lies in a scratch folder, which has these folders."""
    return {key: str(scratch / name) for key, name in BELONGINGS.items()}


def settle(work: Path, scratch: Path) -> None:
    """Begin to work in a folder as a user whose everything lies in another."""
    os.chdir(work)
    os.environ.update(belongings(scratch))
    tempfile.tempdir = None


def bound_memory(more: int) -> None:
    """Take no more address space than some bytes beyond what there is: who asks for more is told so."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def warm_up(folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run commands in this process, which fill caches and import what is imported late: children need not."""
    from gencli.cli.main import main

    before = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            for words in commands:
                main(words)
    finally:
        os.chdir(before)


def import_everything() -> None:
    """What commands import, once for all children."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.dont_write_bytecode = True
    import torch

    torch.set_num_threads(1)
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
