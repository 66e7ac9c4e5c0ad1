"""How many threads make a training step fastest, found by timing the first steps.

Threads split one operation at a time, and wait for each other after each. Where operations are small, waking them up
costs more than they save: two threads can take twice the time of one. So ``threads=auto`` begins with one thread, and
doubles for as long as that pays. It times the steps of training themselves, of which none is wasted. A choice near the
bar may fall otherwise the next time, and such runs differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch

from gencli.run.device import Threads
from gencli.run.folder import RunFolder
from gencli.run.reporter import Reporter

WARM, TIMED, ENOUGH = 3, 9, 1.0
"""Steps of each number of threads that are left out; steps that are timed, or three if they take so many seconds."""

PAYS = 1.15
"""How many times as fast the double number of threads has to be: others need cores, too."""


class ThreadChoice:
    """Chooses the number of threads of a training on a CPU.

    Args:
        threads: those that compute now, as many as there may be.
        device: where training takes place; elsewhere than on a CPU nothing is chosen.
        alone: whether no other process takes part, whose steps would be timed, too.
        now: seconds of training up to this moment.
        folder: keeps what was chosen.
        reporter: says it.
    """

    def __init__(
        self,
        threads: Threads,
        device: torch.device,
        now: Callable[[], float],
        folder: RunFolder,
        reporter: Reporter,
        *,
        alone: bool = True,
    ) -> None:
        self.threads, self.now, self.folder, self.reporter = threads, now, folder, reporter
        self.settled = not (threads.open and alone and device.type == "cpu")
        self.most = threads.count
        self.found: dict[int, float] = {}
        self._marks: list[float] = []

    @property
    def chosen(self) -> int | None:
        """The number of threads; None: not yet."""
        return self.threads.count if self.settled else None

    def before_step(self) -> None:
        """Time the step before, and go on with another number of threads if it is time to."""
        if self.settled:
            return
        if not self._marks:
            self.threads.take(1)
        self._marks.append(self.now())
        timed = self._marks[WARM:]
        if len(timed) <= TIMED and not (len(timed) > 3 and timed[-1] - timed[0] > ENOUGH):
            return
        count = self.threads.count
        fewer = max(self.found, default=None)  # the number before
        self.found[count] = median(b - a for a, b in pairwise(timed))
        if fewer and PAYS * self.found[count] > self.found[fewer]:
            self._settle(fewer)
        elif count == self.most:
            self._settle(count)
        else:
            self.threads.take(min(2 * count, self.most))
            self._marks = timed[-1:]

    def end(self) -> None:
        """Training is over: the last number that paid stays, and where none was timed the first."""
        if not self.settled:
            self._settle(max(self.found, default=self.most))

    def _settle(self, count: int) -> None:
        self.settled = True
        self.threads.take(count)
        self.folder.update(threads=count)
        if self.found:
            others = "; ".join(f"{n} take{'s' * (n == 1)} {_ms(s)}" for n, s in self.found.items() if n != count)
            self.reporter.say(f"threads=auto: {count}, {_ms(self.found[count])} a step" + f" ({others})" * bool(others))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
