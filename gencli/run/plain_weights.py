"""The weights of a model in a file that needs no gencli to be read.

Tensors have the names that they have in the modules; preprocessing is not in the file. This is the density of
``gencli train model=nice data=moons`` in plain PyTorch::

    import math, torch
    from safetensors.torch import load_file

    state = load_file("model.safetensors")
    linear = torch.nn.functional.linear

    def log_prob(x):
        log_det, names = 0.0, sorted({int(name.split(".")[2]) for name in state})
        for at in (f"transform.transforms.{k}." for k in names):
            if at + "log_scale" in state:  # ActNorm
                x = x * state[at + "log_scale"].exp() + state[at + "shift"]
                log_det = log_det + state[at + "log_scale"].sum()
            elif at + "order" in state:  # Permutation
                x = x[:, state[at + "order"]]
            else:  # additive coupling: an MLP of the first half shifts the second
                kept, moved = x.tensor_split([x.shape[1] // 2], 1)
                layers, h = [k for k in range(0, 99, 2) if f"{at}net.net.layers.{k}.weight" in state], kept
                for k in layers:
                    h = linear(h, *(state[f"{at}net.net.layers.{k}.{kind}"] for kind in ("weight", "bias")))
                    h = torch.nn.functional.silu(h) if k < layers[-1] else h
                x = torch.cat([kept, moved + h], 1)
        return log_det - 0.5 * (x.square().sum(1) + x.shape[1] * math.log(2 * math.pi))
"""

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
