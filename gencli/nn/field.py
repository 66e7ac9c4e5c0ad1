"""The network of a time field that suits a shape."""

from __future__ import annotations

from gencli.nn.auto import ByShape
from gencli.nn.residual import ResidualMLP
from gencli.nn.unet import UNet


class AutoField(ByShape):
    """``ResidualMLP`` for vectors and images of at most 8x8, ``UNet`` for larger ones; time is part of the context.

    The exact trace of an ODE takes a derivative a pixel, which convolutions make dear where it is possible at all.
    """

    tiny = 64

    vector_net = ResidualMLP
    image_net = UNet
