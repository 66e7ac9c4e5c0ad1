"""Transformers on the patches of an image, steered by a context such as time and class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.options import BelowOne, Count
from gencli.core.tensors import shared
from gencli.nn.base import Network


class DiT(Network):
    """Every patch is a token; every token sees all; the context scales, shifts and gates each branch.

    With (a, b, g) linear in the context, a branch f of the residual stream is h + g f((1 + a) norm(h) + b). All of
    a, b, g and the last layer start at zero: blocks start as the identity, the network at zero (adaLN-Zero).

    Args:
        in_shape: (C, H, W) of the input.
        out_shape: (C', H, W) of the output, of the same height and width.
        context: dimension of the context, at least 1.
        patch: side of a patch in pixels.
        width: of a token.
        layers: number of blocks.
        heads: of the attention, which share the width.
        dropout: probability that a unit is dropped at the end of both branches in training.

    Raises:
        ValueError: a shape is no image, heights and widths differ, patches do not fill the image, there is no context,
            or the width cannot be shared.

    References:
        Peebles and Xie, "Scalable diffusion models with transformers", 2023; Dosovitskiy et al., "An image is worth
        16x16 words: transformers for image recognition at scale", 2021.
    """

    places: Tensor

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        patch: Count = 4,
        width: Count = 128,
        layers: Count = 4,
        heads: Count = 4,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        if len(in_shape) != 3 or len(out_shape) != 3 or in_shape[1:] != out_shape[1:]:
            raise ValueError(f"a DiT keeps an image's size: {in_shape} -> {out_shape} needs another net")
        if not context:
            raise ValueError("a DiT is steered by a context such as time; without one it needs another net")
        H, W = in_shape[1:]
        if H % patch or W % patch:
            raise ValueError(f"model.net.patch={patch}: does not divide the {H}x{W} image")
        if width % 4 or width % heads:
            raise ValueError(f"model.net.width={width}: a multiple of 4 and of model.net.heads={heads}")
        self.patch, self.rows, self.columns = patch, H // patch, W // patch
        self.first = nn.Linear(in_shape[0] * patch**2, width)
        self.register_buffer("places", positions(self.rows, self.columns, width), persistent=False)
        self.embed = nn.Sequential(nn.Linear(context, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.modulate = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, out_shape[0] * patch**2)
        for layer in (self.modulate, self.last):
            _zero(layer)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None
        c = self.embed(shared(context))
        h = self.first(self._cut(x)) + self.places
        for block in self.blocks:
            h = block(h, c)
        scale, shift = self.modulate(c)[:, None].chunk(2, -1)
        return self._join(self.last(_norm(h, scale, shift)))

    def _cut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> tokens (B, rows columns, C patch^2)."""
        return F.pixel_unshuffle(x, self.patch).flatten(2).mT

    def _join(self, tokens: Tensor) -> Tensor:
        """The inverse of ``_cut``."""
        return F.pixel_shuffle(tokens.mT.unflatten(2, (self.rows, self.columns)), self.patch)


class _Block(nn.Module):
    """Attention of all tokens to all, then an MLP, each modulated by the context."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.modulate = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        _zero(self.modulate)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        a1, b1, g1, a2, b2, g2 = self.modulate(c)[:, None].chunk(6, -1)
        h = h + g1 * self.dropout(self._attend(_norm(h, a1, b1)))
        return h + g2 * self.dropout(self.down(F.gelu(self.up(_norm(h, a2, b2)), approximate="tanh")))

    def _attend(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _norm(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of the row, then of the column, at width / 4 frequencies each: (rows columns, width)."""
    frequencies = 10_000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = [torch.arange(n)[:, None] * frequencies for n in (rows, columns)]
    row, column = (torch.cat([a.sin(), a.cos()], 1) for a in angles)
    grid = row[:, None].expand(rows, columns, -1), column.expand(rows, columns, -1)
    return torch.cat(grid, -1).flatten(0, 1)
