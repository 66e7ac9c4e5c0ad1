"""Tables of the user's files: csv, tsv and other text, plain or compressed, parquet, npz with an array a column.

A table keeps its cells as the file has them: text, or numbers of a typed file. ``numbers`` makes reals of a column or
refuses a cell by its line; ``texts`` gives one text for one value, whatever the file is.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gencli.core.errors import UsageError, near, quoted
from gencli.core.integers import ADVICE, rounded, rounded_text
from gencli.data.dialect import MISSING, Dialect, number, read_lines
from gencli.data.plain import read_plain
from gencli.data.split import SPLITS
from gencli.data.typed import objects, of_npz, of_parquet

UNSAID, TYPED = Dialect(), Dialect(header=True)

_PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
_UNNAMED = re.compile(r"(Unnamed: [\d.]+|__index_level_\d+__)?")
_PLAIN = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """Columns of a file by name.

    Args:
        where: the file, as messages name it.
        columns: (N,) each: texts (dtype object, stripped), or the numbers or truth values of a typed file.
        lines: (N,) the line at which each row begins, as an editor counts; None: the file has none.
        dialect: how a text file is written; of others only whether columns have names, which is so.
        notes: what was done with the file that the user should know, a sentence each.
        unnamed: numbers, from 1, of columns without a name, which are not among the others.
        first: cells of the first row by name, as the file writes them; None: as they are in the columns.
    """

    where: str
    columns: Mapping[str, np.ndarray]
    lines: np.ndarray | None = None
    dialect: Dialect = TYPED
    notes: tuple[str, ...] = ()
    unnamed: tuple[int, ...] = ()
    first: Mapping[str, str] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"

    def first_row(self) -> Mapping[str, str]:
        """Cells of the first row by name, as the file writes them."""
        return self.first or {name: str(cells[0]) for name, cells in self.columns.items()}

    def rows(self, index: np.ndarray) -> Table:
        """Some of the rows."""
        lines = None if self.lines is None else self.lines[index]
        columns = {name: cells[index] for name, cells in self.columns.items()}
        return replace(self, columns=columns, lines=lines, first=None)

    def need(self, names: Iterable[str]) -> None:
        """Refuse a table without one of these columns.

        Raises:
            UsageError: names the column and near ones.
        """
        for name in names:
            if name not in self.columns:
                close = quoted(near(name, self.columns), 200)
                raise UsageError(f"{self.where} has no column '{quoted(name)}'. {close}")

    def missing(self, name: str) -> np.ndarray:
        """(N,) which cells of a column have no value: empty, NA, NaN, null, None or ?."""
        cells = self.columns[name]
        if cells.dtype == object:
            return np.fromiter((cell.lower() in MISSING for cell in cells), bool, len(cells))
        return np.isnan(cells) if cells.dtype.kind == "f" else np.zeros(len(cells), bool)

    def is_numeric(self, name: str) -> bool:
        """Whether all cells of a column that have a value are numbers."""
        cells, missing = self.columns[name], self.missing(name)
        decimal = self.dialect.decimal or "."
        return cells.dtype != object or all(number(cell, decimal) is not None for cell in {*cells[~missing]})

    def numbers(self, name: str) -> np.ndarray:
        """(N,) the cells of a column in fp64; true and false are 1 and 0.

        Raises:
            UsageError: a cell is no finite number, or an integer that would be rounded; names its line and the way out.
        """
        cells = self.columns[name]
        if cells.dtype != object:
            values = cells.astype(np.float64, copy=False)
        elif self.dialect.decimal == "," or any("_" in cell for cell in cells):
            values = np.array([self._number(cell) for cell in cells])
        else:
            try:
                values = cells.astype(np.float64)
            except ValueError:
                values = np.array([self._number(cell) for cell in cells])
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong) == 0:
            self._require_held(name, values)
            return values
        if cells.dtype == object and {cell.lower() for cell in cells} <= {"true", "false"}:
            return np.array([float(cell.lower() == "true") for cell in cells])
        row = int(wrong[0])
        raise UsageError(f"{self.where}: column '{quoted(name)}', {self.place(row)} is {self._why(name, row)}")

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """(N, names) the cells of columns in fp64; columns that are one array in this order are not copied.

        Raises:
            UsageError: a cell is no finite number; names its line and the way out.
        """
        columns = [self.numbers(name) for name in names]
        whole = columns[0].base if columns else None
        if isinstance(whole, np.ndarray) and whole.ndim == 2 and whole.shape[1] == len(names):
            whole = whole[: len(self)]
            places = [whole[:, j].__array_interface__ for j in range(len(names))]
            if places == [column.__array_interface__ for column in columns]:
                return whole
        result = np.empty((len(self), len(names)))
        for j, column in enumerate(columns):
            result[:, j] = column
        return result

    def _require_held(self, name: str, values: np.ndarray) -> None:
        """Refuse integers that are others in values (N,), which are finite.

        Raises:
            UsageError: names the line of the first.
        """
        cells = self.columns[name]
        row = rounded_text(cells, values) if cells.dtype == object else rounded(cells)
        if row is not None:
            found = f"{quoted(cells[row])}, an integer that float64 would round to {int(values[row])}"
            raise UsageError(
                f"{self.where}: column '{quoted(name)}', {self.place(row)} is {found}: {ADVICE} (data.columns chooses "
                "columns)"
            )

    def _number(self, cell: str) -> float:
        value = number(cell, self.dialect.decimal or ".")
        return np.nan if value is None else value

    def _why(self, name: str, row: int) -> str:
        """A cell that is no number, and the way out."""
        cells = self.columns[name]
        cell = quoted(cells[row])
        if self.missing(name)[row]:
            return f"missing ({cell!r}): leave out the row, or the column by data.columns"
        if cells.dtype == object and "," in cell and number(cell, ",") is not None:
            return f"{cell!r}, not a number (data.decimal=comma reads decimal commas; thousands are not separated)"
        if cells.dtype == object and "," in cell and number(cell.replace(",", "")) is not None:
            return (
                f"{cell!r}, not a number (thousands are not separated; data.decimal= says what a fraction begins with)"
            )
        if cell in (*SPLITS, "valid"):
            return f"{cell!r}, not a number (data.split={quoted(name)} reads the splits)"
        word = cell[:1].isalpha() and "inf" not in cell.lower()
        kinds = f", or says what they are: {{{quoted(name)}: categorical, ...}}" if word else ""
        return f"{cell!r}, not a number (data.columns chooses columns{kinds})"

    def texts(self, name: str) -> list[str]:
        """The cells of a column as texts, the same for the same value in any kind of file.

        A column of plain numbers (without leading zeros) gives each in its shortest form: 1, 1.0 and 1e0 are "1".
        """
        cells = self.columns[name]
        if cells.dtype.kind == "b":
            return [str(bool(cell)) for cell in cells]
        if cells.dtype != object:
            return [shortest(float(cell)) if cells.dtype.kind == "f" else str(int(cell)) for cell in cells]
        decimal = self.dialect.decimal
        plain = {cell: cell.replace(",", ".") if decimal == "," and "." not in cell else cell for cell in {*cells}}
        if all(map(_PLAIN.fullmatch, plain.values())):
            short = {c: str(int(t)) if t.lstrip("+-").isdecimal() else shortest(float(t)) for c, t in plain.items()}
            return [short[cell] for cell in cells]
        return list(cells)


def shortest(value: float) -> str:
    """A number as its shortest text; integers without a point.

    Example:
        >>> shortest(10.0), shortest(0.5)
        ('10', '0.5')
    """
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def in_order(texts: Collection[str]) -> list[str]:
    """Distinct texts in order: by number where all are plain numbers, else by text.

    Example:
        >>> in_order(["10", "9"]), in_order(["b10", "b9"])
        (['9', '10'], ['b10', 'b9'])
    """
    numeric = all(map(_PLAIN.fullmatch, texts))
    return sorted({*texts}, key=lambda text: (float(text) if numeric else 0, text))


def read(
    path: Path,
    dialect: Dialect = UNSAID,
    kept: Dialect = UNSAID,
    names: Collection[str] = (),
    *,
    unnamed: bool = False,
    key: str = "data.path",
    texts: Collection[str] = (),
) -> Table:
    """Read a table.

    Args:
        path: the file; what it is, its first bytes say.
        dialect: what the user says of a text file.
        kept: how the training file was written, where this is another one.
        names: columns that it must have, where they are known.
        unnamed: whether a column without a name is kept (as ``Unnamed: 0``), as older runs had it.
        key: that names the file, for messages.
        texts: columns whose cells are wanted as texts (``Table.texts``).

    Raises:
        UsageError: it is no table, or can be read in two ways.
    """
    where = f"{key}={quoted(path, 200)}"
    try:
        content = path.read_bytes()
        for magic, unpack in _PACKED.items():
            if content.startswith(magic):
                content = unpack(content)
        if content.startswith(b"PAR1"):
            columns = of_parquet(content, where)
        elif content.startswith(b"PK") and (members := zipfile.ZipFile(io.BytesIO(content)).namelist()):
            if all(name.endswith(".npy") for name in members):
                columns = of_npz(content, where)
            else:
                return _text(_member(content, members, where), where, dialect, kept, names, unnamed, texts)
        else:
            return _text(content, where, dialect, kept, names, unnamed, texts)
    except UsageError:
        raise
    except Exception as error:  # of every decompressor, numpy and pyarrow over a damaged file
        raise UsageError(f"{where} is no table: {quoted(str(error) or type(error).__name__, 200)}") from error
    return _table(where, columns, unnamed=unnamed)


def _member(content: bytes, members: list[str], where: str) -> bytes:
    """The one file of a zip."""
    if "[Content_Types].xml" in members:
        raise UsageError(f"{where} is a workbook: save its sheet as .csv")
    files = [name for name in members if not name.endswith("/")]
    if len(files) != 1:
        raise UsageError(f"{where} holds {len(files)} files; one table is expected")
    return zipfile.ZipFile(io.BytesIO(content)).read(files[0])


def _text(
    content: bytes,
    where: str,
    dialect: Dialect,
    kept: Dialect,
    names: Collection[str],
    unnamed: bool,
    texts: Collection[str],
) -> Table:
    """A table of text in UTF-8."""
    plain = None if unnamed else read_plain(content, where, dialect, kept, names, texts)
    if plain is not None:
        top = plain.first
        columns = [*zip(top.names, plain.columns, strict=True)]
        lines = np.arange(top.lines[0], top.lines[0] + len(columns[0][1]))
        first = dict(zip(top.names, top.rows[0], strict=True))
        return _table(where, columns, lines, top.dialect, top.notes, unnamed=unnamed, first=first)
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"{where} is UTF-16: save it as UTF-8")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{where} is no UTF-8 (line {line}): save it as UTF-8") from error
    if "\0" in text:
        raise UsageError(f"{where} is no table: line {text.count(chr(10), 0, text.index(chr(0))) + 1} has a zero byte")
    found = read_lines(text, where, dialect, kept, names)
    cells = zip(*found.rows, strict=True) if found.rows else [() for _ in found.names]
    columns = [(name, objects(column)) for name, column in zip(found.names, cells, strict=True)]
    return _table(where, columns, np.array(found.lines), found.dialect, found.notes, unnamed=unnamed)


def _table(
    where: str,
    columns: list[tuple[str, np.ndarray]],
    lines: np.ndarray | None = None,
    dialect: Dialect = TYPED,
    notes: Iterable[str] = (),
    *,
    unnamed: bool,
    first: Mapping[str, str] | None = None,
) -> Table:
    """Columns by name, without those that only number the rows.

    Raises:
        UsageError: two columns have the same name.
    """
    kept: dict[str, np.ndarray] = {}
    said, others = list(notes), []
    for k, (name, cells) in enumerate(columns):
        if unnamed:
            name = name or f"Unnamed: {k}"
        elif _UNNAMED.fullmatch(name):
            if _counts(cells):
                said.append(f"column {k + 1} has no name and counts the rows: it is left out")
            elif cells.dtype == object and not any(cells):
                said.append(f"column {k + 1} has no name and no cells: it is left out")
            else:
                others.append(k + 1)
            continue
        if name in kept:
            raise UsageError(f"{where} has two columns '{quoted(name)}': give each a name of its own")
        kept[name] = cells
    shown = None if first is None else {name: first[name] for name in kept}
    return Table(where, kept, lines, dialect, tuple(said), tuple(others), shown)


def of_cells(where: str, columns: Mapping[str, np.ndarray]) -> Table:
    """A table of columns in memory: numbers and truth values as they are, all else as texts; None is a missing cell."""

    def typed(cells: np.ndarray) -> np.ndarray:
        if cells.dtype.kind in "biuf":
            return cells
        return objects("" if cell is None or cell != cell else str(cell).strip() for cell in cells.tolist())

    return Table(where, {name: typed(cells) for name, cells in columns.items()})


def _counts(cells: np.ndarray) -> bool:
    """Whether cells are n, n + 1, n + 2 ... from 0 or 1 on."""
    try:
        values = cells.astype(np.float64)
    except ValueError:
        return False
    return bool(len(values) and values[0] in (0, 1) and (np.diff(values) == 1).all())
