"""Tables of the user's files: csv, tsv and other text, plain or compressed, parquet, npz with an array a column.

A table keeps its cells as the file has them: text, or numbers of a typed file. ``numbers`` makes reals of a column or
refuses a cell by its line; ``texts`` gives one text for one value, whatever the file is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gencli.core.errors import UsageError, near, quoted
from gencli.core.integers import ADVICE, rounded, rounded_text
from gencli.data.dialect import MISSING, Dialect, number
from gencli.data.room import PART, room
from gencli.data.split import SPLITS
from gencli.data.typed import objects

TYPED = Dialect(header=True)

_PLAIN = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """Columns of a file by name.

    Args:
        where: the file, as messages name it.
        columns: (N,) each: texts (dtype object, stripped), or the numbers or truth values of a typed file.
        lines: (N,) the line at which each row begins, as an editor counts, or that of the first, if each further row is
            a line below; None: the file has none.
        dialect: how a text file is written; of others only whether columns have names, which is so.
        notes: what was done with the file that the user should know, a sentence each.
        unnamed: numbers, from 1, of columns without a name, which are not among the others.
        first: cells of the first row by name, as the file writes them; None: as they are in the columns.
        values: (N, K) in fp64, columns of finite numbers, none of them rounded; None: there is no such array.
        places: of these columns among the K.
    """

    where: str
    columns: Mapping[str, np.ndarray]
    lines: np.ndarray | int | None = None
    dialect: Dialect = TYPED
    notes: tuple[str, ...] = ()
    unnamed: tuple[int, ...] = ()
    first: Mapping[str, str] | None = None
    values: np.ndarray | None = None
    places: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        if self.lines is None:
            return f"row {row + 1}"
        return f"line {self.lines + row if isinstance(self.lines, int) else self.lines[row]}"

    def first_row(self) -> Mapping[str, str]:
        """Cells of the first row by name, as the file writes them."""
        return self.first or {name: str(cells[0]) for name, cells in self.columns.items()}

    def rows(self, index: np.ndarray, names: Collection[str]) -> Table:
        """Some of the rows, of some columns."""
        lines = self.lines
        if lines is not None:
            lines = lines + index if isinstance(lines, int) else lines[index]
        columns = {name: self.columns[name][index] for name in names}
        return replace(self, columns=columns, lines=lines, first=None, values=None, places={})

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
        if name in self.places:
            return cells
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

    def matrix(self, names: Sequence[str], memory: float = math.inf) -> np.ndarray:
        """(N, names) the cells of columns in fp64; all columns of ``values`` in their order are not copied.

        Args:
            names: of the columns.
            memory: GB of them that are kept in memory (``room``).

        Raises:
            UsageError: a cell is no finite number; names its line and the way out. Or there is no room.
        """
        at = [self.places[name] for name in names if name in self.places]
        whole = self.values if len(at) == len(names) else None
        if whole is not None and at == [*range(whole.shape[1])]:
            return whole
        result = room((len(self), len(names)), memory)
        if whole is not None:
            for start in range(0, len(self), PART):  # by rows, as they lie
                result[start : start + PART] = whole[start : start + PART, at]
            return result
        for j, name in enumerate(names):
            result[:, j] = self.numbers(name)
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


def of_cells(where: str, columns: Mapping[str, np.ndarray]) -> Table:
    """A table of columns in memory: numbers and truth values as they are, all else as texts; None is a missing cell."""

    def typed(cells: np.ndarray) -> np.ndarray:
        if cells.dtype.kind in "biuf":
            return cells
        return objects("" if cell is None or cell != cell else str(cell).strip() for cell in cells.tolist())

    return Table(where, {name: typed(cells) for name, cells in columns.items()})
