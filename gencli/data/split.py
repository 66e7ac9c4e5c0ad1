"""Splits: examples in a fixed order, as tensors or as files that stream.

A split's SHA-256 covers what is scored, in order, so that two records compare only if they saw the same examples.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.integers import require_held
from gencli.core.spec import Batch, Support
from gencli.data.base import Split

SPLITS = ("train", "val", "test")

ALIASES = {
    **dict.fromkeys(("training", "trainset"), "train"),
    **dict.fromkeys(("valid", "validation", "validate", "dev", "valset"), "val"),
    **dict.fromkeys(("testing", "testset"), "test"),
}
"""What others call the splits."""


def meant(name: str, known: Collection[str]) -> str | None:
    """The known name that a key or folder beside it was probably meant to have.

    Example:
        >>> meant("Validation_labels", ["val", "val_labels"]), meant("tset", ["train", "test"]), meant("ids", ["val"])
        ('val_labels', 'test', None)
    """
    stem, joint, rest = name.lower().partition("_")
    close = difflib.get_close_matches(ALIASES.get(stem, stem) + joint + rest, known, 1, 0.7)
    return close[0] if close else None


def storage_dtype(support: Support) -> torch.dtype:
    """How examples of this support are kept in data space: bytes where they fit, long, or float32."""
    if support.levels is None:
        return torch.float32
    return torch.uint8 if support.levels <= 256 else torch.int64


def to_support(x: np.ndarray, support: Support, where: str) -> Tensor:
    """Numbers as data of a support; reals that come in more than float32 as float64 (see ``Lazy.in_precision``).

    Raises:
        UsageError: a value lies outside of it, is not finite, or is an integer that would be rounded.
    """
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == np.bool_) or np.iscomplexobj(x):
        raise UsageError(f"{where} holds {x.dtype}, not numbers")
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        raise UsageError(f"{where} holds {int((~np.isfinite(x)).sum())} values that are not finite (NaN or infinite)")
    if support.kind != "real" and len(x):
        high = 1 if support.kind == "unit" else (support.levels or 0) - 1
        whole = not support.discrete or x.dtype.kind != "f" or bool((x == np.floor(x)).all())
        fits = x.min() >= 0 and x.max() <= high and whole
        if not fits:
            raise UsageError(
                f"{where} does not fit data.support={support}: it needs {'integers' if support.discrete else 'values'} "
                f"from 0 to {high}; found {x.min():g} to {x.max():g}"
            )
    if not support.discrete:
        require_held(x, where)
    fine = not support.discrete and not np.can_cast(x.dtype, np.float32)
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.float64 if fine else storage_dtype(support))


def leaving(fractions: Sequence[float]) -> Sequence[float]:
    """Shares of val and test, which leave something for training.

    Raises:
        ValueError: they do not.
    """
    if sum(fractions) >= 1:
        val, test = fractions
        raise ValueError(f"data.val={val} and data.test={test} are shares that leave something for training")
    return fractions


def shares(n: int, fractions: Sequence[float], seed: int) -> dict[str, np.ndarray]:
    """Deal n positions to train, val and test by a fixed permutation; rounding goes to train.

    Args:
        n: number of examples.
        fractions: shares of val and test.
        seed: of ``numpy.random.RandomState``, whose streams are frozen.

    Raises:
        ValueError: nothing is left for training.
    """
    val, test = (round(n * fraction) for fraction in leaving(fractions))
    train = n - val - test
    if n and not train:
        first, second = fractions
        raise ValueError(f"data.val={first} and data.test={second} of {n} examples leave none for training")
    order = np.random.RandomState(seed).permutation(n)
    return {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}


class TensorSplit(Split):
    """Examples in memory; on a GPU they live there, and a batch is one ``index_select``.

    SHA-256: over dtype, shape and bytes of x, then of y.

    Args:
        x: (N, *) in data space.
        y: None, (N,) classes or (N, C) reals.
    """

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        assert y is None or len(y) == len(x)
        self.x = x.contiguous()
        self.y = None if y is None else y.contiguous()
        self._sha256: str | None = None

    def __len__(self) -> int:
        return len(self.x)

    def gather(self, index: Tensor) -> Batch:
        index = index.to(self.x.device)
        return Batch(self.x.index_select(0, index), None if self.y is None else self.y.index_select(0, index))

    def to(self, device: torch.device) -> TensorSplit:
        """The same split on another device."""
        if self.x.device == device:
            return self
        moved = TensorSplit(self.x.to(device), None if self.y is None else self.y.to(device))
        moved.groups, moved.weights = self.groups, self.weights
        moved._sha256 = self._sha256
        return moved

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            digest = hashlib.sha256()
            for tensor in (self.x, self.y):
                if tensor is not None:
                    digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
                    digest.update(tensor.cpu().numpy().data)
            self._sha256 = digest.hexdigest()
        return self._sha256


class Subset(Split):
    """n random examples of a split, the same at every call, in the split's order.

    SHA-256: over that of the split and the positions; it is another set of examples than the whole.

    Args:
        split: the whole.
        n: how many of it, fewer than there are.
    """

    def __init__(self, split: Split, n: int) -> None:
        self.split = split
        self.index = shuffled(len(split), n).sort().values
        for name in ("counts", "groups", "weights"):
            of = getattr(split, name)
            setattr(self, name, None if of is None else of[self.index])

    def __len__(self) -> int:
        return len(self.index)

    def gather(self, index: Tensor) -> Batch:
        return self.split.gather(self.index[index.cpu()])

    def to(self, device: torch.device) -> Subset:
        return Subset(self.split.to(device), len(self))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.split.sha256} {self.index.tolist()}".encode()).hexdigest()


def shuffled(total: int, n: int) -> Tensor:
    """The first n of all positions (total,) in one random order, the same at every call."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:n]


def random_order(total: int, n: int) -> Tensor:
    """Positions (n,) within n random examples of ``total``, in an order of which any beginning is random too.

    The first m of them are ``at_most(split, m)``.
    """
    return shuffled(total, n).argsort().argsort()


def at_most(split: Split, n: int | None) -> Split:
    """The split, or n random examples of it where it has more."""
    return split if n is None or n >= len(split) else Subset(split, n)


class WindowSplit(Split):
    """Windows of T symbols of one long sequence of L, cut when they are asked for.

    Without a stride: all L - T + 1 of them, every symbol scored; for training. With a stride s, every symbol of the
    sequence is scored exactly once: row 0 scores its T symbols, each later window starts s further on and scores its
    last s symbols given the T - s before them; the last row ends where the sequence ends and scores what is left.

    SHA-256: over dtype, length, window, stride and symbols.

    Args:
        symbols: (L,) the sequence.
        window: T.
        stride: s, 1 to T; None: every window.

    Raises:
        ValueError: the sequence is shorter than the window, or the stride out of range.
    """

    def __init__(self, symbols: Tensor, window: int, stride: int | None = None) -> None:
        if stride is not None and not 1 <= stride <= window:
            raise ValueError(f"data.stride={stride}: 1 to data.window={window}")
        if len(symbols) < window:
            raise ValueError(f"data.window={window}: a split of this data has only {len(symbols)} symbols")
        self.symbols, self.window, self.stride = symbols, window, stride
        self.offsets = torch.arange(window, device=symbols.device)
        self._sha256: str | None = None
        last = len(symbols) - window  # the last start
        if stride is not None:
            rows = torch.arange(1 + -(-last // stride))
            self.starts = (stride * rows).clamp(max=last).to(symbols.device)
            self.given = torch.cat([self.starts.new_zeros(1), window - self.starts.diff()])
            self.counts = (window - self.given).cpu()

    def __len__(self) -> int:
        return len(self.symbols) - self.window + 1 if self.stride is None else len(self.starts)

    def gather(self, index: Tensor) -> Batch:
        index = index.to(self.symbols.device)
        starts = index if self.stride is None else self.starts[index]
        x = self.symbols[starts[:, None] + self.offsets]
        return Batch(x, given=None if self.stride is None else self.given[index])

    def to(self, device: torch.device) -> WindowSplit:
        if self.symbols.device == device:
            return self
        moved = WindowSplit(self.symbols.to(device), self.window, self.stride)
        moved._sha256 = self._sha256
        return moved

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            facts = f"{self.symbols.dtype} {len(self.symbols)} {self.window} {self.stride};"
            digest = hashlib.sha256(facts.encode())
            digest.update(self.symbols.cpu().numpy().data)
            self._sha256 = digest.hexdigest()
        return self._sha256


class StreamSplit(Split, torch.utils.data.Dataset[Tensor]):
    """Examples that are read from files when they are asked for; once read, they may be kept.

    SHA-256: over name, label and bytes of each file in order, and over the options of reading (such as the size).

    Args:
        names: the files, in order.
        load: name -> x (*) in data space; runs in worker processes.
        read: name -> the file's bytes.
        y: (N,) classes, or None.
        options: what else decides the examples, as a string.
        kept: whether all that was read stays in memory, as it was read.
    """

    def __init__(
        self,
        names: Sequence[str],
        load: Callable[[str], Tensor],
        read: Callable[[str], bytes],
        y: Tensor | None = None,
        options: str = "",
        *,
        kept: bool = False,
    ) -> None:
        self.names, self.load, self.read, self.y, self.options = list(names), load, read, y, options
        self._sha256: str | None = None
        self._x = torch.empty(0, dtype=torch.uint8)
        self._there = torch.zeros(len(self.names), dtype=torch.bool) if kept else None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_x": self._x[:0].clone(), "_there": None}  # a worker reads, and keeps nothing

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        return self.load(self.names[index])

    def gather(self, index: Tensor) -> Batch:
        index = index.cpu()
        if self._there is not None and bool(self._there[index].all()):
            x = self._x.index_select(0, index)
        else:
            x = self.files(index)
            self.keep(index, x)
        return Batch(x, None if self.y is None else self.y[index])

    def files(self, index: Tensor) -> Tensor:
        """Examples (b, *) by position, from their files."""
        return torch.stack([self[i] for i in index.tolist()])

    def keep(self, index: Tensor, x: Tensor) -> None:
        """Examples x (b, *) that were read of positions (b,): they stay, where examples are kept."""
        if self._there is not None:
            self._x = self._x if len(self._x) else x.new_empty(len(self), *x.shape[1:])
            self._x[index], self._there[index] = x, True

    @property
    def complete(self) -> bool:
        """Whether all examples are in memory."""
        return self._there is not None and bool(self._there.all())

    def in_memory(self) -> TensorSplit:
        """The same examples, all of which have been read and kept."""
        assert self.complete
        return TensorSplit(self._x, self.y)

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            digest = hashlib.sha256(self.options.encode())
            for i, name in enumerate(self.names):
                label = "" if self.y is None else int(self.y[i])
                digest.update(f"{name} {label};".encode())
                digest.update(hashlib.sha256(self.read(name)).digest())
            self._sha256 = digest.hexdigest()
        return self._sha256


def row_hashes(split: Split, *, labels: bool = True, narrow: bool = False) -> Tensor:
    """A number (N,) of 64 bits for each row, which is the same for rows whose values are equal, whatever their type.

    Args:
        split: the rows.
        labels: whether y, where there is one, belongs to a row.
        narrow: whether rows are told apart only as far as float32 tells them.
    """
    found, generator = [], torch.Generator().manual_seed(0)
    factors: Tensor | None = None
    width = split.gather(torch.arange(1)).x.numel()
    for index in torch.arange(len(split)).split(max(1, 2**22 // max(width, 1024))):
        batch = split.gather(index)
        parts = [batch.x, batch.y] if labels and batch.y is not None else [batch.x]
        rows = torch.cat([_exact(part.cpu().reshape(len(index), -1), narrow) for part in parts], 1)
        bits = rows.view(torch.int64)
        if factors is None:
            factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator) | 1
        found.append(((bits ^ (bits >> 29)) * factors).sum(1))  # modulo 2^64
    return torch.cat(found)


def _exact(rows: Tensor, narrow: bool) -> Tensor:
    """Rows in float64, where equal values have the same bits: 0.0 is -0.0, and one NaN another."""
    kept = (rows.float() if narrow else rows).double() + 0.0
    return kept.masked_fill(kept.isnan(), torch.nan)
