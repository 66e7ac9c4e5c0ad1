"""SIGINT, SIGTERM, SIGHUP and SIGUSR1, heard where the work can stop."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from gencli.core.errors import Interrupted

PATIENCE = 1.0
"""Seconds of silence."""

REPEATED = 0.2
"""Seconds in which a signal that comes again is the same one.

A terminal sends it to a wrapper (`timeout`, `uv run`) too, which may hand it on.
"""

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Ended(KeyboardInterrupt):
    """A signal where nothing is to be saved: like Ctrl-C, what is half written goes before the process does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ending() -> Iterator[None]:
    """Within, SIGTERM, SIGHUP and SIGUSR1 raise ``Ended``, if the caller has left them as they are."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    numbers = [number for name in NAMES if (number := getattr(signal, name, None)) is not None]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []  # only that one may
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class StopRequest:
    """Turns signals into a wish that the loop grants at the next step; a second one stops at once.

    SIGUSR1 is what a batch script asks Slurm for before the time is over (``--signal=USR1@90``).
    A closed terminal sends SIGHUP, which `nohup` has had ignored before we start: then it stays ignored.

    Where the work takes longer than ``PATIENCE`` to come to its next step, who waits is told so on standard error.

    Args:
        speaks: whether this process tells.

    at_once: the message with which the first one stops at once too, where nothing is left to be saved; None: it waits.
    deaf: whether signals are heard no more: the end, which takes a moment, is on its way.
    """

    def __init__(self, *, speaks: bool = False) -> None:
        self.signal = 0
        self.speaks = speaks
        self._waits: threading.Timer | None = None
        self.at_once: str | None = None
        self.deaf = False
        self._before: dict[int, Any] = {}
        self._heard = (0, -math.inf)  # the last one, and when

    def __enter__(self) -> StopRequest:
        try:
            for name in NAMES:
                number = getattr(signal, name, None)  # Windows has neither SIGHUP nor SIGUSR1
                if number is not None and (name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: the caller keeps its own handlers
            pass
        return self

    def __exit__(self, *_: object) -> None:
        if self._waits is not None:
            self._waits.cancel()
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
        last, at = self._heard
        if self.deaf or (number == last and time.monotonic() - at < REPEATED):
            return
        self._heard = (number, time.monotonic())
        if self.signal or self.at_once:
            raise Interrupted(self.at_once or "stopped at once", number)
        self.signal = number
        if self.speaks:
            self._waits = threading.Timer(PATIENCE, _tell)
            self._waits.daemon = True
            self._waits.start()


def _tell() -> None:
    with suppress(OSError, ValueError):  # nobody reads it: a closed terminal
        print("\nstopping after this step; once more stops at once", file=sys.stderr, flush=True)
