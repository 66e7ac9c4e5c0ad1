"""A job within the process that it has to itself."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gencli.core import processes
from gencli.core.errors import Interrupted

Work = Callable[[str, dict[str, Any], Path | None], None]
Report = Callable[[BaseException], int]

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_MESSAGE = 4000
"""Characters of a failure that are handed on; less than a pipe holds, so that no one waits for a reader."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a process is to do.

    Args:
        config: of one training.
        folder: its run folder, to be made; a run that goes on knows its own.
        log: file to which what it prints is appended.
        threads: of its computations on a CPU, at most.
        exactly: whether the user has set that number; else a training may take fewer.
        memory: GiB that it may take besides what it has at its start.
        env: variables that it gets besides those of the sweep.
        verb: what is done with the config: train; trial, which leaves the test split closed; eval.
    """

    config: dict[str, Any]
    folder: str
    log: str
    threads: int
    exactly: bool = False
    memory: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    verb: str = "train"


def run(request: Request, work: Work, report: Report, answer: int) -> int:
    """Do the work, and write down how it ended: exit code and, of a failure, what it says.

    Args:
        request: what is to be done.
        work: trains a config.
        report: tells a failure to the user; returns the exit code.
        answer: descriptor that gets the answer, a line of JSON.
    """
    code, message = 1, "it could not be started"
    try:
        _begin(request)
        code, message = _attempt(request, work, report)
    except BaseException as error:  # a log that cannot be opened; a signal before the work has begun
        message = told(error)
        code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        traceback.print_exception(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # a full disk
                continue
        os.write(answer, json.dumps({"exit_code": code, "message": message[:_MESSAGE]}).encode())
    return code


def _attempt(request: Request, work: Work, report: Report) -> tuple[int, str]:
    try:
        work(request.verb, request.config, Path(request.folder))
    except BaseException as error:
        return report(error), told(error)
    return 0, ""


def told(error: BaseException) -> str:
    """A failure in one line."""
    from gencli.core.errors import GencliError

    first = next((line for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, GencliError | Interrupted):
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _begin(request: Request) -> None:
    """Make the process one of its own: its group, its output, its share of the machine."""
    if hasattr(os, "setpgid") and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # Ctrl-C reaches the sweep, which stops its jobs
    _end_with_parent()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if signal.getsignal(number := getattr(signal, name)) is not signal.SIG_IGN or name != "SIGHUP":
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    shared = {} if request.exactly else {processes.SHARED: "1"}
    os.environ.update({"OMP_NUM_THREADS": str(request.threads), **shared, **request.env})  # which threads=auto heeds
    if request.memory is not None:
        _limit_memory(int(request.memory * 2**30))
    import torch

    torch.set_num_threads(request.threads)


def _end_with_parent() -> None:
    """If the sweep is killed its jobs are asked to stop, so that none goes on beside a second start of it. Linux."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(128 + signal.SIGTERM)


def _limit_memory(size: int) -> None:
    """Let the system refuse more data than that, which it counts when they are asked for (RLIMIT_DATA of Linux)."""
    import resource

    fields = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split()
    own = int(fields[fields.index("VmData:") + 1]) * 1024
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = own + size if most == resource.RLIM_INFINITY else min(own + size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
