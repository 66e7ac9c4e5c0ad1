"""How far a piece of work is: one line that fits the terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gencli.core.progress import shown

PLAIN_EVERY = 15.0
"""Seconds between plain progress lines where there is no terminal."""

LONGEST_BAR, SHORTEST_BAR = 30, 6


def duration(seconds: float) -> str:
    """Seconds as people read them on a clock.

    Example:
        >>> duration(7), duration(75), duration(3 * 3600 + 62)
        ('0:07', '1:15', '3:01:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def fitting(parts: Sequence[str], width: int) -> str:
    """The parts that fit into a width, two blanks between them; those at the end are dropped first.

    Example:
        >>> fitting(["200/3,000", "0:07", "left 1:38", "loss 1.25"], 30)
        '200/3,000  0:07  left 1:38'
    """
    line = ""
    for part in filter(None, parts):
        longer = f"{line}  {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


class Bar:
    """Progress of one piece of work; a context manager.

    Args:
        console: where it is shown.
        say: says a line, where the console is no terminal.
        what: is done, in a word or two.
        total: how many units; None: it is not known.
        start: the fraction of it that was done before.
    """

    def __init__(
        self, console: Console, say: Callable[[str], None], what: str, total: int | None, start: float = 0.0
    ) -> None:
        self.console, self.say, self.what = console, say, what
        self.done, self.total, self.start, self.fraction = 0, total, start, start
        self.notes: Mapping[str, str] = {}
        self._began = self._spoken = time.monotonic()
        self.rich: Progress | None = None
        if console.is_terminal and not console.quiet:
            self.rich = Progress(_Line(self), console=console, refresh_per_second=4, transient=total is None)
            self.rich.add_task(what, total=None)

    def __enter__(self) -> Bar:
        self._before = shown.set(self.note)
        if self.rich:
            self.rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shown.reset(self._before)
        if self.rich:
            self.rich.stop()

    def at(self, done: int, fraction: float | None = None, **notes: str) -> None:
        """Show how far it is.

        Args:
            done: units that are done.
            fraction: of the work, in [0, 1], where units do not tell it; None: done / total.
            notes: what else to say, the first of them being the last to be dropped.
        """
        self.done, self.notes = done, notes
        self.fraction = fraction if fraction is not None else done / self.total if self.total else 0.0
        self._speak()

    def note(self, text: str) -> None:
        """Show what happens meanwhile, in the place of the notes."""
        self.notes = {"now": text}
        self._speak()

    def parts(self) -> list[str]:
        """What there is to say, in the order of its weight."""
        of = f"/{self.total:,}" if self.total else f"/~{self._expected:,}" if self._expected else ""
        left = self._left()
        return [
            f"{self.done:,}{of}" if self.done or of else "",
            duration(time.monotonic() - self._began),
            "" if left is None else f"left {duration(left)}",
            *self.notes.values(),
        ]

    @property
    def _expected(self) -> int | None:
        """The number of units that the fraction lets one expect, to two digits."""
        if self.total or not self.fraction or not self.done:
            return None
        units = self.done / self.fraction
        return int(round(units, 1 - math.floor(math.log10(units))))

    def _left(self) -> float | None:
        """Seconds that the rest takes, at the pace up to now."""
        if not self.start < self.fraction < 1:
            return None
        return (time.monotonic() - self._began) * (1 - self.fraction) / (self.fraction - self.start)

    def _speak(self) -> None:
        if self.rich is None and time.monotonic() - self._spoken > PLAIN_EVERY:
            self._spoken = time.monotonic()
            self.say(f"{self.what}  {fitting(self.parts(), 1000)}")


class _Line(ProgressColumn):
    """What is done, a bar where there is room for it, and as many of the parts as fit."""

    max_refresh = None

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self.bar = bar

    def render(self, task: Task) -> RenderableType:
        """One line of the terminal's width at most."""
        width = self.bar.console.width - 1
        said = fitting([self.bar.what, *self.bar.parts()], width)
        what, _, rest = said.partition("  ")
        room = min(LONGEST_BAR, width - len(said) - 2)
        row: list[RenderableType] = [Text(what)]
        if room >= SHORTEST_BAR:
            known = self.bar.fraction or self.bar.total
            row.append(ProgressBar(1.0 if known else None, self.bar.fraction, width=room, pulse=not known))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(*row, Text(rest, no_wrap=True))
        return grid
