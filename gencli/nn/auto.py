"""The network that suits a shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from gencli.nn.base import Network
from gencli.nn.mlp import MLP
from gencli.nn.resnet import ResidualConv

TINY = 16
"""Pixels up to which an image's features are cheaper and better seen at once than through 3x3 windows."""


class Auto(Network):
    """``MLP`` for vectors and for images of at most 4x4, ``ResidualConv`` for larger images.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension of the context; 0: none.
        vector: options of ``MLP`` for vectors.
        tiny: options of ``MLP`` for tiny images.
        image: options of ``ResidualConv``.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        vector: Mapping[str, Any] | None = None,
        tiny: Mapping[str, Any] | None = None,
        image: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net: Network
        if len(in_shape) != 3:
            self.net = MLP(in_shape, out_shape, context, **(vector or {}))
        elif in_shape[1] * in_shape[2] <= TINY:
            self.net = MLP(in_shape, out_shape, context, **(tiny or {}))
        else:
            self.net = ResidualConv(in_shape, out_shape, context, **(image or {}))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x, context)


class ByShape(Network):
    """A network for images and one for vectors; the input's shape decides, or the output's where ``decides`` is 1.

    Images of at most ``tiny`` pixels count as vectors.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension of the context; 0: none.
        vector: options of ``vector_net``.
        image: options of ``image_net``.
    """

    vector_net: ClassVar[type[Network]] = MLP
    image_net: ClassVar[type[Network]]
    decides: ClassVar[int] = 0
    tiny: ClassVar[int] = 0

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
        shape = (in_shape, out_shape)[self.decides]
        is_image = len(shape) == 3 and shape[1] * shape[2] > self.tiny
        kind: Any = self.image_net if is_image else self.vector_net  # whose options are its own
        self.net: Network = kind(in_shape, out_shape, context, **((image if is_image else vector) or {}))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x, context)
