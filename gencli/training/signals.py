"""SIGINT, SIGTERM, SIGHUP and SIGUSR1, heard where the work can stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gencli.core.errors import Interrupted


class StopRequest:
    """Turns signals into a wish that the loop grants at the next step; a second one stops at once.

    SIGUSR1 is what a batch script asks Slurm for before the time is over (``--signal=USR1@90``).
    A closed terminal sends SIGHUP, which `nohup` has had ignored before we start: then it stays ignored.

    at_once: the message with which the first one stops at once too, where nothing is left to be saved; None: it waits.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.at_once: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        try:
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
                number = getattr(signal, name, None)  # Windows has neither SIGHUP nor SIGUSR1
                if number is not None and (name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: the caller keeps its own handlers
            pass
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def raising(self, message: str) -> Iterator[None]:
        """Within, a signal raises ``Interrupted`` as soon as it comes, as it does if it has come before."""
        if self.signal:
            raise Interrupted(message, self.signal)
        self.at_once = message
        try:
            yield
        finally:
            self.at_once = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal or self.at_once:
            raise Interrupted(self.at_once or "stopped at once", number)
        self.signal = number
