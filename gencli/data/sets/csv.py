"""Your own tables: numeric columns of a ``.csv``, ``.tsv``, ``.parquet`` or ``.npz`` file, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, near, quoted
from gencli.core.files import user_cache
from gencli.core.options import BelowOne, NonNegative, Seed
from gencli.core.spec import Spec, Support
from gencli.data.base import Split
from gencli.data.columns import Column, columns_asked
from gencli.data.dialect import SPACES, Dialect
from gencli.data.lazy import UserFiles, distinct, listed, narrow
from gencli.data.leaks import refuse_leaks
from gencli.data.mapped import mapped
from gencli.data.meaning import Meaning
from gencli.data.room import PART, room
from gencli.data.split import SPLITS, shares, storage_dtype, to_support
from gencli.data.statistics import ROWS, needs_float64, overflows
from gencli.data.table_files import read
from gencli.data.tables import Table, in_order, of_cells


class CSV(UserFiles):
    r"""Rows of a table as vectors.

    What a file means is found out from the training file: its columns, which a new file must have by name in any order,
    and the names of its classes. Text files may be compressed (.gz, .zip, .bz2, .xz).

    Args:
        path: the file: csv, tsv or other text in UTF-8, .parquet, or .npz with an array (N,) a column.
        columns: columns of x, by name (or by number from 0 without a header); None: all that serve nothing else.
        label: column of classes, of any values, which are numbered in order: numbers by value, else by text.
        context: columns of a context vector.
        split: column that says ``train``, ``val`` or ``test``; None: a fixed seeded split by the row's number.
        header: whether the first line names the columns; None: it does if it has words above numbers.
        separator: between cells: one character, ``\t``, or ``\s+`` for white space; None: it is found out.
        decimal: the mark of fractions; None: it is found out.
        support: of x, of all columns alike: ``real``, ``unit``, ``binary``, ``levels:K`` or ``categorical:K``.
        val: share of the validation split where there is no split column.
        test: share of the test split, likewise.
        seed: of the split.
        memory: GB of numbers that are kept in memory; more of them are written to a file of the user's cache, gone when
            gencli ends, from which rows are read each time. Text cells, classes and contexts stay in memory.

    Raises:
        ValueError: an option is out of range.
    """

    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        path: str | None = None,
        columns: list[str | int] | dict[str, str] | None = None,
        label: str | int | None = None,
        context: list[str | int] | None = None,
        split: str | int | None = None,
        header: bool | None = None,
        separator: str | None = None,
        decimal: Literal["point", "comma"] | None = None,
        support: str = "real",
        val: BelowOne = 0.1,
        test: BelowOne = 0.1,
        seed: Seed = 0,
        memory: NonNegative = 4.0,
    ) -> None:
        super().__init__(path, "a table (.csv, .tsv, .parquet, .npz)")
        self.name = self.path.name.split(".")[0]
        separator = "\t" if separator == r"\t" else separator
        if separator not in (None, SPACES, "\t") and (len(separator) != 1 or not separator.isprintable()):
            raise ValueError(f"data.separator={quoted(separator)}: one character, \\t, or \\s+ for white space")
        if label is not None and context:
            raise ValueError("data.label and data.context: a model has one or the other as its y")
        for column in {*map(str, columns or ())} & {str(c) for c in (label, split, *(context or ())) if c is not None}:
            raise ValueError(f"data.columns: column '{column}' is named by data.label, data.context or data.split, too")
        try:
            self._support = Support.parse(support)
        except ValueError as error:
            raise ValueError(f"data.support: {error}") from error
        self._shares, self._seed, self._memory = (val, test), seed, memory
        shares(0, self._shares, seed)  # which refuses shares that leave nothing
        self._dialect = Dialect(separator, {"point": ".", "comma": ",", None: None}[decimal], header)
        self._chosen = distinct(columns or [], "data.columns")
        self._asked = columns_asked(columns) if isinstance(columns, Mapping) else None
        if self._asked is not None and self._support.kind != "real":
            raise ValueError(f"data.support={support}: data.columns gives each column its support")
        self._label, self._split = (None if c is None else str(c) for c in (label, split))
        self._context = distinct(context or [], "data.context")

    # --- what the file means -----------------------------------------------------------------------------------------

    def older(self) -> None:
        super().older()
        self._dialect = Dialect(self._dialect.separator, ".", self._dialect.header)

    def specify(self, schema: Mapping[str, Any]) -> Spec:
        found = Meaning.parse(schema, labelled=self._label is not None)
        classes = None if found.classes is None else len(found.classes)
        support = Support.of_columns([c.support for c in found.kinds]) if found.kinds else self._support
        return Spec((len(found.columns),), support, classes, (len(self._context),) if self._context else ())

    def to_rows(self, x: Tensor) -> dict[str, list[Any]]:
        found, support = self._meaning, self._support
        plain = Column("levels", low=0, high=support.size - 1) if support.discrete else Column("real")
        kinds = found.kinds or [plain] * len(found.columns)
        columns = zip(found.columns, kinds, x.cpu().numpy().T, strict=True)
        return {name: kind.cells(values) for name, kind, values in columns}

    def class_names(self) -> list[str] | None:
        return self._meaning.classes

    def context_names(self) -> list[str] | None:
        return [self._label] if self._label is not None else self._context or None

    def understood(self) -> list[str]:
        if "_table" not in vars(self):
            return []
        table, meaning = self._table, self._meaning
        lines = [f"{self.name}: {note}" for note in table.notes]
        if self.old:
            lines.append(
                f"{self.name}: this run keeps no data.json: columns are taken in the order of this file, classes in "
                "that of its texts; whether they are those of training cannot be checked"
            )
        if self.kept:
            unread = [c for c in table.columns if c not in (*meaning.columns, *self._special)]
            if unread:
                lines.append(f"{self.name}: columns that the run has not are not read: {listed(unread)}")
            return lines + self._kept_in_a_file()
        named = f"{table.dialect}, " if table.lines is not None else ""
        kinds = meaning.kinds or []
        described = [f"{c} ({k.support})" for c, k in zip(meaning.columns, kinds, strict=False)] or meaning.columns
        header = "named columns" if table.dialect.header else "columns without names"
        line = f"{self.name}: {len(table):,} rows of {len(table.columns)} {header}, {named}x = {listed(described)}"
        if classes := meaning.classes:
            line += f"; {len(classes)} classes of {self._label}: {listed(classes)}"
        line += f"; context = {listed(self._context)}" if self._context else ""
        first = listed([f"{name}={cell}" for name, cell in table.first_row().items()])
        lines += [quoted(line, 400), quoted(f"{self.name}: the first row is {first}", 400)]
        x = self._x
        near = np.flatnonzero((np.diff(x[:ROWS], axis=0) == 1).all(0)) if len(x) > 2 else ()
        counts = [meaning.columns[k] for k in near if (np.diff(x[:, k]) == 1).all()]
        if counts:
            lines.append(f"{self.name}: {listed(counts)} counts the rows; data.columns leaves it out")
        return lines + self._kept_in_a_file()

    def _kept_in_a_file(self) -> list[str]:
        """Where the numbers lie, if they are not in memory."""
        x = vars(self).get("_x")
        if not isinstance(x, np.memmap):
            return []
        return [
            f"{self.name}: {x.nbytes / 1e9:.3g} GB of numbers, more than data.memory={self._memory:g}, are read from a "
            f"file in {quoted(user_cache(), 200)}, which is gone when gencli ends"
        ]

    @property
    def _special(self) -> list[str]:
        """Columns that are not part of x."""
        return [c for c in (self._label, self._split, *self._context) if c is not None]

    @property
    def _texts(self) -> set[str]:
        """Columns that are read as texts."""
        named = [c for c in (self._label, self._split) if c is not None]
        kinds = dict(zip(self._meaning.columns, self._meaning.kinds or (), strict=False)) if self.kept else self._asked
        return {*named, *(c for c, kind in (kinds or {}).items() if kind.kind in ("categorical", "binary"))}

    @cached_property
    def _meaning(self) -> Meaning:
        return Meaning.parse(self.meaning, labelled=self._label is not None)

    def understand(self) -> dict[str, Any]:
        table = self._table
        table.need(self._special)
        table.need(self._chosen)
        if table.unnamed and not self._chosen:
            raise UsageError(f"{table.where}: column {table.unnamed[0]} has no name: data.columns leaves it out")
        columns = self._chosen or [c for c in table.columns if c not in self._special]
        if not columns or len(table) == 0:
            raise UsageError(f"{table.where} has no {'rows' if columns else 'columns'} to learn")
        classes = None if self._label is None else self._class_order(table, self._label)
        kinds = [self._asked[c].found(table, c) for c in columns] if self._asked else None
        dialect = table.dialect
        return asdict(
            Meaning(
                columns, classes, bool(dialect.header), len(table.columns), dialect.separator, dialect.decimal, kinds
            )
        )

    def _class_order(self, table: Table, label: str) -> list[str]:
        """The classes of a column in order.

        Raises:
            UsageError: a cell has none.
        """
        if self.old:
            return sorted({*map(str, table.columns[label])})
        return in_order({*self._labels(table, label)})

    def _labels(self, table: Table, label: str) -> list[str]:
        """The class of each row, as a text."""
        texts = list(map(str, table.columns[label])) if self.old else table.texts(label)
        for row in np.flatnonzero(table.missing(label)).tolist():
            if texts[row] == "" or table.is_numeric(label):
                raise UsageError(
                    f"{table.where}: column '{label}', {table.place(row)} has no class: leave out the row, or name one"
                )
        return texts

    # --- what it holds -----------------------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> Table:
        """The file.

        Raises:
            UsageError: it is none, or not one that the run can read.
        """
        self.opened()
        dialect = self._dialect
        if not self.kept:
            names = [c for c in (*self._chosen, *self._special) if not c.isdecimal()]
            return read(self.path, dialect, names=names, unnamed=self.old, texts=self._texts, memory=self._memory)
        kept = self._meaning
        names = [*kept.columns, *self._special]
        dialect = Dialect(dialect.separator, dialect.decimal, kept.header)
        known = names if kept.header else ()
        written = Dialect(kept.separator, kept.decimal)
        table = read(self.path, dialect, written, known, texts=self._texts, memory=self._memory)
        if not kept.header and len(table.columns) != kept.width:
            raise UsageError(f"{table.where} has {len(table.columns)} columns; the run's file has {kept.width}")
        return table

    @cached_property
    def _x(self) -> np.ndarray:
        """(N, D) x of all rows in fp64, in the order of the file."""
        self._table.need(c for c in (*self._meaning.columns, self._label, *self._context) if c is not None)
        return self._examples(self._table, self._memory)

    @cached_property
    def _y(self) -> Tensor | None:
        """(N,) classes or (N, C) contexts of all rows."""
        if self._label is not None:
            return self._codes(self._table, self._label)
        return torch.from_numpy(self._table.matrix(self._context)) if self._context else None

    def _examples(self, table: Table, memory: float = math.inf) -> np.ndarray:
        """x of every row of a table."""
        meaning, support = self._meaning, self.spec.support
        table.need(meaning.columns)
        if meaning.kinds:
            x = room((len(table), len(meaning.columns)), memory)
            for j, (kind, column) in enumerate(zip(meaning.kinds, meaning.columns, strict=True)):
                x[:, j] = kind.codes(table, column)
            return x
        x = table.matrix(meaning.columns, memory)
        part = PART if isinstance(x, np.memmap) else max(1, len(x))
        for start in range(0, len(x), part):
            to_support(x[start : start + part], support, table.where)
        return x

    def from_rows(self, cells: Mapping[str, np.ndarray]) -> Tensor:
        return torch.from_numpy(self._examples(of_cells("x", cells))).to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        """Of x, unless float32 does for reals."""
        support = self.spec.support
        return storage_dtype(support) if support.discrete else torch.float64

    def _codes(self, table: Table, label: str) -> Tensor:
        """The class numbers of a column.

        Raises:
            UsageError: a class is none of the run's.
        """
        classes = self._meaning.classes or []
        number = {name: k for k, name in enumerate(classes)}
        texts = self._labels(table, label)
        for row, text in enumerate(texts):
            if text not in number:
                raise UsageError(
                    f"{table.where}: column '{label}', {table.place(row)} is {quoted(text)!r}, no class of this run. "
                    f"{quoted(near(text, classes), 200)}"
                )
        return torch.tensor([number[text] for text in texts])

    def whole(self) -> Split | None:
        try:
            return self._at(np.arange(len(self._x)))
        except ValueError as error:
            raise UsageError(f"{self._table.where}: {error}") from error

    def load(self, name: str) -> Split | None:
        rows = self._positions[name]
        if len(rows) == 0 and name != "train":
            return None
        if len(rows) == 0:
            raise UsageError(f"{self._table.where} has {len(self._table)} rows, and none for training")
        if name == "train" and self._context and not self.kept and self._y is not None:
            some = rows[:: -(-len(rows) // ROWS)]
            x, y = torch.from_numpy(self._x[some]), self._y[torch.from_numpy(some)]
            refuse_leaks(
                x,
                y,
                not self._support.discrete and not self._asked,
                "data.context",
                lambda d: f"column '{quoted(self._meaning.columns[d])}'",
                lambda c: f"column '{quoted(self._context[c])}'",
            )
        return self._at(rows, training=name == "train")

    def _at(self, rows: np.ndarray, training: bool = False) -> Split:
        """Rows (n,) as the examples of a split, in the precision that the training rows need."""
        x, dtype, y = self._x, self._dtype, self._y
        if self._precise is None and not training and torch.float64 in (dtype, y is not None and y.dtype):
            self.split("train")
        keep, y = self._precise, None if y is None else y[torch.from_numpy(rows)]
        fine_y = y is not None and (needs_float64(y) if keep is None else keep[1])
        if y is not None and not fine_y:
            y = narrow(y)
        split, fine = mapped(
            x, rows, lambda part, _: torch.from_numpy(part).to(dtype), keep and keep[0], y, look=self._wide
        )
        self._precise = keep or (fine, fine_y)
        return split if isinstance(x, np.memmap) else split.in_memory()

    @cached_property
    def _wide(self) -> bool:
        """Whether some row has a value beyond float32."""
        return overflows(torch.from_numpy(self._x))

    @cached_property
    def _positions(self) -> dict[str, np.ndarray]:
        """The rows of each split."""
        table = self._table
        if self._split is None:
            return shares(len(table), self._shares, self._seed)
        table.need([self._split])
        named = table.texts(self._split)
        for row, text in enumerate(named):
            if text not in SPLITS:
                raise UsageError(
                    f"{table.where}: column '{self._split}', {table.place(row)} is {quoted(text)!r}: data.split needs "
                    f"train, val or test. {near(text, SPLITS)}"
                )
        return {name: np.flatnonzero([text == name for text in named]) for name in SPLITS}
