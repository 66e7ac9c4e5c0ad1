"""A table of text: what it holds, and how it is laid out in a terminal.

Numbers are never cut. Names are folded, notes wrapped, and columns that can be missed give way in a narrow terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencli.core.errors import shown
from gencli.core.output import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100
"""Columns of a table in a pipe or a file."""

NAMES = {"run": 20, "configuration": 23}
"""Columns of names, with the least cells that they are given: longer ones are folded."""
NOTES = {"estimator": 9, "sampler": 16, "and": 16, "notes": 16}
"""Columns of texts, likewise: they are wrapped."""
DISPENSABLE = ("params", "time", "seed", "step", "model", "data", "bits/dim", "estimator")
"""Columns that a narrow terminal goes without, the first first."""


@dataclass(frozen=True)
class Sheet:
    """A table before it is drawn: text, cell by cell.

    Args:
        caption: what is measured.
        columns: (title, ``left`` or ``right``) each.
        lines: cells of each row.
        first: cells of the best row that may stand in bold, because it is better beyond doubt; none of them otherwise.
    """

    caption: str
    columns: Sequence[tuple[str, str]]
    lines: Sequence[Sequence[str]]
    first: tuple[int, ...] = ()


def terminal() -> Console:
    """Where tables go: as wide as the terminal is."""
    from rich.console import Console

    return Console(file=output(), highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Draw a table as wide as the terminal, wider only where its numbers need it; what has no room is told."""
    sheet, left_out = narrowed(sheet, console.width)
    table = drawn(sheet, console.width)
    width = console.width
    if sheet.caption:
        console.print(shown(sheet.caption), markup=False, style="italic", soft_wrap=True)
    console.width = max(width, sum((column.width or 0) + 1 for column in table.columns))
    console.print(table, crop=False)
    console.width = width
    if left_out:
        console.print(
            f"not in {width} columns: {', '.join(left_out)} (--json has all)", markup=False, style="dim", soft_wrap=True
        )


def narrowed(sheet: Sheet, width: int) -> tuple[Sheet, list[str]]:
    """A table without empty columns, and without those that there is no room for, with the titles of these."""
    kept, left_out = [k for k in range(len(sheet.columns)) if any(line[k] for line in sheet.lines)], []
    for name in DISPENSABLE:
        if sum(_least(sheet, k) + 1 for k in kept) <= width:
            break
        found = [k for k in kept if sheet.columns[k][0] == name]
        kept = [k for k in kept if k not in found]
        left_out += [name] * len(found)
    columns, lines = [sheet.columns[k] for k in kept], [[line[k] for k in kept] for line in sheet.lines]
    return Sheet(sheet.caption, columns, lines, tuple(kept.index(k) for k in sheet.first if k in kept)), left_out


def drawn(sheet: Sheet, width: int) -> Table:
    """For the terminal; all that a run says is text in it, no markup, and no number is cut."""
    from rich.table import Table
    from rich.text import Text

    widths = [_least(sheet, k) for k in range(len(sheet.columns))]
    spare = width - sum(widths) - len(widths)
    for titles in (NAMES, NOTES):  # names first
        for k in (k for k, (title, _) in enumerate(sheet.columns) if title in titles):
            more = max(0, min(_natural(sheet, k) - widths[k], spare))
            widths[k], spare = widths[k] + more, spare - more
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for (title, justify), cells in zip(sheet.columns, widths, strict=True):
        table.add_column(
            Text(shown(title)),
            justify=justify,  # type: ignore[arg-type]
            overflow="fold",
            no_wrap=title not in NAMES and title not in NOTES,
            width=cells,  # given, so that rich measures no cell of thousands
        )
    names = [k for k, (title, _) in enumerate(sheet.columns) if title in NAMES]
    for line in sheet.lines:
        texts = [folded(shown(cell), widths[k]) if k in names else shown(cell) for k, cell in enumerate(line)]
        table.add_row(*map(Text, texts))
    return table


def _natural(sheet: Sheet, column: int) -> int:
    """Cells of the terminal that a column takes, wide characters counted as two."""
    from rich.cells import cell_len

    texts = [sheet.columns[column][0], *(line[column] for line in sheet.lines)]
    return max(cell_len(shown(part)) for text in texts for part in text.split("\n"))


def _least(sheet: Sheet, column: int) -> int:
    """Cells that a column must have: a number all of them, a name or a note a few."""
    title = sheet.columns[column][0]
    if title not in NAMES and title not in NOTES:
        return _natural(sheet, column)
    return min(_natural(sheet, column), NAMES.get(title, NOTES.get(title, 0)))


def folded(name: str, width: int) -> str:
    r"""A name in lines of so many cells: its words kept whole, a long one broken once, a longer one without its middle.

    Example:
        >>> folded("2026-01-31/realnvp-lr1e-3-seed0", 20)
        '2026-01-31/\nrealnvp-lr1e-3-seed0'
    """
    from rich.cells import cell_len

    lines: list[str] = []
    for word in name.split(" "):
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(_broken(line, width) for line in lines)


def _broken(word: str, width: int) -> str:
    """A word of a name in at most two lines."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(word) <= width:
        return word
    for separators in ("/", "=", "._-"):
        ends = [k + 1 for k, c in enumerate(word) if c in separators and word[k - 1 : k] != "e"]  # 1e-3 is a number
        fitting = [k for k in ends if cell_len(word[:k]) <= width and cell_len(word[k:]) <= width]
        if fitting:
            return f"{word[: fitting[-1]]}\n{word[fitting[-1] :]}"
    if cell_len(word) < 2 * width:
        head = set_cell_size(word, width).rstrip()  # a wide character that is cut in two is a space
        return f"{head}\n{word[len(head) :]}"
    tail = word
    while cell_len(tail) > width:
        tail = tail[1:]
    return f"{set_cell_size(word, width - 3)}...\n{tail}"
