"""What a run says while it works: lines on the terminal, progress, train.log, loggers."""

from __future__ import annotations

import json
import math
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gencli.core.errors import GencliError, quoted, shown
from gencli.core.files import append, inside
from gencli.core.output import output
from gencli.loggers.base import Logger
from gencli.loggers.params import flat, public
from gencli.run.folder import RunFolder
from gencli.run.progress import Bar
from gencli.run.record import MetricRecord, NLLRecord, Record, by_place

if TYPE_CHECKING:
    from torch import Tensor


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
        """The final record for the loggers; in words too, since not all have a place for its bound and errors."""
        self.text("result", record.headline)
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
        if isinstance(record, MetricRecord):
            self.table(by_place(record.diagnostics))
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

    def table(self, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Numbers of several places, a column a place; nothing where there are none."""
        if not rows:
            return
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        width = max(map(len, names))
        self.say("  " + " " * width + "".join(f"{'@' + place:>9}" for place in rows), style="dim")
        for name in names:
            self.say(f"  {name:{width}}" + "".join(f"{row.get(name, math.nan):9.4g}" for row in rows.values()))

    def progress(self, what: str, total: int | None = None, start: float = 0.0) -> Bar:
        """Progress over ``total`` units, from a fraction of it on; None: it is not known how many."""
        return Bar(self.console, self.say, what, total, start)

    def close(self) -> None:
        """Close the loggers."""
        self._tell(lambda logger: logger.close())

    def log(self, text: str) -> None:
        """Keep a line in train.log only."""
        if self.folder is not None and self.folder.writes:
            append(inside(self.folder.path, "train.log"), f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shown(text)}\n")


def relative(path: Path) -> str:
    """A path as people type it from here, on one line."""
    try:
        return quoted(path.resolve().relative_to(Path.cwd()), 1000)
    except ValueError:
        return quoted(path, 1000)


def setting(key: str, path: Path) -> str:
    """``key=path`` as a word to type: what the shell or Hydra's grammar would read otherwise stands within quotes."""
    from gencli.config.compose import quote

    place = relative(path)
    if re.fullmatch(r"[\w./:@%+-]+", place, re.ASCII):
        return f"{key}={place}"
    value = quote(place) if set(place) & set('"$\\') else f'"{place}"'
    return shlex.quote(f"{key}={value}")
