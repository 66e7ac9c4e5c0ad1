"""The runs that are here: what they are, how far they came, and their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.core.bounds import SIGNS
from gencli.core.errors import UsageError, quoted, shown
from gencli.report.sheet import Sheet, print_sheet, terminal


@dataclass(frozen=True)
class Line:
    """One run.

    Args:
        run: its folder.
        model: the option that it chose.
        data: likewise.
        status: ``finished``, ``running``, ``lost`` ...; ``damaged`` where run.json cannot be read.
        step: training steps so far.
        started: when, as run.json tells it.
        value: the headline number, on the split of that name, in its unit.
    """

    run: str
    model: str
    data: str
    status: str
    step: int | None = None
    started: str | None = None
    value: float | None = None
    bound: str | None = None
    unit: str | None = None
    split: str | None = None
    seed: int | None = None


def line_of(run: Path) -> Line:
    """What is to be said of a run in one line; a damaged one says that it is."""
    try:
        info, choices = stored.info(run), stored.config(run).get("choices") or {}
    except UsageError:
        return Line(str(run), "", "", "damaged")
    result = info.get("result") or {}
    return Line(
        str(run),
        str(choices.get("model") or ""),
        str(choices.get("data") or ""),
        str(info.get("status")),
        (info.get("progress") or {}).get("step"),
        info.get("started"),
        value=result.get("value"),
        bound=result.get("bound"),
        unit=result.get("unit"),
        split=result.get("split"),
        seed=info.get("seed"),
    )


def sheet_of(lines: Sequence[Line]) -> Sheet:
    """A table for the terminal, the newest run last."""
    columns = [("run", "left"), ("model", "left"), ("data", "left"), ("held-out NLL", "right"), ("step", "right")]
    columns.append(("status", "left"))
    cells = [
        [
            line.run.removeprefix("outputs/"),
            quoted(line.model, 40) if line.model else "",
            quoted(line.data, 40) if line.data else "",
            _number(line),
            "" if line.step is None else str(line.step),
            line.status,
        ]
        for line in lines
    ]
    return Sheet("", columns, cells)


def print_listing(lines: Sequence[Line], older: int) -> None:
    """To the terminal, with how many older runs there are."""
    console = terminal()
    if older:
        console.print(shown(f"{older} older runs: gencli ls --all"), markup=False, style="dim")
    print_sheet(sheet_of(lines), console)


def plain(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """As JSON takes them."""
    return [asdict(line) for line in lines]


def _number(line: Line) -> str:
    if line.value is None:
        return ""
    mark = "" if line.split in (None, "test") else f" ({line.split})"
    unit = "" if line.unit in (None, "nats") else f" {line.unit}"
    return f"{SIGNS.get(line.bound or '', '')} {line.value:.3f}{unit}{mark}".strip()
