"""Where a run computes."""

from __future__ import annotations

import torch

from gencli.core import distributed
from gencli.core.errors import quoted


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, else MPS, else the CPU.

    Raises:
        ValueError: the device is not to be had on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
        near = ". Did you mean device=cuda?" if name.lower().startswith(("gpu", "nvidia")) or name.isdecimal() else ""
        raise ValueError(f"device={quoted(name)} is not to be had here: auto, cpu, cuda, cuda:1 or mps is needed{near}")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={name} is not to be had here: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # or fp32 likelihoods of convolutions would have 10 bits of mantissa
    return device


def on_this_rank(device: str, world: distributed.World) -> str:
    """Under torchrun each process takes the GPU of its local rank."""
    own = world.size > 1 and device in ("auto", "cuda") and torch.cuda.is_available()
    return f"cuda:{world.local_rank}" if own else device
