"""The network that suits a shape: convolutions for images, fully connected layers for all else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from torch import Tensor

from gencli.core.options import OptionsOf
from gencli.nn.base import Network
from gencli.nn.mlp import MLP
from gencli.nn.residual import ResidualMLP
from gencli.nn.resnet import ResidualConv
from gencli.nn.unet import UNet

OfVectors = Annotated[Mapping[str, Any], OptionsOf("vector_net", given=3)]
OfImages = Annotated[Mapping[str, Any], OptionsOf("image_net", given=3)]


class ByShape(Network):
    """One network for images and one for vectors; images of at most ``small`` pixels count as vectors.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension of the context; 0: none.
        vector: options of ``vector_net``.
        image: options of ``image_net``.
    """

    vector_net: ClassVar[type[Network]] = MLP
    image_net: ClassVar[type[Network]]
    small: ClassVar[int] = 0

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        vector: OfVectors | None = None,
        image: OfImages | None = None,
    ) -> None:
        super().__init__()
        large = (len(shape) == 3 and shape[1] * shape[2] > self.small for shape in (in_shape, out_shape))
        kind: Any = self.between(*large)  # whose options are its own
        chosen = vector if kind is self.vector_net else image
        self.net: Network = kind(in_shape, out_shape, context, **(chosen or {}))

    @classmethod
    def between(cls, image_in: bool, image_out: bool) -> type[Network]:
        """The network between an input and an output that are images or not; here the input decides."""
        return cls.image_net if image_in else cls.vector_net

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x, context)

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.slope(x)


class Auto(ByShape):
    """``MLP`` for vectors and for images of at most 4x4, ``ResidualConv`` for larger images.

    So few pixels are cheaper and better seen at once than through 3x3 windows.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension of the context; 0: none.
        vector: options of ``MLP`` for vectors.
        tiny: options of ``MLP`` for tiny images.
        image: options of ``ResidualConv``.
    """

    image_net = ResidualConv
    small = 16

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        vector: OfVectors | None = None,
        tiny: OfVectors | None = None,
        image: OfImages | None = None,
    ) -> None:
        flat = tiny if len(in_shape) == 3 else vector
        super().__init__(in_shape, out_shape, context, vector=flat, image=image)


class AutoField(ByShape):
    """``ResidualMLP`` for vectors and images of at most 8x8, ``UNet`` for larger ones; time is part of the context.

    The exact trace of an ODE takes a derivative a pixel, which convolutions make dear where it is possible at all.
    """

    vector_net = ResidualMLP
    image_net = UNet
    small = 64
