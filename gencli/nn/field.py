"""The network of a time field that suits a shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gencli.interfaces import Network
from gencli.nn.residual import ResidualMLP
from gencli.nn.unet import UNet


class AutoField(Network):
    """``ResidualMLP`` for vectors, ``UNet`` for images.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension of the context, time among it; 0: none.
        vector: options of ``ResidualMLP``.
        image: options of ``UNet``.
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
        self.net: Network
        if len(in_shape) == 3:
            self.net = UNet(in_shape, out_shape, context, **(image or {}))
        else:
            self.net = ResidualMLP(in_shape, out_shape, context, **(vector or {}))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x, context)
