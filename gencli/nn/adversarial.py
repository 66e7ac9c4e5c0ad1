"""Networks of a game: a critic halves an image step by step, a generator doubles one; vectors go through an MLP.

``plain`` steps are those of "Unsupervised representation learning with deep convolutional generative adversarial
networks" (Radford, Metz and Chintala, 2016) without batch normalization, which would tie the rows of a batch together;
``residual`` steps those of "Improved training of Wasserstein GANs" (Gulrajani et al., 2017).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import Count
from gencli.nn.auto import ByShape
from gencli.nn.base import Network
from gencli.nn.mlp import MLP

Steps = Literal["plain", "residual"]


class GameMLP(MLP):
    """An MLP whose last layer does not start at zero: there is no neutral element here, and zero has no slope."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], context: int, **options: Any) -> None:
        super().__init__(in_shape, out_shape, context, **options)
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.reset_parameters()


def _halvings(height: int, width: int) -> int:
    """How often both can be halved while they are even and larger than 4."""
    n = 0
    while height % 2 == width % 2 == 0 and min(height, width) > 4:
        height, width, n = height // 2, width // 2, n + 1
    return n


class CriticConv(Network):
    """A 3x3 convolution, halvings down to 4 or an odd size, a linear layer; the context is a bias of each channel."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 64,
        steps: Steps = "plain",
    ) -> None:
        super().__init__()
        channels, height, breadth = in_shape
        n = _halvings(height, breadth)
        widths = [width * min(2**i, 4) for i in range(n + 1)]
        self.out_shape = tuple(out_shape)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.context = nn.Linear(context, width, bias=False) if context else None
        step = _HalveResidual if steps == "residual" else _Halve
        self.steps = nn.Sequential(*(step(a, b) for a, b in pairwise(widths)))
        self.last = nn.Linear(widths[-1] * (height >> n) * (breadth >> n), math.prod(out_shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if self.context is not None:
            h = h + self.context(context)[:, :, None, None]
        h = F.leaky_relu(self.steps(h), 0.2)
        return self.last(h.flatten(1)).view(-1, *self.out_shape)


class _Halve(nn.Module):
    """leaky ReLU, then a 4x4 convolution of stride 2."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(F.leaky_relu(h, 0.2))


class _HalveResidual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 one, both averaged over 2x2 pixels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(n_in, n_in, 3, padding=1)
        self.two = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.two(F.leaky_relu(self.one(F.leaky_relu(h, 0.2)), 0.2))
        return F.avg_pool2d(inner, 2) + self.skip(F.avg_pool2d(h, 2))


class GeneratorConv(Network):
    """A linear layer to the smallest image, doublings, a 3x3 convolution; the context joins the vector."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 64,
        steps: Steps = "plain",
    ) -> None:
        super().__init__()
        channels, height, breadth = out_shape
        n = _halvings(height, breadth)
        widths = [width * min(2**i, 4) for i in range(n, -1, -1)]
        self.start = (widths[0], height >> n, breadth >> n)
        self.first = nn.Linear(math.prod(in_shape) + context, math.prod(self.start))
        step = _DoubleResidual if steps == "residual" else _Double
        self.steps = nn.Sequential(*(step(a, b) for a, b in pairwise(widths)))
        self.norm = _norm(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        if context is not None:
            x = torch.cat([x, context], 1)
        h = self.steps(self.first(x).view(-1, *self.start))
        return self.last(F.relu(self.norm(h)))


class _Double(nn.Module):
    """Normalization, ReLU, then a 4x4 transposed convolution of stride 2."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm = _norm(n_in)
        self.conv = nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(h)))


class _DoubleResidual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 one, after each pixel has become 2x2."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.before, self.between = _norm(n_in), _norm(n_out)
        self.one = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.two = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.one(F.interpolate(F.relu(self.before(h)), scale_factor=2.0))
        return self.two(F.relu(self.between(inner))) + F.interpolate(self.skip(h), scale_factor=2.0)


def _norm(channels: int) -> nn.GroupNorm:
    """Statistics of a row alone (Wu and He, "Group normalization", 2018)."""
    return nn.GroupNorm(math.gcd(channels, 8), channels)


class CriticNet(ByShape):
    """An image or a vector -> a few numbers.

    Options of images: ``width`` channels at full resolution, twice as many after each halving up to four times, and
    ``steps``, ``plain`` or ``residual``; of vectors those of ``MLP``.
    """

    vector_net = GameMLP
    image_net = CriticConv


class GeneratorNet(ByShape):
    """A vector -> an image or a vector; the options are those of ``CriticNet``."""

    vector_net = GameMLP
    image_net = GeneratorConv

    @classmethod
    def between(cls, image_in: bool, image_out: bool) -> type[Network]:
        return cls.image_net if image_out else cls.vector_net
