"""Large text files of plain numbers, read block by block into one array.

As texts, a cell takes 60 bytes and more, and a microsecond. So what a file means is found out from its first rows, as
always (``dialect``), and the rest is read as numbers at once. Whatever a block has that is not plain (a quote, a row of
another length, a cell that is no finite number) ends the attempt, and the file is read as texts: they alone word an
error, and nothing is taken for a number here that is none there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gencli.core.errors import UsageError
from gencli.core.integers import HELD
from gencli.data.dialect import NONE, SEPARATORS, SPACES, Dialect, Lines, lines_above, read_lines, rows_of_sample

LARGE = 1 << 22
"""Bytes from which a file is read so; reading less as texts takes no longer than the import of pandas."""

BLOCK = 1 << 23
"""Bytes that are read at a time."""

_LONG = re.compile(rb"(?<![\d.])\d{16,}(?![\d.eE])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Plain:
    """What a file holds.

    Args:
        first: its first rows, as texts, with the names of its columns.
        columns: (N,) each: numbers in fp64, all of them views of one array, or texts (dtype object, stripped).
    """

    first: Lines
    columns: list[np.ndarray]


class _NotPlain(Exception):
    """The file is read as texts."""


def read_plain(
    content: bytes,
    where: str,
    given: Dialect,
    kept: Dialect,
    names: Collection[str],
    texts: Collection[str],
) -> Plain | None:
    """Read a text file whose columns are numbers, but for a few; None: it is small, or not so plain.

    Args:
        content: of the file.
        where: as of ``dialect.read_lines``, with given, kept and names.
        given: what the user says.
        kept: how the training file was written.
        names: columns that the file must have.
        texts: columns that are wanted as texts, whatever they hold.
    """
    if len(content) < LARGE:
        return None
    try:
        first, start = _first_rows(content[:LARGE], where, given, kept, names)
        numeric = [
            name not in texts and all(_NUMBER.fullmatch(row[k]) for row in first.rows)
            for k, name in enumerate(first.names)
        ]
        separator = str(first.dialect.separator)
        usual = separator in (*SEPARATORS, NONE) and (separator != SPACES or all(numeric))
        if first.dialect.decimal != "." or not any(numeric) or not usual:
            return None
        return Plain(first, _columns(content, start, separator, numeric))
    except (_NotPlain, UsageError):  # which the texts repeat, with all lines
        return None


def _first_rows(head: bytes, where: str, given: Dialect, kept: Dialect, names: Collection[str]) -> tuple[Lines, int]:
    """The rows from which everything is found out, and the byte at which the first of them begins."""
    whole = head[: head.rfind(b"\n") + 1]
    _check(whole)
    try:
        text = whole.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NotPlain from error
    above, _ = lines_above(text)
    lines = text[above:].split("\n", rows_of_sample(text[above:]) + 2)
    if len(lines) < rows_of_sample(text[above:]) + 3:  # the last of them is what lies below
        raise _NotPlain
    some = text[:above] + "\n".join(lines[:-1]) + "\n"
    first = read_lines(some, where, given, kept, names)
    if len(first.rows) != first.lines[-1] - first.lines[0] + 1:  # a line is empty
        raise _NotPlain
    start = sum(len(line) + 1 for line in whole.split(b"\n", first.lines[0] - 1)[:-1])
    return first, start


def _columns(content: bytes, start: int, separator: str, numeric: list[bool]) -> list[np.ndarray]:
    """The columns below the byte ``start``.

    Raises:
        _NotPlain: a line has a cell too many or too few, or one that is no number.
    """
    places = np.flatnonzero(numeric)
    values = np.empty((content.count(b"\n", start) + 1, len(places)))
    words: dict[int, list[str]] = {k: [] for k in range(len(numeric)) if not numeric[k]}
    n = 0
    for block in _blocks(content, start):
        rows = _even(block, separator, len(numeric))
        frame = _frame(block, separator, numeric)
        found = frame[places].to_numpy()
        if len(frame) != rows or not np.isfinite(found).all():
            raise _NotPlain
        if (np.abs(found) >= HELD).any() and _LONG.search(block):  # an integer that may be rounded
            raise _NotPlain
        values[n : n + rows] = found
        n += rows
        for k, column in words.items():
            stripped = {cell: cell.strip() for cell in frame[k].unique()}
            column += map(stripped.__getitem__, frame[k])
    table = {int(k): values[:n, j] for j, k in enumerate(places)}
    return [table[k] if k in table else np.array(words[k], dtype=object) for k in range(len(numeric))]


def _blocks(content: bytes, start: int) -> Iterator[bytes]:
    """The lines from a byte on, some megabytes at a time, without empty ones at the end."""
    last = len(content)
    while content[last - 1 : last] in (b"\n", b"\r"):
        last -= 1
    while start < last:
        end = content.rfind(b"\n", start, start + BLOCK) + 1 if start + BLOCK < last else last
        if not end:
            raise _NotPlain  # a line of megabytes
        block = content[start:end]
        yield block if block.endswith(b"\n") else block + b"\n"
        start = end


def _check(block: bytes) -> None:
    """Refuse what has a meaning to readers of tables that it may not have here."""
    if b'"' in block or b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        raise _NotPlain


def _even(block: bytes, separator: str, width: int) -> int:
    """The number of lines, all of which are cut into so many cells.

    White space cuts off no empty cell, and a cell that is missing at the end of a line is no number; so there only the
    first line is counted, of which pandas takes any.
    """
    _check(block)
    if separator == SPACES:
        if len(block.partition(b"\n")[0].split()) != width:
            raise _NotPlain
        return block.count(b"\n")
    at, end = np.frombuffer(block, np.uint8), ord("\n")
    cuts = at[np.flatnonzero((at == ord(separator)) | (at == end))]
    if len(cuts) % width:
        raise _NotPlain
    ends = cuts.reshape(-1, width) == end
    if not ends[:, -1].all() or ends[:, :-1].any():
        raise _NotPlain
    return len(ends)


def _frame(block: bytes, separator: str, numeric: list[bool]) -> Any:
    """A pandas table of the lines, numbers correctly rounded as Python rounds them."""
    import pandas  # which takes as long to import as a small table to read

    rounds_well = (*map(int, pandas.__version__.split(".")[:2]),) >= (3, 1)  # and warns if it is told to
    try:
        return pandas.read_csv(
            io.BytesIO(block),
            sep=separator,
            header=None,
            names=range(len(numeric)),
            index_col=False,
            dtype={k: np.float64 if is_number else object for k, is_number in enumerate(numeric)},
            float_precision=None if rounds_well else "round_trip",
            na_filter=False,
            skipinitialspace=True,
            skip_blank_lines=False,
            quoting=3,  # csv.QUOTE_NONE
            engine="c",
            low_memory=False,
        )
    except (ValueError, OverflowError) as error:  # a cell is no number, no UTF-8, or a line has more cells
        raise _NotPlain from error
