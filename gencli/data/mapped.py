"""Arrays that are too large for memory: rows of a file that is mapped into it, read when they are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.lazy import narrow
from gencli.data.split import TensorSplit
from gencli.data.statistics import ROWS, chunks, needs_float64, overflows


class MappedSplit(Split):
    """Rows of an array that lies in a file, mapped into memory: each is read when it is taken.

    SHA-256: that of the same examples in memory.

    Args:
        x: (N, *) the array, in data space.
        rows: (n,) which of its rows are the examples, in order.
        dtype: in which examples are given.
        y: None, (n,) classes or (n, C) reals of the examples, in memory.
        device: where they are wanted.
    """

    def __init__(
        self,
        x: np.ndarray,
        rows: np.ndarray,
        dtype: torch.dtype,
        y: Tensor | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.x, self.rows, self.dtype, self.device = x, rows, dtype, device or torch.device("cpu")
        self.y = None if y is None else y.to(self.device)

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, index: Tensor) -> Batch:
        taken = np.ascontiguousarray(self.x[self.rows[index.cpu().numpy()]])
        x = torch.from_numpy(taken).to(self.device, self.dtype)
        return Batch(x, None if self.y is None else self.y[index.to(self.device)])

    def to(self, device: torch.device) -> MappedSplit:
        return MappedSplit(self.x, self.rows, self.dtype, self.y, device)

    def in_memory(self) -> TensorSplit:
        """The same examples, copied into memory."""
        x, n = torch.empty((len(self), *self.x.shape[1:]), dtype=self.dtype, device=self.device), 0
        for batch in chunks(self):
            x[n : n + len(batch.x)] = batch.x
            n += len(batch.x)
        return TensorSplit(x, self.y)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256(f"{self.dtype} {(len(self), *self.x.shape[1:])};".encode())
        for batch in chunks(self):
            digest.update(batch.x.cpu().numpy().data)
        if self.y is not None:
            digest.update(f"{self.y.dtype} {tuple(self.y.shape)};".encode())
            digest.update(self.y.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def mapped(
    x: np.ndarray,
    rows: np.ndarray,
    checked: Callable[[np.ndarray, str], Tensor],
    precise: bool | None,
    y: Tensor | None = None,
    look: bool = True,
) -> tuple[MappedSplit, bool]:
    """Rows (n,) of an array; whether they stay in float64.

    Args:
        x: (N, *) mapped, or in memory.
        rows: n of them.
        checked: makes tensors of rows, or refuses them; it is told which these are.
        precise: whether they stay in float64, if they are; None: where they need it.
        y: of these rows.
        look: whether all rows are looked at; else it is known that they pass, and that float32 holds all values.

    Raises:
        ValueError: a value is beyond float32, in which they are to be.
    """
    few = checked(x[rows[:: max(1, -(-len(rows) // ROWS))]], "")
    fine = few.dtype == torch.float64 and (needs_float64(few) if precise is None else precise)
    for start in range(0, len(rows), ROWS) if look else ():
        part = checked(x[rows[start : start + ROWS]], f", from row {start} on,")
        if precise is None:
            fine = fine or (part.dtype == torch.float64 and overflows(part))
        elif not fine:
            narrow(part)
    dtype = torch.float32 if few.dtype == torch.float64 and not fine else few.dtype
    return MappedSplit(x, rows, dtype, y), fine
