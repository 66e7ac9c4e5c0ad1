"""Networks between an image and a vector: down a pyramid of resolutions to a code, or up from it."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from gencli.core.options import Count, Range
from gencli.nn.auto import ByShape
from gencli.nn.base import Network
from gencli.nn.mlp import ACTIVATIONS, MLP, Activation

Levels = Annotated[int, Range(low=1, high=16)]


def _sides(shape: tuple[int, ...], levels: int) -> list[tuple[int, int]]:
    """Height and width at each level, the image's own first; odd ones are halved upwards."""
    sides = [(shape[1], shape[2])]
    for _ in range(levels):
        height, width = sides[-1]
        sides.append(((height + 1) // 2, (width + 1) // 2))
    return sides


class Down(Network):
    """5x5 convolutions of stride 2, each with twice the channels of the one before, then fully connected layers.

    The context joins the flattened features. The last layer starts at zero.

    Args:
        in_shape: (C, H, W).
        out_shape: any shape.
        context: dimension of the context; 0: none.
        width: channels after the first convolution.
        levels: number of convolutions.
        hidden: width of the fully connected layer.
        activation: between the layers.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 32,
        levels: Levels = 2,
        hidden: Count = 256,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_shape[0]
        for level in range(levels):
            layers += [nn.Conv2d(channels, width << level, 5, stride=2, padding=2), ACTIVATIONS[activation]()]
            channels = width << level
        self.convolutions = nn.Sequential(*layers)
        flat = (channels, *_sides(in_shape, levels)[-1])
        self.head = MLP(flat, out_shape, context, hidden=[hidden], activation=activation)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.head(self.convolutions(x), context)


class Up(Network):
    """The mirror of ``Down``: fully connected layers, then 5x5 transposed convolutions that double height and width.

    The context joins the input. The last convolution starts at zero.

    Args:
        in_shape: any shape.
        out_shape: (C, H, W).
        context: dimension of the context; 0: none.
        width: channels before the last convolution.
        levels: number of convolutions.
        hidden: width of the fully connected layer.
        activation: between the layers.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 32,
        levels: Levels = 2,
        hidden: Count = 256,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        sides = _sides(out_shape, levels)
        self.start = (width << (levels - 1), *sides[-1])
        self.first = nn.Sequential(
            nn.Linear(math.prod(in_shape) + context, hidden),
            ACTIVATIONS[activation](),
            nn.Linear(hidden, math.prod(self.start)),
            ACTIVATIONS[activation](),
        )
        layers: list[nn.Module] = []
        for level in reversed(range(levels)):
            out = width << (level - 1) if level else out_shape[0]
            # An odd side was halved upwards: doubling it must give one pixel less
            padding = (1 - sides[level][0] % 2, 1 - sides[level][1] % 2)
            layers.append(nn.ConvTranspose2d(width << level, out, 5, stride=2, padding=2, output_padding=padding))
            if level:
                layers.append(ACTIVATIONS[activation]())
        last = layers[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.convolutions = nn.Sequential(*layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        if context is not None:
            x = torch.cat([x, context], 1)
        return self.convolutions(self.first(x).view(-1, *self.start))


class Pyramid(ByShape):
    """``Down`` from an image to a vector, ``Up`` from a vector to an image, else an ``MLP``.

    Images of at most 8x8 pixels are seen at once: 5x5 windows would cost more and see less.
    """

    small = 64
    image_net = Down

    @classmethod
    def between(cls, image_in: bool, image_out: bool) -> type[Network]:
        if image_in == image_out:
            return cls.vector_net
        return Down if image_in else Up
