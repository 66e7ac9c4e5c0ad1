"""Samples in the formats that other programs read: tables with the data's own columns, single images, texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, near, quoted
from gencli.core.files import inside, write_folder, write_whole
from gencli.data.base import Dataset
from gencli.pictures import canvas
from gencli.run.assembly import Parts

FORMATS = ("npz", "csv", "parquet", "png", "txt")
"""Of ``gencli sample format=``; png is a folder of single images."""


def formats(asked: object, parts: Parts, run: Path, stem: str) -> list[str]:
    """The formats that a command asks for, in which these samples can be written.

    Args:
        asked: the value of the key ``format``: a name or a list of names.
        parts: of the run.
        run: its folder.
        stem: of the files' names.

    Raises:
        UsageError: there is no such format, it does not fit the data, or what it would write is there already.
    """
    names = asked if isinstance(asked, list) else [asked]
    if not names:
        raise UsageError(f"format=[]: at least one of {', '.join(FORMATS)}")
    fitting = _fitting(parts.dataset)
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"format={quoted(asked)}: there is no such format. {near(str(name), FORMATS)}")
        if name not in fitting:
            raise UsageError(f"format={name}: data={parts.dataset.name} can be written as {', '.join(fitting)}")
    if "parquet" in names:
        _parquet()
    if "png" in names and (folder := inside(run, "samples", stem)).exists():
        raise UsageError(f"format=png: {folder} is there already: give name=NAME, or remove it")
    return list(dict.fromkeys(names))


def export(parts: Parts, run: Path, stem: str, asked: Sequence[str], x: Tensor, y: Tensor | None) -> list[Path]:
    """Write samples/<stem>.<format> for each format, whole or not at all; png: a folder samples/<stem>.

    Args:
        parts: of the run.
        run: its folder.
        stem: of the files' names.
        asked: names of formats that ``formats`` has let pass.
        x: (n, *) in data units.
        y: (n,) classes or (n, *) contexts that they were drawn for; None: none.
    """
    x, y = x.cpu(), None if y is None else y.cpu()
    contents = {name: _CONTENT[name](parts.dataset, x, y) for name in asked}
    written = []
    for name, content in contents.items():
        written.append(inside(run, "samples", stem if name == "png" else f"{stem}.{name}"))
        if isinstance(content, bytes):
            write_whole(written[-1], content)
        else:
            write_folder(written[-1], content)
    return written


def _fitting(dataset: Dataset) -> list[str]:
    """The formats in which examples can be written."""
    one = torch.zeros(1, *dataset.spec.shape, dtype=torch.long if dataset.spec.support.discrete else torch.float)
    if dataset.to_text(one) is not None:
        return ["npz", "txt"]
    if dataset.to_image(one) is not None:
        return ["npz", "png"]
    return ["npz", "csv", "parquet"] if dataset.spec.kind == "vector" else ["npz"]


def _npz(dataset: Dataset, x: Tensor, y: Tensor | None) -> bytes:
    """Arrays ``samples`` and, where they were drawn for some, ``labels``; ``classes`` are the names of 0, 1, ..."""
    arrays = {"samples": x.numpy()} | ({} if y is None else {"labels": y.numpy()})
    if y is not None and (names := dataset.class_names()):
        arrays["classes"] = np.array(names)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _txt(dataset: Dataset, x: Tensor, y: Tensor | None) -> bytes:
    """All texts, each under its number."""
    return "".join(f"=== {i} ===\n{text}\n" for i, text in enumerate(dataset.to_text(x) or [])).encode()


def _table(dataset: Dataset, x: Tensor, y: Tensor | None) -> dict[str, Any]:
    """Columns by name: those of the data, or x0, x1, ...; then the class or the context that rows were drawn for."""
    columns: dict[str, Any] | None = dataset.to_rows(x)
    columns = dict(columns) if columns else {f"x{k}": x[:, k].numpy() for k in range(x.shape[1])}
    if y is None:
        return columns
    names, classes = dataset.context_names(), dataset.class_names()
    if y.dim() == 1:
        cells = y.numpy() if classes is None else [classes[k] for k in y.tolist()]
        return columns | {(names or ["label"])[0]: cells}
    y = y.flatten(1)
    return columns | {name: y[:, k].numpy() for k, name in enumerate(names or [f"y{k}" for k in range(y.shape[1])])}


def _csv(dataset: Dataset, x: Tensor, y: Tensor | None) -> bytes:
    """A table in UTF-8; numbers have as many digits as their type holds, a missing cell is empty."""
    columns = _table(dataset, x, y)
    short = np.float32 if x.dtype == torch.float32 else float

    def cell(value: Any) -> str:
        return "" if value is None else str(short(value)) if isinstance(value, float) else str(value)

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(cell, row) for row in zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _parquet() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("format=parquet needs pyarrow: pip install gencli-nll[parquet]") from error
    return pyarrow


def _as_parquet(dataset: Dataset, x: Tensor, y: Tensor | None) -> bytes:
    pyarrow, buffer = _parquet(), io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(_table(dataset, x, y)), buffer)
    return buffer.getvalue()


def _images(dataset: Dataset, x: Tensor, y: Tensor | None) -> dict[str, bytes]:
    """PNG files by name: the sample's number and, where it was drawn for one, its class."""
    width = len(str(len(x) - 1))
    images = dataset.to_image(x)
    assert images is not None
    of = [f"-{k}" for k in y.tolist()] if y is not None and y.dim() == 1 else [""] * len(x)
    return {f"{i:0{width}d}{of[i]}.png": canvas.png(image) for i, image in enumerate(images)}


_CONTENT: dict[str, Callable[[Dataset, Tensor, Tensor | None], bytes | dict[str, bytes]]] = {
    "npz": _npz,
    "csv": _csv,
    "parquet": _as_parquet,
    "png": _images,
    "txt": _txt,
}
