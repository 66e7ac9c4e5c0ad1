"""Your own tables: numeric columns of a ``.csv`` file, with labels, a context and a split if it has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from gencli.core.errors import UsageError, near, quoted
from gencli.core.options import BelowOne, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import user_path
from gencli.data.sets.array import to_support
from gencli.data.split import SPLITS, TensorSplit, shares

if TYPE_CHECKING:
    import pandas as pd


class CSV(Lazy):
    r"""Rows of a table as vectors.

    Args:
        path: the file; compressed ones (.gz, .zip, ...) are read where they lie.
        columns: columns of x, by name (or by number from 0 without a header); None: all that serve nothing else.
        label: column of classes, of any values, which are numbered in sorted order.
        context: columns of a context vector.
        split: column that says ``train``, ``val`` or ``test``; None: a fixed seeded split.
        header: whether the first line names the columns.
        separator: between cells: one character, or ``\s+`` for white space.
        support: of x: ``real``, ``unit``, ``binary``, ``levels:K`` or ``categorical:K``.
        val: share of the validation split where there is no split column.
        test: share of the test split, likewise.
        seed: of the split.

    Raises:
        UsageError: the file is missing or no table, a column is missing, or a cell is not a number of the support.
        ValueError: an option is out of range.
    """

    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        path: str | None = None,
        columns: list[str | int] | None = None,
        label: str | int | None = None,
        context: list[str | int] | None = None,
        split: str | int | None = None,
        header: bool = True,
        separator: str = ",",
        support: str = "real",
        val: BelowOne = 0.1,
        test: BelowOne = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if separator != r"\s+" and (len(separator) != 1 or (not separator.isprintable() and separator != "\t")):
            raise ValueError(f"data.separator={quoted(separator)}: one character, or \\s+ for white space")
        if label is not None and context:
            raise ValueError("data.label and data.context: a model has one or the other as its y")
        try:
            kind = Support.parse(support)
        except ValueError as error:
            raise ValueError(f"data.support: {error}") from error
        self.path = user_path(path, "a .csv file")
        self.name, self.header = self.path.name.split(".")[0], header
        table = self._table(separator)

        special = [c for c in (label, split, *(context or [])) if c is not None]
        self._known(table, special)
        self.columns = [str(c) for c in columns] if columns else [c for c in table if c not in map(str, special)]
        self._known(table, self.columns)
        if not self.columns or len(table) == 0:
            raise UsageError(f"data.path={path} has no {'rows' if self.columns else 'columns'} to learn")
        self.x = to_support(self._numbers(table, self.columns), kind, f"data.path={path}")

        self.y: torch.Tensor | None = None
        classes: int | None = None
        if label is not None:
            self._filled(table, str(label))
            values, codes = np.unique(table[str(label)].to_numpy(dtype=str), return_inverse=True)
            self.y, classes = torch.from_numpy(codes.astype(np.int64)), len(values)
        elif context:
            self.y = torch.from_numpy(self._numbers(table, [str(c) for c in context]))
        self.spec = Spec((len(self.columns),), kind, classes, len(context or []))

        if split is None:
            self.rows = shares(len(table), (val, test), seed)
        else:
            named = table[str(split)].to_numpy(dtype=str)
            strange = sorted(set(named) - set(SPLITS))
            if strange or "train" not in named:
                raise UsageError(f"data.split={split}: the column says train, val or test; found {', '.join(strange)}")
            self.rows = {name: np.flatnonzero(named == name) for name in SPLITS}

    def load(self, name: str) -> TensorSplit | None:
        rows = torch.from_numpy(self.rows[name])
        if len(rows) == 0:
            return None
        return TensorSplit(self.x[rows], None if self.y is None else self.y[rows])

    def _table(self, separator: str) -> pd.DataFrame:
        """All cells as text, so that what is no number can be shown as it was written."""
        import pandas as pd

        try:
            table = pd.read_csv(
                self.path, header=0 if self.header else None, sep=separator, dtype=str, keep_default_na=False
            )
        except Exception as error:  # pandas' own errors, and those of every decompressor
            raise UsageError(f"data.path={self.path} is no table: {quoted(error, 200)}") from error
        table.columns = [str(c).strip() for c in table.columns]
        return table

    def _known(self, table: pd.DataFrame, columns: list) -> None:
        for column in map(str, columns):
            if column not in table:
                raise UsageError(f"data.path={self.path} has no column '{column}'. {near(column, table.columns)}")

    def _line(self, row: int) -> int:
        return row + (2 if self.header else 1)

    def _filled(self, table: pd.DataFrame, column: str) -> None:
        empty = np.flatnonzero(table[column].to_numpy(dtype=str) == "")
        if len(empty):
            raise UsageError(f"data.path={self.path}: column '{column}', line {self._line(empty[0])} is empty")

    def _numbers(self, table: pd.DataFrame, columns: list[str]) -> np.ndarray:
        """(N, columns) in fp64."""
        import pandas as pd

        result = np.empty((len(table), len(columns)))
        for j, column in enumerate(columns):
            result[:, j] = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
            wrong = np.flatnonzero(~np.isfinite(result[:, j]))
            if len(wrong):
                cell = table[column].iloc[int(wrong[0])]
                raise UsageError(
                    f"data.path={self.path}: column '{column}', line {self._line(int(wrong[0]))} is {cell!r}, not a "
                    "number (data.columns chooses columns)"
                )
        return result
