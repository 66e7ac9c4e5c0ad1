"""Your own series: states in the order of time, each after the ones before it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.integers import require_held
from gencli.core.options import BelowOne, Count, Natural
from gencli.core.spec import Spec, Support
from gencli.data.base import Split
from gencli.data.lazy import UserFiles, counted, distinct, listed
from gencli.data.leaks import determined
from gencli.data.split import SPLITS, TensorSplit, leaving
from gencli.data.table_files import read
from gencli.data.tables import of_cells
from gencli.data.transitions import stretches, transitions


class Series(UserFiles):
    """Rows of a file, or of an array (T, D), (T, H, W) or (T, C, H, W), as states at equal distances of time.

    x is the state ``lead`` rows after the latest of the states in y. The last rows are the test split, those before
    them validation, so that nothing is trained on what comes later; between two splits ``gap`` rows are left out.

    Args:
        path: a table (csv and other text, .parquet, .npz with an array (T,) a column), or .npy or .npz with one array.
        columns: of a table, by name; None: all.
        lags: states in y, the latest one last.
        lead: rows from the latest state in y to x.
        gap: rows that no split has, between two of them.
        val: share of validation, of all rows.
        test: share of test.

    Raises:
        UsageError: there is no such file, or it holds no such series.
        ValueError: the shares leave nothing for training.
    """

    support: ClassVar[str] = "real"

    def __init__(
        self,
        path: str | None = None,
        columns: Sequence[str] | None = None,
        lags: Count = 1,
        lead: Count = 1,
        gap: Natural = 0,
        val: BelowOne = 0.1,
        test: BelowOne = 0.2,
    ) -> None:
        super().__init__(path, "a table, or an array of states in the order of time (.npy, .npz)")
        self.chosen = None if columns is None else distinct(columns, "data.columns")
        self.lags, self.lead, self.gap = lags, lead, gap
        self.shares = leaving((val, test))
        self.follows = lead if 1 in (lead, lags) else None  # else a forecast leaves out states that y holds

    def understand(self) -> dict[str, Any]:
        names, states = self._content
        return {"columns": names, "shape": list(states.shape[1:])}

    def specify(self, schema: Mapping[str, Any]) -> Spec:
        shape = tuple(schema["shape"])
        if len(shape) not in (1, 3) or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"shape {shape}")
        return Spec(shape, Support.parse(self.support), context=(self.lags * shape[0], *shape[1:]))

    def understood(self) -> list[str]:
        if "_content" not in vars(self):
            return []
        names, states = self._content
        what = listed(names) if names else " x ".join(map(str, states.shape[1:]))
        sizes = {name: len(found) if (found := self.split(name)) else 0 for name in SPLITS}
        return [
            f"{self.name}: {len(states):,} states in the order of time, {what}; rows: {counted(sizes)}, the last ones"
        ]

    def protocol(self) -> dict[str, object]:
        return {"lead": self.lead}

    def to_rows(self, x: Tensor) -> dict[str, list[Any]] | None:
        names = self.meaning["columns"]
        return dict(zip(names, x.cpu().T.tolist(), strict=True)) if names else None

    def from_rows(self, cells: Mapping[str, np.ndarray]) -> Tensor | None:
        names = self.meaning["columns"]
        if not names:
            return None
        table = of_cells("x", cells)
        table.need(names)
        return torch.from_numpy(table.matrix(names))

    def load(self, name: str) -> TensorSplit | None:
        T = len(self._states)
        val, test = (round(T * share) for share in self.shares)
        at = stretches(T, val, test, self.lags, self.lead, self.gap).get(name)
        if at is None:
            return None
        rows = self._rows(at)
        if name == "train" and not self.kept and rows.y is not None and (d := determined(rows.x, rows.y)) is not None:
            names = self.meaning["columns"]
            raise UsageError(
                f"data.path={quoted(self.path, 200)}: {f'column {quoted(names[d])}' if names else f'coordinate {d}'} "
                "follows from the states before it without noise, a weighted sum of them: no density has a limit there"
            )
        return rows

    def whole(self) -> Split | None:
        return self.in_precision(self._rows(range(len(self._states))), "all")

    def _rows(self, at: range) -> TensorSplit:
        return transitions(self._states[at.start : at.stop][None], self.lags, self.lead)

    @property
    def _states(self) -> Tensor:
        """(T, *) in float64, of the run's shape."""
        states = self._content[1]
        if states.shape[1:] != self.spec.shape:
            here, there = (" x ".join(map(str, shape)) for shape in (states.shape[1:], self.spec.shape))
            raise UsageError(
                f"data.path={quoted(self.path, 200)} has states of {here} numbers; the run's are of {there}"
            )
        return torch.from_numpy(states)

    @cached_property
    def _content(self) -> tuple[list[str] | None, np.ndarray]:
        """Names of the columns, if they have any, and the states (T, *) in float64."""
        self.opened()
        where, array = f"data.path={quoted(self.path, 200)}", self._array()
        if array is not None:
            if self.chosen is not None:
                raise UsageError(f"data.columns={quoted(self.chosen)} is of a table; {where} is an array")
            if array.dtype.kind not in "biuf" or array.ndim not in (1, 2, 3, 4) or 0 in array.shape:
                raise UsageError(
                    f"{where} is an array of {array.dtype} of shape {array.shape}: numbers of shape (T, D), (T, H, W) "
                    "or (T, C, H, W) are expected"
                )
            require_held(array, where)
            states = array.astype(np.float64)
            if not np.isfinite(states).all():
                at = int(np.argwhere(~np.isfinite(states))[0][0])
                raise UsageError(f"{where}: state {at} (the first is 0) holds a number that is not finite")
            return None, np.ascontiguousarray(states[:, None] if states.ndim in (1, 3) else states)
        names = self.meaning["columns"] if self.kept else self.chosen
        table = read(self.path, names=names or ())
        table.need(names or ())
        names = names or [*table.columns]
        if not names or not len(table):
            raise UsageError(f"{where} has no {'rows' if names else 'columns'} to learn")
        return names, table.matrix(names)

    def _array(self) -> np.ndarray | None:
        """The one array of an .npy or .npz file; None: the file is a table."""
        content = self.path.read_bytes() if self.path.suffix in (".npy", ".npz") else b""
        try:
            found = np.load(io.BytesIO(content), allow_pickle=False) if content else None
            if isinstance(found, np.lib.npyio.NpzFile):
                with found as arrays:
                    keys = list(arrays)
                    return arrays[keys[0]] if len(keys) == 1 else None
            return found
        except Exception as error:  # numpy, zipfile and zlib raise errors of many kinds over a damaged file
            raise UsageError(f"data.path={quoted(self.path, 200)} is no array: {quoted(str(error), 200)}") from error
