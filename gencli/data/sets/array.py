"""Your own arrays: an ``.npz`` with a key a split, or one array (``.npy`` or ``.npz``) that is split here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, near, quoted
from gencli.core.integers import HELD, require_held
from gencli.core.options import BelowOne, NonNegative, Seed
from gencli.core.spec import Spec, Support
from gencli.data.base import Split
from gencli.data.lazy import UserFiles, counted, listed, names_of
from gencli.data.leaks import refuse_leaks
from gencli.data.mapped import MappedSplit, mapped
from gencli.data.split import SPLITS, TensorSplit, leaving, meant, shares, to_support
from gencli.data.tables import in_order

LABELS = {name: f"{name}_labels" for name in SPLITS}


class Array(UserFiles):
    """Arrays of a file, read without unpickling.

    Keys ``train``, ``val``, ``test``, with ``train_labels`` ... for classes (whole numbers or text, which are numbered
    in sorted order) or a context (floats: vectors (N, C), sequences (N, T, C), images (N, C, H, W) or (N, H, W, C)); of
    these only ``train`` is needed. Or one array, with ``labels`` beside it in an ``.npz``, that gets a fixed seeded
    split. (N,) and (N, D) are vectors; (N, H, W), (N, C, H, W) and (N, H, W, C) with C = 1 or 3 images.

    Args:
        path: the file.
        support: ``real``, ``unit``, ``binary``, ``levels:K`` or ``categorical:K``; None: uint8 is levels:256, floats
            are real, bool is binary.
        val: share of the validation split of one array.
        test: share of the test split of one array.
        seed: of the split of one array.
        memory: GB up to which the array of an .npy file is kept in memory; rows of a larger one are read from it each
            time.

    Raises:
        ValueError: there is no such support.
        UsageError: (by ``spec`` and ``split``) the file is missing or holds something else, a value lies outside the
            support, or a label is none of the training file's.
    """

    def __init__(
        self,
        path: str | None = None,
        support: str | None = None,
        val: BelowOne = 0.1,
        test: BelowOne = 0.1,
        seed: Seed = 0,
        memory: NonNegative = 4.0,
    ) -> None:
        super().__init__(path, "an .npz or .npy file")
        try:
            self.support = Support.parse(support) if support else None
        except ValueError as error:
            raise ValueError(f"data.support: {error}") from error
        if self.support and self.support.kind == "graph":
            raise ValueError("data.support=graph: an array is real, unit, binary, levels:K or categorical:K")
        self.fractions, self.seed, self.memory = leaving((val, test)), seed, memory
        self._read: dict[str, np.ndarray] = {}
        self._turned = False

    # --- what the file means -------------------------------------------------------------------------------------

    def understand(self) -> dict[str, Any]:
        if self._only is None and "train" not in self._arrays:
            raise self._error(f"key 'train' is needed, or one array; found {', '.join(self._arrays)}")
        x = self._examples(self._only or "train")
        if len(x) == 0:
            raise self._error("the training split is empty")
        labels = self._all_labels()
        coded = [_coded(y) for y in labels.values()]
        classes = [name for found in coded if found for name in found[0]]
        if classes and None in coded:
            raise self._error("the labels of one split are classes, those of another a context")
        if self.old and all(y.dtype.kind in "iu" for y in labels.values()):
            classes = [str(k) for k in range(1 + max(map(int, classes), default=-1))]
        context = 0 if classes or not labels else _context_shape(next(iter(labels.values())), x.shape[2:])
        return {
            "shape": list(x.shape[1:]),
            "support": str(self.support or self._inferred(x)),
            "classes": in_order(classes) if classes else None,
            "context": context,
        }

    def specify(self, schema: Mapping[str, Any]) -> Spec:
        shape, context, classes = schema["shape"], schema["context"], names_of(schema)
        y = tuple(context) if isinstance(context, list) else (context,) if context else ()
        if not shape or not all(type(n) is int and n > 0 for n in (*shape, *y)):
            raise ValueError(f"shape {shape}, context {context}")
        return Spec(tuple(shape), Support.parse(str(schema["support"])), len(classes) if classes else None, y)

    def class_names(self) -> list[str] | None:
        return names_of(self.meaning)

    def understood(self) -> list[str]:
        if "_arrays" not in vars(self):
            return []
        lines = []
        if not self.kept:
            spec, classes = self.spec, self.class_names()
            found = counted({name: len(part) if (part := self.split(name)) else 0 for name in SPLITS})
            axes = "(C, H, W)" + (", of (H, W, C)" if self._turned else "") if spec.kind == "image" else ""
            x = " x ".join(map(str, spec.shape))
            y = f"; {len(classes)} classes: {listed(classes)}" if classes else ""
            y += f"; a context of {' x '.join(map(str, spec.context))} reals" if spec.context else ""
            if classes and any(found.dtype.kind == "f" for found in self._all_labels().values()):
                y += " (floats, but whole numbers; of shape (N, 1) they would be a context)"
            lines.append(f"{found} {spec.kind}s of {x} {axes}".rstrip() + f", {spec.support}{y}")
        read = {self._only, "labels"} if self._only else {*SPLITS, *LABELS.values()}
        if unread := [key for key in self._arrays if key not in read]:
            lines.append(f"keys that are not read: {listed(unread)}")
        return [f"{self.name}: {line}" for line in lines]

    def _inferred(self, x: np.ndarray) -> Support:
        if x.dtype == np.uint8:
            return Support("levels", 256)
        if x.dtype.kind == "f":
            return Support("real")
        if x.dtype.kind == "b":
            return Support("binary", 2)
        k = max(2, int(x.max()) + 1)
        counted = f"levels:{k}, categorical:{k} or " if x.min() >= 0 and k <= HELD else ""
        found = f"holds whole numbers from {x.min()} to {x.max()}: say data.support={counted}real"
        raise UsageError(f"data.path={self.path} {found}")

    def _all_labels(self) -> dict[str, np.ndarray]:
        """Labels of all splits that there are, by key.

        Raises:
            UsageError: some splits have labels, others none.
        """
        keys = ["labels"] if self._only else [LABELS[name] for name in SPLITS if name in self._arrays]
        found = [key for key in keys if key in self._arrays]
        if found and len(found) < len(keys):
            lacking = next(key for key in keys if key not in found)
            raise self._error(f"labels for all splits or for none; found {', '.join(found)}, but no {lacking}")
        return {key: self._label(key) for key in found}

    # --- splits --------------------------------------------------------------------------------------------------

    def load(self, name: str) -> TensorSplit | MappedSplit | None:
        if self._only is None:
            split = self._split(name, LABELS[name], name) if name in self._arrays else None
            self._read.pop(name, None)
            return split
        rows = shares(len(self._examples(self._only)), self.fractions, self.seed)[name]
        if self._streams:
            return self._mapped(name, rows)
        return self._split(self._only, "labels", name, rows)

    def whole(self) -> Split | None:
        if self._only is not None:
            try:
                if self._streams:
                    return self._mapped("the array", np.arange(len(self._examples(self._only))))
                return self.in_precision(self._split(self._only, "labels", "the array"), "all")
            except ValueError as error:
                raise self._error(str(error)) from error
        parts = [part for name in SPLITS if isinstance(part := self.split(name), TensorSplit)]
        labels = [part.y for part in parts if part.y is not None]
        y = torch.cat(labels) if labels and len(labels) == len(parts) else None
        return TensorSplit(torch.cat([part.x for part in parts]), y) if parts else None

    @property
    def _streams(self) -> bool:
        """Whether rows are read from the file each time: of a large array that needs no conversion as a whole."""
        there = self._arrays.get("array")
        if not isinstance(there, np.memmap) or there.nbytes <= 1e9 * self.memory:
            return False
        return np.may_share_memory(there, self._examples("array"))

    def _mapped(self, name: str, rows: np.ndarray) -> MappedSplit | None:
        """Rows of the array, as ``_split`` has them in memory."""
        x, support, where = self._examples("array"), self.spec.support, f"data.path={self.path}: {name}"
        if x.shape[1:] != self.spec.shape:
            raise UsageError(f"{where} has examples of shape {x.shape[1:]}, train of {self.spec.shape}")
        if len(rows) == 0:
            return None
        if self._precise is None and name != "train":
            self.split("train")
        split, fine = mapped(
            x, rows, lambda part, at: to_support(part, support, where + at), self._precise and self._precise[0]
        )
        self._precise = self._precise or (fine, False)
        return split

    def _split(self, key: str, labels: str, name: str, rows: np.ndarray | None = None) -> TensorSplit | None:
        """Rows of an array, if there are any, and of the labels that the run knows; a new file need have none."""
        spec, where = self.spec, f"data.path={self.path}: {name}"
        x = self._examples(key)
        if x.shape[1:] != spec.shape:
            raise UsageError(f"{where} has examples of shape {x.shape[1:]}, train of {spec.shape}")
        y = None
        if (spec.classes or spec.context) and labels in self._arrays:
            found = self._label(labels)
            if len(found) != len(x):
                raise self._error(f"{key} has {len(x)} examples, but {labels} {len(found)} rows")
            y = self._classes(found, labels) if spec.classes else self._context(found, labels)
        if rows is not None:
            x, y = x[rows], None if y is None else y[torch.from_numpy(rows)]
        if len(x) == 0:
            return None
        split = TensorSplit(to_support(x, spec.support, where), y)
        if name == "train" and spec.context and not self.kept and y is not None:
            of_y = f"coordinate {{}} of {labels}".format
            where = f"data.path={self.path}"
            refuse_leaks(split.x, y, not spec.support.discrete, where, "coordinate {}".format, of_y)
        return split

    def _classes(self, y: np.ndarray, key: str) -> Tensor:
        numbers = {name: k for k, name in enumerate(self.class_names() or ())}
        coded = _coded(y)
        if coded is None:
            raise self._error(f"{key} holds {_kind(y)}; the labels of train are classes")
        names, codes = coded
        for name in names:
            if name not in numbers:
                raise self._error(f"{key} has {quoted(name)}, which is no class of train. {near(name, numbers)}")
        return torch.tensor([numbers[name] for name in names])[torch.from_numpy(codes)]

    def _context(self, y: np.ndarray, key: str) -> Tensor:
        shape = self.spec.context
        if len(shape) == 3 and y.ndim == 4 and y.shape[1:] != shape:  # (N, H, W, C)
            y = np.moveaxis(y, 3, 1)
        if len(shape) == 1:  # (N,) too, and what older runs read as vectors
            y = y.reshape(len(y), int(np.prod(y.shape[1:])))
        if y.dtype.kind not in "biuf" or y.shape[1:] != shape or not np.isfinite(y).all():
            needed = f"a context of {' x '.join(map(str, shape))} reals, all finite, is needed"
            raise self._error(f"{key} holds {_kind(y)}; {needed}")
        require_held(y, f"data.path={self.path}: {key}")
        return torch.from_numpy(_numbers(y, key).astype(np.float64))

    # --- the file ------------------------------------------------------------------------------------------------

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray | None]:
        """The array of an .npy file, or the keys of an .npz file, of which each is read when it is asked for.

        Raises:
            UsageError: a key is nearly one that is read.
        """
        self.opened()
        content = _open(self.path)
        if isinstance(content, np.ndarray):
            return {"array": content}
        with content:
            arrays = dict.fromkeys(content)
        if not any(name in arrays for name in SPLITS):
            return arrays
        read = {key for name in SPLITS if name in arrays for key in (name, LABELS[name])}
        for key in arrays:
            if key not in read and (close := meant(key, [*SPLITS, *LABELS.values()])):
                known = "splits are train, val, test, their labels train_labels, val_labels, test_labels"
                advice = "there is no such split" if key == close else f"did you mean '{close}'?"
                raise self._error(f"key '{quoted(key)}' is not read ({known}): {advice}")
        return arrays

    @cached_property
    def _only(self) -> str | None:
        """The key of the one array; None where there is a key a split."""
        if any(name in self._arrays for name in SPLITS):
            return None
        names = [name for name in self._arrays if name != "labels"]
        if len(names) != 1:
            found = ", ".join(quoted(name) for name in self._arrays) or "nothing"
            raise self._error(f"key 'train' is needed, or one array (its labels are 'labels'); found {found}")
        return names[0]

    def _examples(self, key: str) -> np.ndarray:
        """(N, *) numbers of this machine, images as (N, C, H, W)."""
        if key not in self._read:
            x = _numbers(self._value(key), self._where(key))
            self._turned = not self.old and x.ndim == 4 and channels_last(x.shape[1:])
            self._read[key] = _shaped(np.moveaxis(x, 3, 1) if self._turned else x, self._where(key))
        return self._read[key]

    def _label(self, key: str) -> np.ndarray:
        """(N,) or (N, C) labels, as they are."""
        y = self._value(key)
        if y.dtype.kind == "S":
            y = np.char.decode(y, "utf-8")
        if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "biuU":
            y = y[:, 0]
        if y.dtype.kind == "f" and y.ndim == 1 and self.old:
            y = y[:, None]
        if y.dtype.kind == "f" or (y.dtype.kind in "biuU" and y.ndim == 1):
            return y
        hint = " (of one-hot rows: labels.argmax(1))" if y.ndim == 2 and y.dtype.kind in "biu" else ""
        raise self._error(f"{key} holds {_kind(y)}: one class a row{hint}, or floats (N, *), a context, is expected")

    def _value(self, key: str) -> np.ndarray:
        try:
            found = self._arrays[key]
            if found is None:
                with np.load(self.path, allow_pickle=False) as content:
                    found = content[key]
            if found.ndim == 0:
                raise ValueError("it is a single value")
            return found
        except Exception as error:  # objects would have to be unpickled
            raise self._error(f"key '{quoted(key)}' cannot be read: {_reason(error)}") from error

    def _where(self, key: str) -> str:
        return f"data.path={self.path}: {quoted(key)}"

    def _error(self, text: str) -> UsageError:
        return UsageError(f"data.path={self.path}: {text}")


def _open(path: Path) -> np.ndarray | np.lib.npyio.NpzFile:
    """The file; an array (.npy) is mapped into memory, of which rows are read when they are taken."""
    try:
        with suppress(Exception):  # what cannot be mapped (objects, nothing at all) is read, or refused, below
            return np.load(path, mmap_mode="c", allow_pickle=False)  # torch takes what it may write into
        return np.load(path, allow_pickle=False)
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise errors of many kinds over a damaged file
        raise UsageError(f"data.path={path} is no .npz or .npy file of numbers: {_reason(error)}") from error


def _kind(x: np.ndarray) -> str:
    return quoted(f"{x.dtype} of shape {x.shape}", 100)


def _reason(error: Exception) -> str:
    if "Object arrays" in str(error):
        return "it holds Python objects, which are not loaded: save numbers, x.astype(float), or text, y.astype(str)"
    return quoted("it begins as neither does" if "pickled" in str(error) else error, 200)


def _numbers(x: np.ndarray, where: str) -> np.ndarray:
    """The same numbers in a type and byte order that torch has.

    Raises:
        UsageError: they are none.
    """
    if x.dtype.kind not in "biuf":
        raise UsageError(f"{where} holds {_kind(x)}, not numbers")
    if x.dtype.kind == "u" and x.dtype.itemsize > 1 and x.max(initial=0) < 2**63:
        return x.astype(np.int64)
    with np.errstate(over="ignore"):  # what is infinite then is refused as such
        return x.astype(np.float64 if x.dtype.itemsize > 8 else x.dtype.newbyteorder("="), copy=False)


def _shaped(x: np.ndarray, where: str) -> np.ndarray:
    """Examples (N, D) or (N, C, H, W).

    Raises:
        UsageError: the array has another number of axes, or an empty one.
    """
    if not 1 <= x.ndim <= 4 or 0 in x.shape[1:]:
        raise UsageError(
            f"{where} is an array of shape {x.shape}: (N,), (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C) is expected"
        )
    return x[:, None] if x.ndim in (1, 3) else x


def _context_shape(y: np.ndarray, grid: tuple[int, ...]) -> int | list[int]:
    """The length of context vectors (N, C), or the shape of sequences (N, T, C) and images, (C, H, W).

    Images whose first two axes are the grid of x have their channels last.
    """
    shape = list(y.shape[1:])
    if len(shape) == 3 and y.shape[2:] != grid and (y.shape[1:3] == grid or channels_last(y.shape[1:])):
        shape = [shape[2], *shape[:2]]
    return shape if 2 <= len(shape) <= 3 else int(np.prod(shape))


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an image of this shape is meant as (H, W, C): as (C, H, W) it would have many channels and be no square.

    Example:
        >>> [channels_last(s) for s in ((28, 28, 1), (32, 24, 3), (28, 28, 4), (8, 3, 3), (3, 32, 3), (8, 4, 4))]
        [True, True, True, False, False, False]
    """
    a, b, c = shape
    return a > 4 and b != c and (c in (1, 3) or (c in (2, 4) and a == b))


def _coded(y: np.ndarray) -> tuple[list[str], np.ndarray] | None:
    """Classes as the text of their values, and the position (N,) of each row among them; None: y is a context.

    Floats are classes where they are whole numbers, one a row.
    """
    if y.dtype.kind == "f" and (y.ndim > 1 or not (np.isfinite(y) & (y == np.floor(y))).all()):
        return None
    values, codes = np.unique(y, return_inverse=True)
    return [v if isinstance(v, str) else str(int(v)) for v in values.tolist()], codes.reshape(-1)
