"""The network of a time field that suits a shape."""

from __future__ import annotations

from gencli.nn.auto import ByShape
from gencli.nn.residual import ResidualMLP
from gencli.nn.unet import UNet


class AutoField(ByShape):
    """``ResidualMLP`` for vectors, ``UNet`` for images; time is part of the context."""

    vector_net = ResidualMLP
    image_net = UNet
