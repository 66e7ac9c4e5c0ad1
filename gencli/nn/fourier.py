"""Features of a scalar, such as time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """s (B, S) -> s itself, and sin and cos of w_k s for K frequencies from pi/2 to ``highest`` pi: (B, S (1 + 2K)).

    Args:
        count: K.
        highest: the highest frequency in units of pi; low ones keep what is learned smooth in s.
    """

    frequencies: Tensor

    def __init__(self, count: int = 8, highest: float = 16.0) -> None:
        super().__init__()
        grid = torch.linspace(math.log(0.5), math.log(highest), count)
        self.register_buffer("frequencies", math.pi * grid.exp(), persistent=False)
        self.size = 1 + 2 * count

    def forward(self, s: Tensor) -> Tensor:
        angle = s[..., None] * self.frequencies
        return torch.cat([s[..., None], angle.sin(), angle.cos()], -1).flatten(1)
