"""Networks of energies: smooth, because losses and chains need their gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gencli.core.options import Count, Natural, Range
from gencli.nn.auto import ByShape
from gencli.nn.base import Network
from gencli.nn.mlp import ACTIVATIONS, Activation


class SmoothConv(Network):
    """A 3x3 convolution, convolutions of stride 2, and a linear layer that starts at zero.

    Args:
        in_shape: (C, H, W).
        out_shape: event shape of the output.
        context: refused unless 0.
        width: channels of each convolution; the first keeps the resolution, each further one halves it.
        activation: one of ``ACTIVATIONS``.
        spectral_norm: divide every weight but the last by its largest singular value.

    Raises:
        ValueError: a context, or more layers than the image can be halved.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Annotated[Sequence[Count], Range(low=1)] = (32, 64, 128),
        activation: Activation = "silu",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        if context:
            raise ValueError("this network takes no context")
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(pairwise([in_shape[0], *width])):
            conv = nn.Conv2d(n_in, n_out, 3 if i == 0 else 4, 1 if i == 0 else 2, padding=1)
            layers += [parametrizations.spectral_norm(conv) if spectral_norm else conv, ACTIVATIONS[activation]()]
        self.body = nn.Sequential(*layers)
        height, breadth = (side >> (len(width) - 1) for side in in_shape[1:])
        if min(height, breadth) < 1:
            raise ValueError(f"net.image.width has {len(width)} layers, too many for images of {in_shape[1:]}")
        self.last = nn.Linear(width[-1] * height * breadth, math.prod(out_shape))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.out_shape = tuple(out_shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.last(self.body(x).flatten(1)).view(-1, *self.out_shape)


class EnergyNet(ByShape):
    """``MLP`` for vectors, ``SmoothConv`` for images."""

    image_net = SmoothConv


class ResidualEnergy(Network):
    """A 3x3 convolution, two residual blocks that halve the image, more of them, the mean over pixels, a linear layer.

    Blocks are h + W_2 silu(W_1 silu(h)) of 3x3 convolutions, whose second one starts at zero; the last layer does, too.

    Args:
        in_shape: (C, H, W).
        out_shape: event shape of the output.
        context: refused unless 0.
        width: channels.
        blocks: residual blocks at a quarter of the size.

    Raises:
        ValueError: a context, or no image.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions", 2021 (width 64, 6 blocks).
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 64,
        blocks: Natural = 6,
    ) -> None:
        super().__init__()
        if context:
            raise ValueError("this network takes no context")
        if len(in_shape) != 3:
            raise ValueError(f"net=residual_energy is for images; this data has the shape {in_shape}")
        self.first = nn.Conv2d(in_shape[0], width, 3, padding=1)
        self.blocks = nn.Sequential(*(_Residual(width, halve=i < 2) for i in range(2 + blocks)))
        self.last = nn.Linear(width, math.prod(out_shape))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.out_shape = tuple(out_shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = F.silu(self.blocks(self.first(x)))
        return self.last(h.mean((2, 3))).view(-1, *self.out_shape)


class _Residual(nn.Module):
    """h + W_2 silu(W_1 silu(h)); where it halves, both are averaged over 2x2 pixels."""

    def __init__(self, width: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.one = nn.Conv2d(width, width, 3, padding=1)
        self.two = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.two.weight)
        assert self.two.bias is not None
        nn.init.zeros_(self.two.bias)

    def forward(self, h: Tensor) -> Tensor:
        inner = F.silu(self.one(F.silu(h)))
        if self.halve:  # before the second convolution, which then costs a quarter
            inner, h = (F.avg_pool2d(t, 2, ceil_mode=True) for t in (inner, h))
        return h + self.two(inner)
