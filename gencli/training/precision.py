"""The number format in which networks compute while they are trained."""

from __future__ import annotations

import torch

from gencli.config.sections import TrainerOptions
from gencli.core import distributed
from gencli.core.errors import UsageError


def precision(options: TrainerOptions, device: torch.device, world: distributed.World) -> torch.dtype:
    """The value gate of what training alone knows; returns the number format of the networks.

    Raises:
        UsageError: the batch does not divide, or the device lacks the precision.
    """
    pieces = options.accumulate * world.size
    if options.rows % pieces:
        raise UsageError(
            f"trainer.batch_size={options.rows} does not divide into {pieces} equal parts "
            f"({options.accumulate} micro-batches on {world.size} processes)"
        )
    if options.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if options.precision == "fp16" and device.type == "cpu":
        raise UsageError("trainer.precision=fp16 needs a GPU: fp32 or bf16 on a CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
