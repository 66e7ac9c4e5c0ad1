"""What a run says while it works: a rich progress bar on a terminal, plain lines elsewhere, train.log, loggers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gencli.core.errors import GencliError, quoted, shown
from gencli.core.files import append
from gencli.core.output import output
from gencli.loggers.base import Logger
from gencli.loggers.params import flat, public
from gencli.run.folder import RunFolder
from gencli.run.record import NLLRecord, Record

if TYPE_CHECKING:
    from torch import Tensor

PLAIN_EVERY = 15.0
"""Seconds between plain progress lines where there is no terminal."""


class Reporter:
    """Speaks for a run: say a line, show progress, log metrics.

    Args:
        folder: where train.log and metrics.jsonl lie; None: nothing is kept (sample, eval).
        loggers: who else hears metrics, images and texts.
        quiet: say nothing (ranks other than 0).
    """

    def __init__(self, folder: RunFolder | None = None, loggers: Sequence[Logger] = (), *, quiet: bool = False) -> None:
        self.console = Console(file=output(), quiet=quiet, highlight=False, soft_wrap=True)
        self.folder = folder
        self.loggers = list(loggers)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line, and keep it in train.log."""
        text = shown(text)
        self.console.print(text, style=style, markup=False)
        self.log(text)

    def warn(self, text: str) -> None:
        """A line that should be read."""
        self.say(f"warning: {text}", style="yellow")

    def metrics(self, step: int, split: str, seconds: float, weights: str, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, and the same scalars for the loggers."""
        if self.folder is not None:
            self.folder.metric(
                {"step": step, "split": split, "seconds": round(seconds, 3), "weights": weights, **values}
            )
        self._tell(lambda logger: logger.scalars(step, {f"{split}/{name}": value for name, value in values.items()}))

    def image(self, step: int, name: str, image: Tensor) -> None:
        """A picture (3, H, W) in [0, 1] for the loggers."""
        self._tell(lambda logger: logger.image(step, name, image))

    def text(self, name: str, text: str) -> None:
        """A text for the loggers."""
        self._tell(lambda logger: logger.text(name, text))

    def config(self, config: Mapping[str, Any]) -> None:
        """The config for the loggers, without credentials."""
        told = public(config)
        self.text("config", json.dumps(told, indent=2, default=str))
        self._tell(lambda logger: logger.parameters(flat(told)))

    def record(self, step: int, record: Record) -> None:
        """The final record for the loggers."""
        self._tell(lambda logger: logger.result(step, record.plain()))

    def _tell(self, what: Callable[[Logger], None]) -> None:
        """Tell the loggers; one that cannot be reached hears no more, and the run goes on."""
        for logger in [*self.loggers]:
            try:
                what(logger)
            except GencliError:
                raise
            except Exception as error:
                self.loggers.remove(logger)
                self.warn(f"{type(logger).__name__} failed and is told no more: {quoted(error, 300)}")

    def result(self, record: Record) -> None:
        """The headline; of an NLL also its ledger, the parameters of a family, and what should make one doubt."""
        self.say(record.headline, style="bold")
        if not isinstance(record, NLLRecord):
            return
        if len(record.ledger) > 1:
            self.say("  " + "  ".join(f"{line['term']} {line['nats']:+.3f}" for line in record.ledger))
        for line in record.parameters:
            self.say(f"  {line}")
        kind, _, levels = str(record.protocol["support"]).partition(":")
        bits = record.bits_per_dim
        if bits is not None and kind in ("levels", "categorical") and bits > math.log2(int(levels)):
            uniform = f"{math.log2(int(levels)):.3f} bits/dim"
            self.warn(f"worse than the uniform distribution on {levels} levels ({uniform})")
        difference = record.diagnostics.get("nll_minus_entropy")
        if record.bound in ("exact", "upper") and difference is not None and record.se and difference < -3 * record.se:
            self.warn("the NLL lies below the data's entropy by more than 3 standard errors: something is wrong")

    def progress(self, what: str, total: int | None, minutes: float | None = None) -> Bar:
        """A bar over ``total`` units (or a span of minutes)."""
        return Bar(self, what, total, minutes)

    def close(self) -> None:
        """Close the loggers."""
        self._tell(lambda logger: logger.close())

    def log(self, text: str) -> None:
        """Keep a line in train.log only."""
        if self.folder is not None and self.folder.writes:
            append(self.folder.path / "train.log", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shown(text)}\n")


class Bar:
    """Progress of one piece of work; a context manager."""

    def __init__(self, reporter: Reporter, what: str, total: int | None, minutes: float | None) -> None:
        self.reporter, self.what, self.total, self.minutes = reporter, what, total, minutes
        self.rich: Progress | None = None
        if reporter.console.is_terminal and not reporter.console.quiet:
            self.rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=reporter.console,
            )
            self.task = self.rich.add_task(what, total=total, note="")
        self.spoken = time.monotonic()

    def __enter__(self) -> Bar:
        if self.rich:
            self.rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.rich:
            self.rich.stop()

    def at(self, done: int, note: str = "", seconds: float | None = None) -> None:
        """Show that ``done`` units are done; seconds: time spent, for work bounded by minutes."""
        if self.rich:
            total = self.total
            if self.minutes and seconds:  # whichever bound comes first is the one to show
                by_clock = max(done, math.ceil(done * self.minutes * 60 / seconds))
                total = by_clock if total is None else min(total, by_clock)
            self.rich.update(self.task, completed=done, total=total, note=note)
        elif time.monotonic() - self.spoken > PLAIN_EVERY:
            self.spoken = time.monotonic()
            of = f"/{self.total}" if self.total else ""
            self.reporter.say(f"{self.what} {done}{of} {note}".rstrip())


def relative(path: Path) -> str:
    """A path as people type it from here, on one line."""
    try:
        return quoted(path.resolve().relative_to(Path.cwd()), 1000)
    except ValueError:
        return quoted(path, 1000)
