"""The weights of a model in a file that needs no gencli to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from gencli.core.errors import RunFailed, UsageError
from gencli.core.files import named, write_whole
from gencli.models.base import Model


def export(model: Model, path: str | Path, about: Mapping[str, Any]) -> Path:
    """Write the state dict of a model as one safetensors file; returns its path.

    Args:
        model: whose parameters and buffers are written, under their own names.
        path: the file, which is replaced.
        about: plain data, which stands as JSON under ``about`` in the file's metadata.

    Raises:
        UsageError: the path leads into no folder.
        RunFailed: the file cannot be written.
    """
    file = named(str(path), "export: ")
    if not file.parent.is_dir() or file.is_dir():
        raise UsageError(f"export: {file} is no file in a folder that is there")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    try:
        write_whole(file, save(tensors, {"format": "pt", "about": json.dumps(about)}))
    except OSError as error:
        raise RunFailed(f"export: {file}: {error.strerror or error}") from error
    return file
