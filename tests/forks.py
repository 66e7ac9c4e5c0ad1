"""Processes of their own that start at once: forks of one that has imported everything and computed nothing.

A process that has taken a gradient cannot fork another one that takes gradients, so that one is forked off before the
first test, by the ``conftest.py`` of the folders that need it. Linux only.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from campaigns.children import live

_server: socket.socket | None = None


def start() -> None:
    """Fork the process that is to be forked; to be called when all is collected, and before anything is computed."""
    global _server
    if _server is None:
        _server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = os.fork()
        if server == 0:
            try:
                _serve(theirs)
            finally:
                os._exit(1)
        theirs.close()
        atexit.register(_end, _server, server)


def _end(ours: socket.socket, server: int) -> None:
    ours.close()
    os.waitpid(server, 0)


def warm(work: Callable[..., Any], *arguments: Any) -> None:
    """Have that process do something itself, so that none of its forks has to: an import, a composition."""
    answer = _ask("warm", work, arguments, str(Path.cwd()), os.devnull)
    assert os.read(answer, 100) == b"done\n"
    os.close(answer)


def warm_up(*words: str) -> None:
    """Have it import what a training imports, and compose its config."""
    warm(_warm_up, words)


def _warm_up(words: Sequence[str]) -> None:
    from gencli.config.compose import compose
    from gencli.sweeps.launcher import _warm

    _warm([])
    import gencli.cli.train  # noqa: F401

    compose("train", words)


class Child:
    """A fork that calls a function and exits with what that returns.

    Args:
        work: a function at the top of a module.
        arguments: of it.
        log: file for what it prints.
        folder: where it works.
    """

    def __init__(self, work: Callable[..., int], *arguments: Any, log: str | Path = os.devnull, folder: Path) -> None:
        self._answer = _ask("fork", work, arguments, str(folder), str(log))
        self.pid, self.code = self._told(None), None

    def _told(self, limit: float | None) -> int | None:
        if not select.select([self._answer], [], [], limit)[0]:
            return None
        text = b""
        while not text.endswith(b"\n"):
            more = os.read(self._answer, 1)
            assert more, "the process that is forked has ended"
            text += more
        return int(text)

    def poll(self) -> int | None:
        """The exit code if it has ended; of one that a signal ended, minus the signal's number."""
        if self.code is None:
            self.code = self._told(0)
        return self.code

    def wait(self, limit: float = 300) -> int:
        """The exit code."""
        if self.code is None:
            self.code = self._told(limit)
        assert self.code is not None, f"it has not ended within {limit} seconds"
        return self.code

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


def _ask(what: str, work: Callable[..., Any], arguments: tuple[Any, ...], folder: str, log: str) -> int:
    assert _server is not None, "no conftest.py has called forks.start()"
    ours, theirs = os.pipe()
    socket.send_fds(_server, [pickle.dumps((what, work, arguments, folder, log))], [theirs])
    os.close(theirs)
    return ours


def _serve(requests: socket.socket) -> None:
    os.setsid()  # Ctrl-C is not for this one, which ends with the tests
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    keep = requests.detach()
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    requests = socket.socket(fileno=keep)
    while True:
        data, answers, *_ = socket.recv_fds(requests, 1 << 20, 1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        if not data:
            os._exit(0)
        what, work, arguments, folder, log = pickle.loads(data)
        if what == "warm":
            os.chdir(folder)
            work(*arguments)
            os.write(answers[0], b"done\n")
        elif os.fork() == 0:
            requests.close()
            child = os.fork()
            if child == 0:
                os.close(answers[0])
                _work(work, arguments, folder, log)
            os.write(answers[0], f"{child}\n".encode())
            os.write(answers[0], f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
            os._exit(0)
        os.close(answers[0])


def _work(work: Callable[..., int], arguments: tuple[Any, ...], folder: str, log: str) -> NoReturn:
    os.chdir(folder)
    os.environ["OMP_NUM_THREADS"] = "1"
    live(lambda: work(*arguments), Path(log), Path(log))
