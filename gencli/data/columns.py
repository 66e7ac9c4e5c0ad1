"""Columns of a table with a support each: cells of a file <-> coordinates of x.

``real``: the number. ``levels``: ordered integers low..high, as their distance from low. ``categorical`` and
``binary``: values of any names, as their places in order. A ``?`` at the end says that cells may be missing, NaN in x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gencli.core.errors import UsageError, near, quoted
from gencli.core.spec import Support
from gencli.data.tables import Table, in_order

LEVELS = 4096
"""The most values of a column of levels, all of which are summed over when one is drawn."""

KINDS = ("real", "levels", "categorical", "binary")


@dataclass(frozen=True)
class Column:
    """What the values of one column are.

    Args:
        kind: one of ``KINDS``.
        optional: whether cells may be missing.
        low: of levels, the integer whose code is 0.
        high: of levels, the last.
        names: of categories and bits, in the order of their codes.
    """

    kind: str
    optional: bool = False
    low: int | None = None
    high: int | None = None
    names: list[str] | None = None

    @property
    def support(self) -> Support:
        """That of the coordinate."""
        levels = len(self.names) if self.names else None
        if self.low is not None and self.high is not None:
            levels = self.high - self.low + 1
        return Support(self.kind, levels, optional=self.optional)

    @classmethod
    def asked(cls, name: str, text: str) -> Column:
        """What the user says of a column: ``real``, ``levels:K``, ``categorical?`` ...

        Raises:
            ValueError: it is no such support.
        """
        kind, _, levels = text.removesuffix("?").partition(":")
        optional = text.endswith("?")
        if kind not in KINDS or (levels and not (kind in ("levels", "categorical") and levels.isdecimal())):
            raise ValueError(
                f"data.columns.{name}={quoted(text)}: real, levels, levels:K, categorical, categorical:K or binary is "
                "needed, with ? at its end where cells may be missing"
            )
        if not levels:
            return cls(kind, optional)
        if not 2 <= int(levels) <= LEVELS:
            raise ValueError(f"data.columns.{name}={quoted(text)}: 2 to {LEVELS} values")
        if kind == "levels":
            return cls(kind, optional, 0, int(levels) - 1)
        return cls(kind, optional, names=[str(k) for k in range(int(levels))])

    @classmethod
    def kept(cls, found: Any) -> Column:
        """What a run keeps of a column.

        Raises:
            UsageError: it is damaged.
        """
        column = cls(**found) if isinstance(found, dict) and found.keys() == asdict(cls("real")).keys() else None
        if column is None or not column._whole():
            raise UsageError(f"data.json is damaged: kinds has {quoted(found)}")
        return column

    def _whole(self) -> bool:
        """Whether these are fields of a column whose values are known."""
        low, high, names = self.low, self.high, self.names
        if not isinstance(self.optional, bool):
            return False
        if self.kind == "levels":
            return type(low) is int and type(high) is int and 1 <= high - low < LEVELS and names is None
        if low is not None or high is not None:
            return False
        if self.kind == "real":
            return names is None
        if self.kind not in ("categorical", "binary") or not isinstance(names, list) or not names:
            return False
        distinct = all(isinstance(name, str) for name in names) and len({*names}) == len(names)
        return distinct and (self.kind == "categorical" or len(names) == 2)

    def found(self, table: Table, name: str) -> Column:
        """The same with what the training file says of it: the range of levels, the names of categories.

        Raises:
            UsageError: the column does not have such values.
        """
        if self.kind == "real" or self.names or self.low is not None:
            return self
        there = np.flatnonzero(~self._missing(table, name))
        if self.kind == "levels":
            values = self._numbers(table, name)[there]
            if not len(values):
                raise UsageError(f"{table.where}: column '{name}' has no values")
            low, high = int(values.min()), int(values.max())
            if high - low >= LEVELS:
                raise UsageError(
                    f"{table.where}: column '{name}' has integers from {low} to {high}: levels are {LEVELS} at most; "
                    f"data.columns.{name}=real has a density"
                )
            return Column(self.kind, self.optional, low, max(high, low + 1))
        names = in_order({*table.rows(there, [name]).texts(name)})
        if self.kind == "binary" and len(names) != 2:
            raise UsageError(
                f"{table.where}: column '{name}' has {len(names)} values: data.columns.{name}=binary needs two"
            )
        if len(names) < 2 - self.optional:
            raise UsageError(f"{table.where}: column '{name}' has {len(names)} values: there is nothing to learn of it")
        return Column(self.kind, self.optional, names=names)

    def codes(self, table: Table, name: str) -> np.ndarray:
        """The coordinate (N,) of each row, in fp64.

        Raises:
            UsageError: a cell is missing, or none of the column's values.
        """
        if self.names is None:
            values = self._numbers(table, name)
            if self.kind == "real":
                return values
            low, high = self.low or 0, self.high or 0
            for row in np.flatnonzero((values < low) | (values > high)).tolist():
                raise UsageError(
                    f"{table.where}: column '{name}', {table.place(row)} is {values[row]:g}, outside of the levels of "
                    f"data.columns.{name}, {low} to {high}"
                )
            return values - low
        there = np.flatnonzero(~self._missing(table, name))
        code = {text: k for k, text in enumerate(self.names)}
        values = np.full(len(table), np.nan)
        for row, text in zip(there.tolist(), table.rows(there, [name]).texts(name), strict=True):
            if text not in code:
                raise UsageError(
                    f"{table.where}: column '{name}', {table.place(row)} is {quoted(text)!r}, none of its values. "
                    f"{quoted(near(text, self.names), 200)}"
                )
            values[row] = code[text]
        return values

    def cells(self, x: np.ndarray) -> list[Any]:
        """The values of coordinates x (N,), of which NaN is None: names, integers, truth values or reals."""
        if self.kind == "real":
            return [None if value != value else float(str(value)) for value in x]  # the shortest text of its dtype
        values: list[Any] = _typed(self.names) if self.names else []
        low = self.low or 0
        return [None if v != v else values[int(v)] if values else low + int(v) for v in x]

    def _missing(self, table: Table, name: str) -> np.ndarray:
        """(N,) which cells are missing.

        Raises:
            UsageError: one is, and none may be.
        """
        missing = table.missing(name)
        if missing.any() and not self.optional:
            row = int(np.flatnonzero(missing)[0])
            raise UsageError(
                f"{table.where}: column '{name}', {table.place(row)} is missing: leave out the row, or say "
                f"data.columns.{name}={self.kind}? and a missing cell is a value of its own"
            )
        return missing

    def _numbers(self, table: Table, name: str) -> np.ndarray:
        """(N,) numbers, NaN where they are missing; integers of levels.

        Raises:
            UsageError: a cell is none.
        """
        there = np.flatnonzero(~self._missing(table, name))
        values = np.full(len(table), np.nan)
        values[there] = table.rows(there, [name]).numbers(name)
        for row in there[values[there] != np.floor(values[there])].tolist() if self.kind == "levels" else ():
            raise UsageError(
                f"{table.where}: column '{name}', {table.place(row)} is {values[row]:g}, no integer: "
                f"data.columns.{name}=real"
            )
        return values


def _typed(names: list[str]) -> list[Any]:
    """Names of values as what they are: truth values, integers, or texts."""
    if {name.lower() for name in names} == {"true", "false"}:
        return [name.lower() == "true" for name in names]
    if all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names):
        return [int(name) for name in names]
    return list(names)


def columns_asked(columns: Mapping[str, str]) -> dict[str, Column]:
    """The user's mapping of columns to supports.

    Raises:
        ValueError: a text is no support.
    """
    return {name: Column.asked(name, text) for name, text in columns.items()}
