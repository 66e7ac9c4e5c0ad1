"""The runs that are here: what they are, how far they came, and their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.core.bounds import SIGNS, at_least, nats
from gencli.core.errors import UsageError, quoted, shown
from gencli.core.uncertainty import combined
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
        se: its standard error, over examples and of what they share.
        se_at_least: whether that is a lower limit.
        flags: what a reader must know besides the bound, as that it is of some examples only.
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
    se: float | None = None
    se_at_least: bool = False
    flags: tuple[str, ...] = ()


def line_of(run: Path) -> Line:
    """What is to be said of a run in one line; a damaged one says that it is."""
    try:
        info, choices = stored.info(run), stored.config(run).get("choices") or {}
        record = stored.own_record(run)
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
        se=combined(record.get("se_examples"), record.get("se_shared")),
        se_at_least=at_least(record.get("se_lower_limits")),
        flags=tuple(map(str, record.get("flags") or ())),
    )


def sheet_of(lines: Sequence[Line]) -> Sheet:
    """A table for the terminal, the newest run last."""
    columns = [("run", "left"), ("model", "left"), ("data", "left"), ("held-out NLL", "right"), ("step", "right")]
    columns.append(("status", "left"))
    marks = marks_of(lines)
    cells = [
        [
            line.run.removeprefix("outputs/"),
            quoted(line.model, 40) if line.model else "",
            quoted(line.data, 40) if line.data else "",
            _number(line, marks),
            "" if line.step is None else str(line.step),
            line.status,
        ]
        for line in lines
    ]
    return Sheet("", columns, cells)


def marks_of(lines: Sequence[Line]) -> dict[tuple[str, ...], str]:
    """A mark for each set of flags that numbers have: ``*``, or ``*1``, ``*2`` ... of several."""
    found = list(dict.fromkeys(line.flags for line in lines if line.flags and line.value is not None))
    return {flags: f"*{k + 1 if len(found) > 1 else ''}" for k, flags in enumerate(found)}


def print_listing(lines: Sequence[Line], older: int) -> None:
    """To the terminal, with how many older runs there are."""
    console = terminal()
    if older:
        console.print(shown(f"{older} older runs: gencli ls --all"), markup=False, style="dim")
    print_sheet(sheet_of(lines), console)
    for flags, mark in marks_of(lines).items():
        console.print(shown(f"{mark} {quoted('; '.join(flags), 300)}"), markup=False, style="dim")


def plain(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """As JSON takes them."""
    return [asdict(line) for line in lines]


def _number(line: Line, marks: Mapping[tuple[str, ...], str]) -> str:
    if line.value is None:
        return ""
    split = "" if line.split in (None, "test") else f" ({line.split})"
    unit = "" if line.unit in (None, "nats") else f" {line.unit}"
    error = "" if line.se is None else f" ± {'>' * line.se_at_least}{nats(line.se)}"
    mark = f" {marks[line.flags]}" if line.flags else ""
    return f"{SIGNS.get(line.bound or '', '')} {nats(line.value)}{error}{unit}{split}{mark}".strip()
