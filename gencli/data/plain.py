"""Large text files of plain numbers, read block by block into one array.

As texts, a cell takes 60 bytes and more, and a microsecond. So what a file means is found out from its first rows, as
always (``dialect``), and the rest is read as numbers at once. Whatever a block has that is not plain (a quote, a row of
another length, a cell that is no finite number) ends the attempt, and the file is read as texts: they alone word an
error, and nothing is taken for a number here that is none there.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import numpy as np

from gencli.core.errors import UsageError
from gencli.core.integers import HELD
from gencli.data.dialect import NONE, SEPARATORS, SPACES, Dialect, Lines, lines_above, read_lines, rows_of_sample
from gencli.data.room import room
from gencli.data.typed import Columns

LARGE = 1 << 22
"""Bytes from which a file is read so; reading less as texts takes no longer than the import of pandas."""

BLOCK = 1 << 23
"""Bytes that are read at a time."""

_LONG = re.compile(rb"(?<![\d.])\d{16,}(?![\d.eE])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class _NotPlain(Exception):
    """The file is read as texts."""


def read_plain(
    file: BinaryIO,
    where: str,
    given: Dialect,
    kept: Dialect,
    names: Collection[str],
    texts: Collection[str],
    memory: float,
) -> tuple[Lines, Columns] | None:
    """The first rows and all columns of a text file of numbers, but for a few; None: it is small, or not so plain.

    Args:
        file: open at its beginning.
        where: as of ``dialect.read_lines``, with given, kept and names.
        given: what the user says.
        kept: how the training file was written.
        names: columns that the file must have.
        texts: columns that are wanted as texts, whatever they hold.
        memory: GB of numbers that are kept in memory (``room``).

    Raises:
        UsageError: there is no room for the numbers.
    """
    head = file.read(LARGE)
    if len(head) < LARGE:
        return None
    try:
        first, start = _first_rows(head, where, given, kept, names)
    except (_NotPlain, UsageError):  # which the texts repeat, with all lines
        return None
    numeric = [
        name not in texts and all(_NUMBER.fullmatch(row[k]) for row in first.rows) for k, name in enumerate(first.names)
    ]
    separator = str(first.dialect.separator)
    usual = separator in (*SEPARATORS, NONE) and (separator != SPACES or all(numeric))
    if first.dialect.decimal != "." or not any(numeric) or not usual:
        return None
    file.seek(start)
    lines = 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
    values = room((lines, sum(numeric)), memory)
    file.seek(start)
    try:
        n, words = _fill(values, file, separator, numeric)
    except _NotPlain:
        return None
    values = values[:n]
    places = {int(k): j for j, k in enumerate(np.flatnonzero(numeric))}
    cells = [values[:, places[k]] if k in places else words[k] for k in range(len(numeric))]
    return first, Columns(first.names, cells, values, places, first.rows[0])


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


def _fill(values: np.ndarray, file: BinaryIO, separator: str, numeric: list[bool]) -> tuple[int, dict[int, np.ndarray]]:
    """Read all rows that are left: into values (more, K); how many they were, and the columns of words.

    Raises:
        _NotPlain: a line has a cell too many or too few, or one that is no number.
    """
    places = [k for k, is_number in enumerate(numeric) if is_number]
    words: dict[int, list[str]] = {k: [] for k in range(len(numeric)) if not numeric[k]}
    n = 0
    for block in _blocks(file):
        rows = _even(block, separator, numeric)
        frame = _frame(block, separator, numeric)
        if len(frame) != rows:
            raise _NotPlain
        found = values[n : n + rows]
        for j, k in enumerate(places):
            found[:, j] = frame[k].to_numpy()
        low, high = float(found.min()), float(found.max())  # NaN where there is one
        if not (math.isfinite(low) and math.isfinite(high)):
            raise _NotPlain
        if max(-low, high) >= HELD and _LONG.search(block):  # an integer that may be rounded
            raise _NotPlain
        n += rows
        for k, column in words.items():
            stripped = {cell: cell.strip() for cell in frame[k].unique()}
            column += map(stripped.__getitem__, frame[k])
    return n, {k: np.array(column, dtype=object) for k, column in words.items()}


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """The lines that are left, some megabytes at a time, without empty ones at the end."""
    rest = b""
    while more := file.read(BLOCK):
        block = rest + more
        end = block.rfind(b"\n", 0, len(block.rstrip(b"\r\n"))) + 1  # below it one line, and maybe empty ones
        if not end and len(block) > BLOCK:
            raise _NotPlain  # a line of megabytes
        if end:
            yield block[:end]
        rest = block[end:]
    if last := rest.rstrip(b"\r\n"):
        yield last + b"\n"


def _check(block: bytes) -> None:
    """Refuse what has a meaning to readers of tables that it may not have here."""
    if b'"' in block or b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        raise _NotPlain


def _even(block: bytes, separator: str, numeric: list[bool]) -> int:
    """The number of lines, all of which are cut into so many cells.

    White space cuts off no empty cell, and a cell that is missing at the end of a line is no number; so there only the
    first line is counted, of which pandas takes any. Where the last cells are to be numbers, no line has too few, and
    none too many if all together have as many as they should.
    """
    _check(block)
    at, width = np.frombuffer(block, np.uint8), len(numeric)
    ends = at == ord("\n")
    rows = int(np.count_nonzero(ends))  # faster than bytes.count of what is frequent
    if separator == SPACES:
        if len(block.partition(b"\n")[0].split()) != width:
            raise _NotPlain
        return rows
    cuts = at == ord(separator)
    if np.count_nonzero(cuts) != rows * (width - 1):
        raise _NotPlain
    if not numeric[-1]:
        last = ends[np.flatnonzero(cuts | ends)].reshape(-1, width)
        if not last[:, -1].all() or last[:, :-1].any():
            raise _NotPlain
    return rows


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
