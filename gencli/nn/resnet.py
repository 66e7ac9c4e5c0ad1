"""Residual convolutional networks that keep the resolution of an image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import BelowOne, Count, Natural
from gencli.nn.base import Network


class ResidualConv(Network):
    """A 3x3 convolution in, residual blocks (3x3, then 1x1), a 3x3 convolution out.

    The context is a bias of each channel of the first convolution. The last convolution starts at zero.

    Args:
        in_shape: (C, H, W) of the input.
        out_shape: (C', H, W) of the output, of the same height and width.
        context: dimension of the context; 0: none.
        width: channels inside.
        blocks: number of residual blocks.
        dropout: probability that a whole channel is dropped within a block in training.

    Raises:
        ValueError: a shape is no image, or heights and widths differ.

    References:
        He, Zhang, Ren and Sun, "Identity mappings in deep residual networks", 2016 (pre-activation blocks).
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 64,
        blocks: Natural = 2,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        if len(in_shape) != 3 or len(out_shape) != 3 or in_shape[1:] != out_shape[1:]:
            raise ValueError(f"convolutions keep an image's size: {in_shape} -> {out_shape} needs another net")
        self.first = nn.Conv2d(in_shape[0], width, 3, padding=1)
        self.context = nn.Linear(context, width, bias=False) if context else None
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(blocks))
        self.last = nn.Conv2d(width, out_shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if self.context is not None and context is not None:
            h = h + self.context(context)[:, :, None, None]
        for block in self.blocks:
            h = block(h)
        return self.last(F.relu(h))


class _Block(nn.Module):
    """h + W_2 relu(W_1 relu(h)), with W_1 a 3x3 and W_2 a 1x1 convolution."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.mix(self.dropout(F.relu(self.spatial(F.relu(h)))))
