"""Your own arrays: an ``.npz`` with a key a split, or one array (``.npy`` or ``.npz``) that is split here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.options import BelowOne, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import user_path
from gencli.data.split import TensorSplit, shares, storage_dtype


class Array(Lazy):
    """Arrays of a file, read without unpickling.

    Keys ``train``, ``val``, ``test``, with ``train_labels`` ... for classes 0, 1, ... (integers) or a context (floats
    (N, C)); of these only ``train`` is needed. Or one array, with ``labels`` beside it in an ``.npz``, that gets a
    fixed seeded split. (N,) and (N, D) are vectors, (N, H, W) and (N, C, H, W) images.

    Args:
        path: the file.
        support: ``real``, ``unit``, ``binary``, ``levels:K`` or ``categorical:K``; None: uint8 is levels:256, floats
            are real.
        val: share of the validation split of one array.
        test: share of the test split of one array.
        seed: of the split of one array.

    Raises:
        UsageError: the file is missing or holds something else, or values lie outside the support; checked for a split
            when it is read.
        ValueError: nothing is left for training, or there is no such support.
    """

    def __init__(
        self,
        path: str | None = None,
        support: str | None = None,
        val: BelowOne = 0.1,
        test: BelowOne = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.path = user_path(path, "an .npz or .npy file")
        self.name, self.fractions, self.seed = self.path.stem, (val, test), seed
        self.arrays = _open(self.path)
        self.only = None if "train" in self.arrays else _only(self.arrays, self.path)

        x, y = self._read("train")
        if len(x) == 0:
            raise UsageError(f"data.path={self.path}: the training split is empty")
        if support:
            try:
                chosen = Support.parse(support)
            except ValueError as error:
                raise ValueError(f"data.support: {error}") from error
        elif x.dtype == np.uint8:
            chosen = Support("levels", 256)
        elif np.issubdtype(x.dtype, np.floating):
            chosen = Support("real")
        elif x.dtype == np.bool_:
            chosen = Support("binary", 2)
        else:
            raise UsageError(f"data.path={self.path} holds {x.dtype}: say data.support=levels:K, categorical:K or real")
        if chosen.kind == "graph":
            raise ValueError("data.support=graph: an array is real, unit, binary, levels:K or categorical:K")
        classes = int(y.max()) + 1 if y is not None and np.issubdtype(y.dtype, np.integer) else None
        context = 0 if y is None or classes else int(np.prod(y.shape[1:]))
        self.spec = Spec(_event(x, self.path), chosen, classes, context)
        self._splits["train"] = self.in_precision(self._check(x, y, "train"), "train")

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        if self.only is None:
            x, y = _key(self.arrays, name, self.path), None
            if f"{name}_labels" in self.arrays:
                y = _key(self.arrays, f"{name}_labels", self.path)
        else:
            x = _key(self.arrays, self.only, self.path)
            y = _key(self.arrays, "labels", self.path) if "labels" in self.arrays else None
            if y is not None and len(y) != len(x):
                raise UsageError(f"data.path={self.path}: {len(y)} labels for {len(x)} examples")
            rows = shares(len(x), self.fractions, self.seed)[name]
            x, y = x[rows], None if y is None else y[rows]
        if y is not None and (len(y) != len(x) or not np.issubdtype(y.dtype, np.number)):
            raise UsageError(f"data.path={self.path}: {name} has {len(x)} examples and labels {y.dtype}{y.shape}")
        return x, y

    def load(self, name: str) -> TensorSplit | None:
        if self.only is None and name not in self.arrays:
            return None
        x, y = self._read(name)
        return self._check(x, y, name) if len(x) else None

    def _check(self, x: np.ndarray, y: np.ndarray | None, name: str) -> TensorSplit:
        where = f"data.path={self.path}: {name}"
        if _event(x, self.path) != self.spec.shape:
            raise UsageError(f"{where} has examples of shape {_event(x, self.path)}, train of {self.spec.shape}")
        if (y is None) == bool(self.spec.classes or self.spec.context):
            raise UsageError(f"{where} and train disagree: labels for both or for neither")
        labels = None if y is None else self._labels(y, where)
        return TensorSplit(to_support(x, self.spec.support, where).reshape(len(x), *self.spec.shape), labels)

    def _labels(self, y: np.ndarray, where: str) -> Tensor:
        classes = self.spec.classes
        if not classes:
            if not np.isfinite(y).all():
                raise UsageError(f"{where}: a context is not finite")
            return torch.from_numpy(y.reshape(len(y), self.spec.context).astype(np.float64))
        y = y.reshape(-1)
        if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= classes:
            raise UsageError(
                f"{where}: labels are classes 0 to {classes - 1}, as in train; found {y.min()} to {y.max()}"
            )
        return torch.from_numpy(y.astype(np.int64))


def to_support(x: np.ndarray, support: Support, where: str) -> Tensor:
    """Numbers as data of a support; reals that come in more than float32 as float64 (see ``Lazy.in_precision``).

    Raises:
        UsageError: a value lies outside of it, or is not finite.
    """
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == np.bool_) or np.iscomplexobj(x):
        raise UsageError(f"{where} holds {x.dtype}, not numbers")
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        raise UsageError(f"{where} holds {int((~np.isfinite(x)).sum())} values that are not finite (NaN or infinite)")
    if support.kind != "real" and len(x):
        high = 1 if support.kind == "unit" else (support.levels or 0) - 1
        fits = x.min() >= 0 and x.max() <= high and (not support.discrete or bool((x == np.floor(x)).all()))
        if not fits:
            raise UsageError(
                f"{where} does not fit data.support={support}: it needs {'integers' if support.discrete else 'values'} "
                f"from 0 to {high}; found {x.min():g} to {x.max():g}"
            )
    fine = not support.discrete and not np.can_cast(x.dtype, np.float32)
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.float64 if fine else storage_dtype(support))


def _open(path: Path) -> dict | np.lib.npyio.NpzFile:
    try:
        content = np.load(path, allow_pickle=False, mmap_mode=None)
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise errors of many kinds over a damaged file
        raise UsageError(f"data.path={path} is no .npz or .npy file of numbers: {quoted(error, 200)}") from error
    return {"array": content} if isinstance(content, np.ndarray) else content


def _only(arrays: dict | np.lib.npyio.NpzFile, path: Path) -> str:
    names = [name for name in arrays if name != "labels"]
    if len(names) != 1:
        raise UsageError(
            f"data.path={path}: key 'train' is needed, or one array; found {', '.join(names) or 'nothing'}"
        )
    return names[0]


def _key(arrays: dict | np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        found = arrays[key]
        if found.ndim == 0:
            raise ValueError("it is a single value")
        return found
    except Exception as error:  # objects would have to be unpickled
        raise UsageError(f"data.path={path}: key '{key}' cannot be read: {quoted(error, 200)}") from error


def _event(x: np.ndarray, path: Path) -> tuple[int, ...]:
    """The event shape of an array of examples."""
    if not 1 <= x.ndim <= 4 or 0 in x.shape[1:]:
        raise UsageError(
            f"data.path={path} has an array of shape {x.shape}: (N,), (N, D), (N, H, W) or (N, C, H, W) is expected"
        )
    return (1, *x.shape[1:]) if x.ndim in (1, 3) else x.shape[1:]
