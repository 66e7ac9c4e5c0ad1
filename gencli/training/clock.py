"""Seconds of training, which budgets and learning rates may follow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gencli.core import distributed

MOST_STEPS = 10
"""Steps between two agreements of the ranks about the clock and about stopping, at most."""

WAIT = 1.0
"""Seconds that a signal or the end of the budget may wait for an agreement, where a step is no longer than that: those
who stop a training kill it soon after (torchrun after 30 s)."""


class Clock:
    """Time spent on training steps alone; ``paused`` leaves out validation and pictures.

    Args:
        world: this process among its peers.

    ``seconds`` is the time that all ranks agreed on last, so that they spend the same budget. From it follows the step
    of the next agreement too: a rank that took another one would wait for the others without end.
    """

    def __init__(self, world: distributed.World) -> None:
        self.world = world
        self.seconds = 0.0
        self._mark = time.perf_counter()
        self._due: int | None = None
        self._agreed = 0

    def start(self) -> None:
        """Count from now on."""
        self._mark = time.perf_counter()

    def now(self) -> float:
        """Seconds up to this moment, as this rank sees them."""
        return self.seconds + time.perf_counter() - self._mark

    def agree(self, step: int, last: int | None, stop: int, device: torch.device) -> int:
        """Take the time up to now into ``seconds``; returns the signal to stop for (0: none).

        Ranks do so together, after their first step and then about every second: the longest time and any rank's signal
        are those of all.

        Args:
            step: steps taken.
            last: number of the last step, after which they agree too.
            stop: the signal that this rank got.
            device: where ranks exchange tensors.
        """
        if self.world.size > 1 and self._due is not None and step < self._due and step != last:
            return 0
        before = self.seconds
        self.seconds = self.now()
        self.start()
        if self.world.size == 1:
            return stop
        agreed = torch.tensor([self.seconds, float(stop)], device=device, dtype=torch.float64)
        self.seconds, stopped = distributed.largest(agreed).tolist()
        steps = 1 if self._due is None else max(1, step - self._agreed)
        a_step = (self.seconds - before) / steps
        self._agreed, self._due = step, step + max(1, min(MOST_STEPS, int(WAIT / max(a_step, 1e-9))))
        return int(stopped)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within is no training time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._mark += time.perf_counter() - began
