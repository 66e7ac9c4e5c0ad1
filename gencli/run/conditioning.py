"""What a conditional model's samples are drawn for: classes by number or name, contexts by value or from a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, near, quoted
from gencli.core.files import named
from gencli.data.base import Dataset
from gencli.data.table_files import read
from gencli.data.tables import Table
from gencli.run.assembly import Parts

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def chosen(parts: Parts) -> Tensor | None:
    """The rows y (K,) or (K, *) that the sampler's options ``classes`` and ``context`` name; None: they name none.

    Raises:
        UsageError: the model takes no such condition, or there is no such class, or a context has another width.
    """
    sampler, spec = parts.sampler, parts.dataset.spec
    if sampler is None:
        return None
    for key, other, kind in (("classes", "context", spec.classes), ("context", "classes", spec.context)):
        value = getattr(sampler, key)
        if value is None:
            continue
        if not parts.model.conditional:
            raise UsageError(f"sampler.{key}={quoted(value)}: this model is not conditional (model.conditional=true)")
        if not kind:
            raise UsageError(f"sampler.{key}={quoted(value)}: this model is told sampler.{other}, not {key}")
    if sampler.classes is not None:
        return torch.tensor(class_numbers(parts.dataset, sampler.classes, "sampler.classes"))
    if sampler.context is None:
        return None
    if len(spec.context) > 1:
        raise UsageError(f"sampler.context: this context has the shape {spec.context}: context=FILE, an .npy (K, *)")
    rows = sampler.context if isinstance(sampler.context[0], list) else [sampler.context]
    for row in rows:
        if not isinstance(row, list) or len(row) != spec.context_dim:
            names = f" ({quoted(', '.join(parts.dataset.context_names() or []))})".replace(" ()", "")
            needed = f"{spec.context_dim} numbers{names} are needed, or a list of such lists"
            raise UsageError(f"sampler.context={quoted(sampler.context)}: {needed}")
    return checked(parts, rows, "sampler.context")


def checked(parts: Parts, rows: Sequence[Any] | np.ndarray, key: str) -> Tensor:
    """Rows y of data space, checked.

    Raises:
        UsageError: they do not fit the data; names the key.
    """
    try:
        return parts.preprocess.checked_context(rows, len(rows))
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error


def class_numbers(dataset: Dataset, values: Sequence[int | str], key: str) -> list[int]:
    """Classes 0, 1, ... by number or by name; where names are numbers themselves (labels 1, 2, 3), a number is a name.

    Raises:
        UsageError: there is no such class; names near ones.
    """
    count, names = dataset.spec.classes or 0, dataset.class_names()
    if not count:
        raise UsageError(f"{key}={quoted(values)}: this data has no classes")
    number = {str(k): k for k in range(count)}
    if names is not None:
        of_name = {name: k for k, name in enumerate(names)}
        number = of_name if all(map(_NUMBER.fullmatch, names)) else number | of_name
    for value in values:
        if str(value) not in number:
            has = quoted(", ".join(names), 200) if names else f"0..{count - 1}"
            close = near(str(value), names or ())
            meant = f". {close}" if close.startswith("Did") else ""
            raise UsageError(f"{key}={quoted(value)}: this model has classes {has}{meant}")
    return [number[str(value)] for value in values]


def from_file(text: str, parts: Parts) -> Tensor:
    """The rows y of ``context=FILE``: a table with the columns of the run by name, or an array (K,) or (K, *).

    An ``.npz`` of samples gives its ``labels``.

    Raises:
        UsageError: the model takes none, or the file is none, or does not fit the data.
    """
    if not parts.model.conditional:
        raise UsageError(f"context={quoted(text)}: this model is not conditional (model.conditional=true)")
    path = named(text, "context=")
    if not path.is_file():
        raise UsageError(f"context={quoted(text, 200)}: there is no such file")
    rows: Sequence[Any] | np.ndarray | None = _array(path)
    if rows is None:
        names = parts.dataset.context_names() or ()
        classes = {*names, "0"} if parts.dataset.spec.classes else ()  # which is what a column without a name is called
        rows = _columns(read(path, names=names, key="context", texts=classes), parts)
    if parts.dataset.spec.classes:
        flat = np.asarray(rows).reshape(-1)
        rows = flat if flat.dtype.kind in "iuf" else class_numbers(parts.dataset, [str(v) for v in flat], "context")
    if len(rows) == 0:
        raise UsageError(f"context={quoted(text, 200)} has no rows")
    return checked(parts, rows, f"context={quoted(text, 200)}")


def _array(path: Path) -> np.ndarray | None:
    """The rows of an .npy, or of an .npz that is no table; None: the file is a table."""
    if path.suffix not in (".npy", ".npz"):
        return None
    try:
        found: Any = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found as arrays:
            only = arrays.files[0] if len(arrays.files) == 1 else "labels"
            return arrays[only] if only in arrays.files else None
    except Exception as error:  # of numpy, zipfile and zlib over a damaged file
        raise UsageError(f"context={quoted(path, 200)} is no array: {quoted(error, 200)}") from error


def _columns(table: Table, parts: Parts) -> np.ndarray:
    """The columns of a table that are the class (K,) or the context (K, C): by name, or all where they have none."""
    spec, names = parts.dataset.spec, parts.dataset.context_names()
    if len(spec.context) > 1:
        raise UsageError(
            f"{table.where} is a table; this context has the shape {spec.context}: an .npy (K, *) is needed"
        )
    width = 1 if spec.classes else spec.context_dim
    if names and table.dialect.header:
        table.need(names)
    elif len(table.columns) != width:
        raise UsageError(f"{table.where} has {len(table.columns)} columns; {width} are needed")
    else:
        names = list(table.columns)
    if spec.classes:
        return np.array(table.texts(names[0]), dtype=object)
    return np.stack([table.numbers(name) for name in names], 1)
