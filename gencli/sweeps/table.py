"""What a sweep says while it runs: a table of the jobs that run on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gencli.core.errors import quoted, shown
from gencli.core.output import output
from gencli.sweeps.progress import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_EVERY = 60.0
"""Seconds between lines on progress where there is no terminal."""

REDRAW = 0.5
"""Seconds between two pictures of the table."""


@dataclass(frozen=True)
class Row:
    """A job that runs.

    Args:
        name: number and overrides.
        progress: how far it is.
        seconds: since it was started here.
        began_at: fraction that was done when it was started here.
    """

    name: str
    progress: Progress
    seconds: float
    began_at: float = 0.0

    @property
    def left(self) -> float | None:
        """Seconds to its end, by its pace here; None: nobody knows yet."""
        made = self.progress.fraction - self.began_at
        return None if made <= 0 else self.seconds * (1 - self.progress.fraction) / made


class Display:
    """Tells a sweep to people. A context manager.

    Args:
        console: where; None: the standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=output(), highlight=False, soft_wrap=True)
        self.live: Live | None = None
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stderr=False)
        self._drawn = self._spoken = time.monotonic()

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str, style: str | None = None) -> None:
        """A line that stays."""
        self.console.print(Text(shown(text), style=style or ""), soft_wrap=True)

    def update(self, summary: Callable[[], str], rows: Callable[[], list[Row]], now: bool = False) -> None:
        """Show how far the jobs are, if it is time to.

        Args:
            summary: of the whole sweep, in a line.
            rows: of the jobs that run.
            now: do not wait for that time.
        """
        at = time.monotonic()
        if self.live:
            if now or at - self._drawn >= REDRAW:
                self._drawn = at
                most = max(1, self.console.height - 4)
                self.live.update(draw(summary(), rows(), most), refresh=True)
        elif at - self._spoken >= PLAIN_EVERY:
            self._spoken = at
            self.say(summary())
            for row in rows():
                cells = [cell for cell in (_progress(row.progress), row.progress.best, _left(row)) if cell]
                self.say(f"  {row.name}: {', '.join(cells)}")


def draw(summary: str, rows: list[Row], most: int = 100) -> RenderableType:
    """The table of the jobs that run, and the line about all of them; it fits any width."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("job", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("progress", justify="right", no_wrap=True)
    table.add_column("", width=10)
    table.add_column("best so far", justify="right", no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column("time left", justify="right", no_wrap=True)
    for row in rows[:most]:
        table.add_row(
            Text(quoted(row.name, 200)),
            _progress(row.progress),
            ProgressBar(total=1.0, completed=row.progress.fraction, width=10),
            Text(quoted(row.progress.best)),
            _left(row),
        )
    beyond = [Text(f"and {len(rows) - most} more")] if len(rows) > most else []
    return Group(*([table] if rows else []), *beyond, Text(shown(summary), no_wrap=True, overflow="ellipsis"))


def _progress(progress: Progress) -> str:
    return f"{progress.step}/{progress.of}" if progress.of else f"{progress.step}, {100 * progress.fraction:.0f}%"


def _left(row: Row) -> str:
    """After training comes the test split, of which nobody knows how long it takes."""
    return "measuring" if row.progress.fraction >= 1 else left(row.left)


def left(seconds: float | None) -> str:
    """A time to wait, in the two largest units.

    Example:
        >>> left(75), left(7300), left(None)
        ('1m15s', '2h01m', '')
    """
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole // 60 % 60:02}m"
