"""How long a measurement takes, found out on a few rows before it, and how many rows fit into a budget.

Rows are taken in one fixed random order (``data.split.shuffled``), so that any number of them is a random subset.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gencli.core.sizes import rounded
from gencli.run.progress import duration

QUICK = 10.0
"""Seconds below which a measurement needs no plan: all rows in their order, as many at a time as are asked for."""
FIRST, GROWTH = 2, 4
"""Rows that are timed first, and the factor to the next number."""
START_UP = 5.0
"""Seconds that a first call may take before it says something of the next."""
LONGEST = 20.0
"""Seconds that a number of rows is expected to take at most, to be timed."""
SETTLED = 1.3
"""Two paces that differ by less are taken for the same."""
LEAST = 10
"""Rows that are measured however long it takes."""


@dataclass(frozen=True)
class Plan:
    """How many rows are measured, and in what pieces.

    Args:
        rows: how many.
        of: there are.
        seconds: that it takes, about.
        batch_size: rows at a time.
    """

    rows: int
    of: int
    seconds: float
    batch_size: int

    @property
    def shuffled(self) -> bool:
        """Whether rows are gone through in random order, so that those up to a stop are a random subset."""
        return self.rows < self.of or self.seconds > QUICK

    def __str__(self) -> str:
        which = f" of {self.of:,} examples, drawn at random" if self.rows < self.of else " examples"
        return f"{self.rows:,}{which}, in about {duration(max(1.0, self.seconds))}"


def plan(
    score: Callable[[int], object], n: int, batch_size: int, budget: float | None = None, processes: int = 1
) -> Plan:
    """Time a few rows, then say how many of n to measure.

    All rows, if they fit into the budget. Else as many as fit, rounded down to 1, 2 or 5 times a power of ten, so that
    machines of a like speed measure the same rows.

    Args:
        score: scores that many rows, which are not kept.
        n: rows that there are.
        batch_size: rows at a time, at most.
        budget: seconds; None: no bound.
        processes: that share the rows and measure at the same time.
    """
    began = time.perf_counter()
    quick = QUICK if budget is None else min(QUICK, budget)
    found = _timed(score, n, batch_size, budget, quick)
    own = min(seconds / rows for rows, seconds in found)
    pace = own / processes
    if pace * n <= quick:
        return Plan(n, n, pace * n, batch_size)
    left = math.inf if budget is None else max(budget / 2, budget - (time.perf_counter() - began))
    fits = n if pace * n <= left else min(n, max(LEAST, rounded(left / pace)))
    # the smallest pieces that lose nothing: progress shows often, and little is lost by a stop
    piece = next(rows for rows, seconds in found if seconds / rows <= SETTLED * own)
    return Plan(fits, n, pace * fits, piece if piece < found[-1][0] else min(batch_size, max(piece, int(1 / own))))


def _timed(
    score: Callable[[int], object], n: int, batch_size: int, budget: float | None, quick: float
) -> Sequence[tuple[int, float]]:
    """(rows, seconds) of pieces of growing size, until all rows are known to be quick or the pace is known."""
    rows = min(FIRST, n)
    found: list[tuple[int, float]] = []
    most = LONGEST if budget is None else min(LONGEST, budget / 2)
    started = False
    while True:
        began = time.perf_counter()
        score(rows)
        seconds = time.perf_counter() - began
        if not started and seconds < START_UP and seconds / rows * n > quick:
            started = True  # what comes first may take longer than all that follow
            continue
        found.append((rows, seconds))
        settled = seconds > 1 and len(found) > 1 and found[-2][1] / found[-2][0] < SETTLED * seconds / rows
        grown = min(GROWTH * rows, batch_size)
        if seconds / rows * n <= quick or settled or grown <= rows or 4 * grown > n or GROWTH * seconds > most:
            return found
        rows = grown
