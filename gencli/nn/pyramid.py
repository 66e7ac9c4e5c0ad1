"""Networks between an image and a vector: down a pyramid of resolutions to a code, or up from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gencli.nn.base import Network
from gencli.nn.mlp import MLP, activation_of

SMALL = 64
"""Pixels up to which an image is seen at once: 5x5 windows would cost more and see less."""


class Pyramid(Network):
    """Convolutions that halve an image down to a vector, or double a vector up to an image.

    Between vectors, and for images of at most 8x8 pixels, it is an ``MLP``.

    Args:
        in_shape: event shape of the input: an image or a vector.
        out_shape: event shape of the output: the other of the two, or a vector.
        context: dimension of the context; 0: none.
        vector: options of ``MLP``.
        image: options of ``Down`` and ``Up``.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        vector: Mapping[str, Any] | None = None,
        image: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        large = [len(shape) == 3 and math.prod(shape[1:]) > SMALL for shape in (in_shape, out_shape)]
        self.net: Network
        if large == [True, False]:
            self.net = Down(in_shape, out_shape, context, **(image or {}))
        elif large == [False, True]:
            self.net = Up(in_shape, out_shape, context, **(image or {}))
        else:
            self.net = MLP(in_shape, out_shape, context, **(vector or {}))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x, context)


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
        activation: of ``nn.mlp``.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: int = 32,
        levels: int = 2,
        hidden: int = 256,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_shape[0]
        for level in range(levels):
            layers += [nn.Conv2d(channels, width << level, 5, stride=2, padding=2), activation_of(activation)]
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
        activation: of ``nn.mlp``.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: int = 32,
        levels: int = 2,
        hidden: int = 256,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        sides = _sides(out_shape, levels)
        self.start = (width << (levels - 1), *sides[-1])
        self.first = nn.Sequential(
            nn.Linear(math.prod(in_shape) + context, hidden),
            activation_of(activation),
            nn.Linear(hidden, math.prod(self.start)),
            activation_of(activation),
        )
        layers: list[nn.Module] = []
        for level in reversed(range(levels)):
            out = width << (level - 1) if level else out_shape[0]
            # An odd side was halved upwards: doubling it must give one pixel less
            padding = (1 - sides[level][0] % 2, 1 - sides[level][1] % 2)
            layers.append(nn.ConvTranspose2d(width << level, out, 5, stride=2, padding=2, output_padding=padding))
            if level:
                layers.append(activation_of(activation))
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
