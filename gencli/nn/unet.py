"""U-Nets: residual blocks on the way down and up, attention where the image is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import BelowOne, Count, Natural, Range
from gencli.core.tensors import shared
from gencli.nn.base import Network


class UNet(Network):
    """Down by strided convolutions, up by nearest neighbours, every stage with a skip across.

    The context shifts and scales every block. The last layer and the last one of each block start at zero. Odd sizes
    are halved upwards (7 -> 4), so any image fits.

    Args:
        in_shape: (C, H, W) of the input.
        out_shape: (C', H, W) of the output, of the same height and width.
        context: dimension of the context; 0: none.
        width: channels at full resolution.
        multipliers: channels of each resolution in units of width, from full resolution down.
        blocks: residual blocks at each resolution, on the way down; one more on the way up.
        attention: self-attention where height and width are at most this.
        heads: of the attention.
        groups: of the group norms, as far as they divide the channels.
        dropout: probability that a channel is dropped within a block in training.

    Raises:
        ValueError: a shape is no image, or heights and widths differ.

    References:
        Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation", 2015; Ho, Jain
        and Abbeel, "Denoising diffusion probabilistic models", 2020.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Count = 32,
        multipliers: Annotated[Sequence[Count], Range(low=1)] = (1, 2, 2),
        blocks: Count = 1,
        attention: Natural = 8,
        heads: Count = 4,
        groups: Count = 8,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        if len(in_shape) != 3 or len(out_shape) != 3 or in_shape[1:] != out_shape[1:]:
            raise ValueError(f"a U-Net keeps an image's size: {in_shape} -> {out_shape} needs another net")
        embedded = 4 * width if context else 0
        layers = [nn.Linear(context, embedded), nn.SiLU(), nn.Linear(embedded, embedded), nn.SiLU()] if context else []
        self.embed = nn.Sequential(*layers)

        def block(n_in: int, n_out: int, side: int) -> _Block:
            return _Block(n_in, n_out, embedded, heads if side <= attention else 0, groups, dropout)

        side, channels = max(in_shape[1:]), width
        self.first = nn.Conv2d(in_shape[0], width, 3, padding=1)
        self.down, kept = nn.ModuleList(), [width]
        sides = []
        for level, multiplier in enumerate(multipliers):
            sides.append(side)
            for _ in range(blocks):
                self.down.append(block(channels, width * multiplier, side))
                channels = width * multiplier
                kept.append(channels)
            if level < len(multipliers) - 1:
                self.down.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                kept.append(channels)
                side = (side + 1) // 2
        self.middle = nn.ModuleList([block(channels, channels, side), block(channels, channels, side)])
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                self.up.append(block(channels + kept.pop(), width * multiplier, sides[level]))
                channels = width * multiplier
            if level:
                self.up.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.norm = _norm(channels, groups)
        self.last = nn.Conv2d(channels, out_shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        c = None if context is None else self.embed(shared(context))
        h = self.first(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, c) if isinstance(layer, _Block) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, c)
        for layer in self.up:
            if isinstance(layer, _Block):
                h = layer(torch.cat([h, skips.pop()], 1), c)
            else:
                h = layer(F.interpolate(h, size=skips[-1].shape[-2:], mode="nearest"))
        return self.last(F.silu(self.norm(h)))


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class _Block(nn.Module):
    """h + W_2 silu(norm(W_1 silu(norm(h))) (1 + scale(c)) + shift(c)), then attention if heads."""

    def __init__(self, n_in: int, n_out: int, context: int, heads: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(n_in, groups), _norm(n_out, groups)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.modulate = nn.Linear(context, 2 * n_out) if context else None
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)
        self.attention = _Attention(n_out, heads, groups) if heads else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        r = self.norm2(self.conv1(F.silu(self.norm1(h))))
        if self.modulate is not None and c is not None:
            scale, shift = self.modulate(c)[:, :, None, None].chunk(2, 1)
            r = r * (1 + scale) + shift
        return self.attention(self.skip(h) + self.conv2(self.dropout(F.silu(r))))


class _Attention(nn.Module):
    """h + W softmax(q k / sqrt(d)) v over all pixels."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"model.net.heads={heads}: does not divide the {channels} channels")
        self.heads, self.norm = heads, _norm(channels, groups)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.last = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor) -> Tensor:
        B, C, H, W = h.shape
        q, k, v = self.qkv(self.norm(h)).view(B, 3, self.heads, C // self.heads, H * W).mT.unbind(1)
        return h + self.last(F.scaled_dot_product_attention(q, k, v).mT.reshape(B, C, H, W))
