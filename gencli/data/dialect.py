"""How a text file of a table is written: separator, decimal mark, whether its first line names the columns.

What is not said is found out from the file, and only where one reading is left; else the user is asked. Nothing is lost
in silence: every line has as many cells as the first.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gencli.core.errors import UsageError, quoted

SPACES = r"\s+"
SEPARATORS = (",", ";", "\t", "|", SPACES)
NONE = "\x1f"
"""The separator of a table of one column: no text has it."""

SAMPLE, SAMPLE_CHARACTERS = 200, 10**6
"""Rows by which a separator and a decimal mark are recognised; fewer where rows are long."""

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Cells without a value, in lower case."""

_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_SEVERAL = re.compile(r"[+-]?[\d.,]+(\s+[+-]?[\d.,]+)+")
_SPACED = re.compile(r'"((?:[^"]|"")*)"|(\S+)')


@dataclass(frozen=True)
class Dialect:
    """How a file is written; None: it is found out.

    Args:
        separator: between cells; SPACES for white space, NONE in a table of one column.
        decimal: ``.`` or ``,``.
        header: whether the first line names the columns.
    """

    separator: str | None = None
    decimal: str | None = None
    header: bool | None = None

    def __str__(self) -> str:
        words = {"\t": "tabs", SPACES: "white space", NONE: "nothing"}
        comma = " with decimal commas" if self.decimal == "," else ""
        return f"separated by {words.get(str(self.separator), repr(self.separator))}{comma}"


@dataclass(frozen=True)
class Lines:
    """Rows of cells, all of one length, without the line of names; the line where each begins."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    dialect: Dialect
    notes: list[str]


def number(cell: str, decimal: str = ".") -> float | None:
    """The number that a cell is, or None; infinities and NaN are numbers here.

    Example:
        >>> number("1e3"), number("0,5", ","), number("1.234,5", ","), number("1_000")
        (1000.0, 0.5, None, None)
    """
    if "_" in cell or (decimal == "," and "." in cell):
        return None
    try:
        return float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return None


def read_lines(text: str, where: str, given: Dialect, kept: Dialect, names: Collection[str]) -> Lines:
    """Read a text by what is said of it, and by what it shows.

    Args:
        text: of the file.
        where: the file, for messages.
        given: what the user says.
        kept: how the training file was written; it decides where a new file can be read in two ways.
        names: columns that the file must have, where they are known.

    Raises:
        UsageError: it is no table, or can be read in two ways.
    """
    start, comments = lines_above(text)
    separator = given.separator or _separator(text[start:], where, given.decimal, kept, names)
    first = text.count("\n", 0, start) + 1
    try:
        found = list(_parse(text[start:], separator))
    except ValueError as error:
        raise UsageError(f"{where}: {_moved(str(error), first)}") from error
    rows = [cells for _, cells in found if cells]
    lines = [line + first - 1 for line, cells in found if cells]
    if not rows:
        raise UsageError(f"{where} is no table: {'all its lines begin with #' if comments else 'it is empty'}")
    _even(rows, lines, where)
    if len(rows[0]) == 1:
        for line, cells in found:
            if not cells and lines[0] < line + first - 1 < lines[-1]:
                raise UsageError(f"{where}: line {line + first - 1} is empty: leave it out")
    some = rows[: rows_of_sample(text[start:])]
    decimal = given.decimal or _decimal(some, where, kept)
    heading = _heading(comments, some, Dialect(separator, decimal, given.header), f"{where}: line {first - 1}")
    header = _has_names(some, where, decimal, names) if given.header is None else given.header
    if heading:
        rows, lines = [heading, *rows], [first - 1, *lines]
    skipped = len(comments) - bool(heading)
    notes = [f"{skipped} lines that begin with # above the table are skipped"] if skipped else []
    dialect = Dialect(separator, decimal, header)
    if header:
        return Lines(rows[0], rows[1:], lines[1:], dialect, notes)
    return Lines([str(k) for k in range(len(rows[0]))], rows, lines, dialect, notes)


def lines_above(text: str) -> tuple[int, list[str]]:
    """Where the table begins: below lines that begin with #; and these lines."""
    start, comments = 0, []
    while text.startswith("#", start):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end + 1
        comments.append(text[start:end].rstrip("\r\n"))
        start = end
    return start, comments


def _heading(comments: Sequence[str], rows: list[list[str]], dialect: Dialect, where: str) -> list[str] | None:
    """Names of columns in the last line above the table that begins with #; None: there are none.

    Raises:
        UsageError: a line above the table may be one of its own.
    """
    width, separator = len(rows[0]), str(dialect.separator)
    if not comments or width == 1 or _surely_named(rows, str(dialect.decimal)):
        return None
    try:
        names = next((cells for _, cells in _parse(comments[-1].lstrip("# "), separator)), [])
        like_rows = [line for line in comments if len(next(_parse(line, separator))[1]) == width]
    except ValueError:
        return None
    if len(names) == width and dialect.header is None:
        raise UsageError(f"{where} is a comment or names the columns; data.header=true or false decides")
    if len(names) == width and dialect.header:
        return names
    if like_rows and number(rows[0][0], str(dialect.decimal)) is None:
        raise UsageError(f"{where} is a comment or a row: remove it, or the #")
    return None


def _surely_named(rows: list[list[str]], decimal: str) -> bool:
    """Whether the first row names the columns, and can be nothing else."""
    try:
        return len(rows) > 1 and _has_names(rows, "", decimal, ())
    except UsageError:
        return False


def _parse(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line, stripped cells) of each row, no cells for a blank line.

    Raises:
        ValueError: a quote is not closed, or ends within a cell; it begins with the line.
    """
    stream = io.StringIO(text, newline="")
    if separator == SPACES:
        for line, content in enumerate(stream, 1):
            if '"' in content:
                parts = (match.groups() for match in _SPACED.finditer(content))
                yield line, [word or (quote or "").replace('""', '"').strip() for quote, word in parts]
            else:
                yield line, content.split()
        return
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            yield line, cells if len(cells) > 1 or any(cells) else []
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line} is no row of a table ({error})") from error


def _moved(message: str, first: int) -> str:
    """The same message with its line counted from the top of the file."""
    return re.sub(r"^line (\d+)", lambda m: f"line {int(m[1]) + first - 1}", message)


def rows_of_sample(text: str) -> int:
    """How many rows are looked at, of a text that begins with its table."""
    return max(5, min(SAMPLE, SAMPLE_CHARACTERS // (len(text.partition("\n")[0]) + 1)))


def _sample(text: str, separator: str) -> tuple[list[list[str]], bool]:
    """The first rows, up to one that is none; whether there was such a row."""
    rows: list[list[str]] = []
    most = rows_of_sample(text)
    try:
        for _, cells in _parse(text, separator):
            if cells:
                rows.append(cells)
            if len(rows) == most:
                break
    except ValueError:
        return rows, True
    return rows, False


def _separator(text: str, where: str, decimal: str | None, kept: Dialect, names: Collection[str]) -> str:
    """The separator that cuts all lines into equally many cells; NONE where none cuts most of them.

    Raises:
        UsageError: several do, or lines such as 1,5 may be one number.
    """
    samples, broken = {}, set()
    candidates = [s for s in SEPARATORS if s != decimal]
    for separator in candidates:
        samples[separator], fails = _sample(text, separator)
        broken |= {separator} if fails else set()
    widths = {separator: Counter(map(len, rows)) for separator, rows in samples.items()}
    even = [s for s in candidates if len(widths[s]) == 1 and min(widths[s]) > 1 and s not in broken]
    if "\t" in even and SPACES in even:
        even.remove(SPACES)
    if len(even) > 1:
        clean = [s for s in even if _clean(samples[s], s)]
        named = [s for s in clean or even if names and {*names} <= {*samples[s][0]}]
        for chosen in (clean, named, [s for s in even if s == kept.separator]):
            if len(chosen) == 1:
                return chosen[0]
        both = " and ".join(repr(s) for s in clean or even)
        raise UsageError(f"{where}: {both} all cut its lines into equally many cells; data.separator= says which it is")
    if even == [","] and decimal is None and all(_COMMA.fullmatch(",".join(row)) for row in samples[","]):
        if kept.separator in (",", NONE):
            return kept.separator
        raise UsageError(
            f"{where}: is {','.join(samples[','][0])} two cells or a number? data.decimal=point or comma says"
        )
    if even:
        return even[0]
    most = {s: max((n for w, n in widths[s].items() if w > 1), default=0) for s in candidates}
    best = max(candidates, key=lambda s: (most[s], s != SPACES))  # a row of another length is refused later
    return best if 2 * most[best] > len(samples[best]) else NONE


def _clean(rows: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether no cell holds another separator, but for decimal commas, or several numbers."""
    others = [s for s in SEPARATORS[:-1] if s != separator]
    return not any(
        any(s in cell and not (s == "," and _COMMA.fullmatch(cell)) for s in others) or _SEVERAL.fullmatch(cell)
        for row in rows
        for cell in row
    )


def _even(rows: Sequence[Sequence[str]], lines: Sequence[int], where: str) -> None:
    """Refuse a row that has more or fewer cells than the first one."""
    width = len(rows[0])
    for cells, line in zip(rows, lines, strict=True):
        if len(cells) != width:
            every = all(len(cells) == width + 1 for cells in rows[1:])
            why = "; does every line end in a separator, or has the first column no name?" if every else ""
            raise UsageError(
                f"{where}: line {line} has {len(cells)} cells, line {lines[0]} has {width} (data.separator= says what "
                f"separates them){why}"
            )


def _decimal(rows: Sequence[Sequence[str]], where: str, kept: Dialect) -> str:
    """The decimal mark of the numbers in some rows.

    Raises:
        UsageError: 1,234 may be two numbers.
    """
    commas = [cell for row in rows for cell in row if "," in cell and _COMMA.fullmatch(cell)]
    if not commas or any("." in cell and _POINT.fullmatch(cell) for row in rows for cell in row):
        return "."
    if all(map(_THOUSANDS.fullmatch, commas)):
        if kept.decimal:
            return kept.decimal
        raise UsageError(f"{where}: is {commas[0]} a fraction or a thousand? data.decimal=comma or point says which")
    return ","


def _has_names(rows: Sequence[Sequence[str]], where: str, decimal: str, names: Collection[str]) -> bool:
    """Whether the first row names the columns: it has words where the others have numbers.

    Raises:
        UsageError: it may or may not.
    """
    first, body = rows[0], rows[1:]
    if names and {*names} <= {*first}:
        return True
    known: Counter[str] = Counter()
    for k, cell in enumerate(first):
        column = [row[k] for row in body if row[k].lower() not in MISSING]
        numbers = sum(number(value, decimal) is not None for value in column)
        if numbers and 2 * numbers >= len(column):
            is_number = number(cell, decimal) is not None and cell.lower() not in MISSING
            known["number" if is_number else "missing" if cell.lower() in MISSING - {""} else "word"] += 1
    if len(known) == 1 and known["word"]:
        return any(first)
    if not body:
        return any(number(cell, decimal) is None for cell in first)
    if len(known) == 1 and known["number"]:
        columns = [k for k, cell in enumerate(first) if number(cell, decimal) is not None]
        if len(columns) == 1 or not _may_be_names([[row[k] for k in columns] for row in rows], decimal):
            return False
    raise UsageError(
        f"{where}: its first line, {quoted(', '.join(first))}, names the columns or is a row; data.header=true or "
        "false says which"
    )


def _may_be_names(rows: Sequence[Sequence[str]], decimal: str) -> bool:
    """Whether a first row of numbers may be names: integers above fractions, or even steps above uneven ones."""

    def whole(cell: str) -> bool:
        return cell.lstrip("+-").isdecimal()

    def steps_evenly(row: Sequence[str]) -> bool:
        values = [number(cell, decimal) or 0.0 for cell in row]
        steps = [b - a for a, b in pairwise(values)]
        return min(steps) > 0 and max(steps) - min(steps) < 1e-6 * max(steps)

    first, body = rows[0], rows[1:]
    if all(map(whole, first)) and all(not all(whole(row[k]) for row in body) for k in range(len(first))):
        return True
    return len(first) > 3 and steps_evenly(first) and not steps_evenly(body[0])
