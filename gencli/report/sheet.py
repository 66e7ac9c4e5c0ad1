"""A table of text: what it holds, and how it is laid out in a terminal.

Numbers are never cut. Names are folded, notes wrapped, and columns that can be missed give way in a narrow terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from gencli.core.errors import shown
from gencli.core.output import output

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
"""Columns of a table in a pipe or a file."""

NAMES = {"run": 20, "configuration": 24}
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
    """Print a table as wide as the terminal, wider only where its numbers need it; what has no room is told."""
    if sheet.caption:
        console.print(shown(sheet.caption), markup=False, style="italic", soft_wrap=True)
    fitting, left_out = narrowed(sheet, console.width)
    title, *lines = laid_out(fitting, console.width)
    console.print(title, markup=False, style="bold", soft_wrap=True)
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    if left_out:
        line = f"not in {console.width} columns: {', '.join(left_out)} (--json has all)"
        console.print(line, markup=False, style="dim", soft_wrap=True)


def narrowed(sheet: Sheet, width: int) -> tuple[Sheet, list[str]]:
    """A table without empty columns, and without those that there is no room for, with the titles of these."""
    kept, left_out = [k for k in range(len(sheet.columns)) if any(line[k] for line in sheet.lines)], []
    for name in DISPENSABLE:
        if sum(_least(sheet, k) + 1 for k in kept) - 1 <= width:
            break
        found = [k for k in kept if sheet.columns[k][0] == name]
        kept = [k for k in kept if k not in found]
        left_out += [name] * len(found)
    columns, lines = [sheet.columns[k] for k in kept], [[line[k] for k in kept] for line in sheet.lines]
    return Sheet(sheet.caption, columns, lines, tuple(kept.index(k) for k in sheet.first if k in kept)), left_out


def laid_out(sheet: Sheet, width: int) -> list[str]:
    """Lines of the terminal, the first of them the titles; of thousands of rows too, which rich takes seconds for."""
    widths = [_least(sheet, k) for k in range(len(sheet.columns))]
    spare = width - sum(widths) - len(widths) + 1
    for titles in (NAMES, NOTES):  # names first
        for k in (k for k, (title, _) in enumerate(sheet.columns) if title in titles):
            more = max(0, min(_natural(sheet, k) - widths[k], spare))
            widths[k], spare = widths[k] + more, spare - more
    texts = [k for k, (title, _) in enumerate(sheet.columns) if title in NAMES or title in NOTES]
    found = []
    for line in [[title for title, _ in sheet.columns], *sheet.lines]:
        cells = [shown(cell).split("\n") for cell in line]
        for k in texts:
            cells[k] = [part for cell in cells[k] for part in folded(cell, widths[k])]
        for row in zip_longest(*cells, fillvalue=""):
            padded = map(_padded, row, widths, (justify == "right" for _, justify in sheet.columns))
            found.append(" ".join(padded).rstrip())
    return found


def _padded(text: str, width: int, right: bool) -> str:
    from rich.cells import cell_len

    space = " " * (width - cell_len(text))
    return space + text if right else text + space


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


def folded(name: str, width: int) -> list[str]:
    """A name in lines of so many cells: its words kept whole, a long one broken at its signs.

    What has no sign to be broken at goes without its middle.

    Example:
        >>> folded("2026-01-31/realnvp-lr1e-3-seed0", 20)
        ['2026-01-31/', 'realnvp-lr1e-3-seed0']
        >>> folded("transformer-tinyshakespeare/2026-01-31", 20)
        ['transformer-', 'tinyshakespeare/', '2026-01-31']
    """
    from rich.cells import cell_len

    lines: list[str] = []
    for word in name.split(" "):
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [part for line in lines for part in _broken(line, width)]


def _broken(word: str, width: int) -> list[str]:
    """A word of a name, in two lines if that can be; folders stay whole in more than two."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(word) <= width:
        return [word]
    for separators in ("/", "=", "._-"):
        ends = [k + 1 for k, c in enumerate(word) if c in separators and word[k - 1 : k] != "e"]  # 1e-3 is a number
        fitting = [k for k in ends if cell_len(word[:k]) <= width and cell_len(word[k:]) <= width]
        if fitting:
            return [word[: fitting[-1]], word[fitting[-1] :]]
    folder, sign, rest = word.rpartition("/")
    if folder and rest and cell_len(rest) <= width:
        return [*_broken(folder + sign, width), rest]
    if cell_len(word) < 2 * width:
        head = set_cell_size(word, width).rstrip()  # a wide character that is cut in two is a space
        return [head, word[len(head) :]]
    tail = word
    while cell_len(tail) > width:
        tail = tail[1:]
    return [f"{set_cell_size(word, width - 3)}...", tail]
