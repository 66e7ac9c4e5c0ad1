"""Checkpoints: one safetensors file, safe to open, whole or not there at all.

Tensors are named ``model/... ema/... objective/... preprocess/... optimizer.<turn>/<index>/<name>``; the header's JSON
holds the rest (step, seconds, scalars of the optimizers, best score) and a SHA-256 of all of it: damage shows.
``best`` has no optimizers: it is there to be measured and drawn from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gencli.config import stored
from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.core.files import replacing

FORMAT = 2
"""Version of the layout above; it grows when an older gencli could not read the file. In 1 the hash is of tensors."""

NAMES = ("last", "previous", "best")


def path_of(run: Path, which: str) -> Path:
    """The file of ``last``, ``previous``, ``best`` or a path.

    Raises:
        UsageError: there is no such checkpoint.
    """
    path = run / "checkpoints" / f"{which}.safetensors" if which in NAMES else Path(which)
    if path.is_file():
        return path
    there = sorted(p.stem for p in (run / "checkpoints").glob("*.safetensors"))
    raise UsageError(f"checkpoint={which}: {path} is not there. This run has: {', '.join(there) or 'none yet'}")


def write(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write a checkpoint whole.

    Args:
        path: where.
        tensors: by name; they may share memory or lie on any device.
        meta: JSON-able scalars.
        keep_previous: the file that stands there goes on as ``previous``.

    Raises:
        RunFailed: it cannot be written.
    """
    flat = _apart({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    header = {"format": str(FORMAT), "meta": json.dumps(meta)}
    with _in_place_of(path, keep_previous) as temporary:
        save_file(flat, temporary, metadata=header | {"sha256": _digest(flat, header)})


@contextmanager
def _in_place_of(path: Path, keep_previous: bool) -> Iterator[Path]:
    """A file to write a checkpoint to; what stood there before goes on as ``previous`` once it is written."""
    try:
        with replacing(path) as temporary:
            yield temporary
            if keep_previous and path.exists():
                _go_on_as_previous(path)
    except (OSError, SafetensorError) as error:
        raise RunFailed(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or quoted(error, 200)}"
        ) from error


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with memory of its own; only those that share it are copied."""
    owners = Counter(t.untyped_storage().data_ptr() for t in tensors.values())
    return {name: t.clone() if owners[t.untyped_storage().data_ptr()] > 1 else t for name, t in tensors.items()}


def _go_on_as_previous(path: Path) -> None:
    """A hard link first, so that at no moment are both names gone."""
    link = path.with_name(".previous.tmp")
    link.unlink(missing_ok=True)
    try:
        try:
            os.link(path, link)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, link)
        os.replace(link, path.with_name(f"previous{path.suffix}"))
    finally:
        link.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, on the CPU, and the scalars.

    A training that goes on may rename a new checkpoint to this path while it is read; then it is read again, since
    safetensors opens a file twice, for its header and for its tensors.

    Raises:
        RunFailed: the file is cut short, altered, no checkpoint, or of a newer format.
        UsageError: it is of another run than the folder in which it lies.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise RunFailed(f"{path} is no file.{_others(path)}")
    while True:
        stamp = _stamp(path)
        try:
            tensors, meta = _read(path)
            break
        except RunFailed:
            if _stamp(path) == stamp:
                raise
    if path.parent.name == "checkpoints":
        stored.refuse_foreign(meta.get("run"), path.parent.parent, str(path))
    return tensors, meta


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells a file from the one that was renamed to its path before."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if "meta" not in header:
            raise RunFailed(f"{path} is not a gencli checkpoint.{_others(path)}")
        written = int(header["format"])
        if written > FORMAT:
            raise RunFailed(
                f"{path} was written by a newer gencli (format {quoted(header['format'])}, this one reads {FORMAT})"
            )
        told = header.pop("sha256")
        if told != _digest(tensors, {} if written == 1 else header):
            raise RunFailed(f"{path} is damaged: it does not match its hash.{_others(path)}")
        return tensors, _meta(header["meta"])
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError, MemoryError) as error:
        raise RunFailed(f"{path} is damaged or no checkpoint ({quoted(error, 100)}).{_others(path)}") from error


_META: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "seconds": (int, float),
    "stale": (int,),
    "best": (list, type(None)),
    "logged": (list,),
    "validated": (int, type(None)),
    "optimizers": (dict,),
    "scaler": (dict,),
}


def _meta(text: str) -> dict[str, Any]:
    """The scalars, of the types that the trainer goes on with.

    Raises:
        ValueError: one is of another type.
    """
    meta = json.loads(text)
    if not isinstance(meta, dict):
        raise ValueError("its scalars are no mapping")
    for key, kinds in _META.items():
        value = meta.get(key)
        if key in meta and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise ValueError(f"{key}={quoted(value)} is of the wrong type")
    if not isinstance(meta.get("due", False), bool):
        raise ValueError(f"due={quoted(meta['due'])} is of the wrong type")
    for number in (meta.get("step", 0), meta.get("seconds", 0), meta.get("stale", 0), meta.get("validated") or 0):
        if not 0 <= number < 2**53:
            raise ValueError(f"a counter is {quoted(number)}")
    best = meta.get("best")
    if best and not (len(best) == 2 and isinstance(best[0], int | float) and isinstance(best[1], int)):
        raise ValueError(f"best={quoted(best)} is no score and step")
    logged = meta.get("logged", [0, 0.0])
    if not (len(logged) == 2 and type(logged[0]) is int and type(logged[1]) in (int, float)):
        raise ValueError(f"logged={quoted(logged)} is no step and seconds")
    return meta


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, for the record."""
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash(file.read())
        )


def pack(prefix: str, state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state_dict into tensors by name and JSON-able scalars."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}/{index}/{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    groups = [
        {key: value.item() if isinstance(value, Tensor) else value for key, value in group.items()}
        for group in state["param_groups"]
    ]
    return tensors, {"state": scalars, "param_groups": groups}


def unpack(prefix: str, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> dict[str, Any]:
    """Undo ``pack``."""
    state: dict[int, dict[str, Any]] = {int(i): dict(entries) for i, entries in scalars["state"].items()}
    for name, value in tensors.items():
        if name.startswith(prefix + "/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": scalars["param_groups"]}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part, without its prefix."""
    return {n[len(prefix) + 1 :]: t for n, t in tensors.items() if n.startswith(prefix + "/")}


def _digest(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    sha = hashlib.sha256()
    for key in sorted(header):
        sha.update(f"{key} {header[key]}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _others(path: Path) -> str:
    others = sorted(p for p in path.parent.glob("*.safetensors") if p != path)
    return " Others beside it: " + ", ".join(f"checkpoint={p.stem}" for p in others) + "." if others else ""
