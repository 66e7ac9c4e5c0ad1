"""The body of a decoder-only transformer: causal attention with rotary positions, one token seen after another.

References:
    Vaswani et al., "Attention is all you need", 2017.
    Radford et al., "Language models are unsupervised multitask learners", 2019 (pre-norm).
    Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
    Shazeer, "GLU variants improve transformer", 2020.
    So et al., "Primer: searching for efficient transformers for language modeling", 2021 (squared ReLU).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "relu2", "swiglu"]


class Cache:
    """Keys and values of what each layer has seen, for decoding; ``length``: how many tokens that are.

    Args:
        layers: number of layers.
        shape: (B, heads, longest, width of a head).
        like: a tensor of the dtype and device.
    """

    def __init__(self, layers: int, shape: tuple[int, int, int, int], like: Tensor) -> None:
        rows, heads, longest, width = shape
        self.both = [like.new_empty(rows, 2 * heads, longest, width) for _ in range(layers)]
        self.length = 0

    def extended(self, layer: int, new: Tensor) -> Tensor:
        """Keys and values (B, 2 heads, length + t, d) of a layer that has seen t new tokens (B, 2 heads, t, d)."""
        end = self.length + new.shape[2]
        self.both[layer][:, :, self.length : end] = new
        return self.both[layer][:, :, :end]


class Attention(nn.Module):
    """Causal attention of several heads.

    Args:
        width: of a token.
        heads: number of heads, which share the width.
        dropout: of the attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, h: Tensor, turn: Tensor, cache: Cache | None, layer: int) -> Tensor:
        """(B t, width) -> (B t, width); turn: of the t positions, see ``rotate_``."""
        t, width = len(turn), h.shape[1]
        qkv = rotate_(self.qkv(h).view(-1, t, 3 * self.heads, width // self.heads), turn).transpose(1, 2)
        q, kv = qkv.split((self.heads, 2 * self.heads), 1)
        if cache is not None:
            assert cache.length == 0 or t == 1
            kv = cache.extended(layer, kv)
        k, v = kv.chunk(2, 1)
        mixed = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=t > 1
        )
        return self.out(mixed.transpose(1, 2).reshape(-1, width))


def rotate_(x: Tensor, turn: Tensor) -> Tensor:
    """Turn coordinate pairs (2j, 2j + 1) of x (B, t, m, d) by angles of each token: turn (t, 1 or m, d/2), e^(i angle).

    One complex product, in place, costs less than half of what sines and cosines on halves cost.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # there are no complex numbers of bf16
    torch.view_as_complex(wide.view(*x.shape[:-1], -1, 2)).mul_(turn)
    return wide.to(x.dtype)


class Block(nn.Module):
    """h + attention(norm h), then h + mlp(norm h).

    Args:
        width: of a token.
        heads: of the attention.
        hidden: width of the layer within the MLP.
        activation: ``gelu``, ``relu2`` (the square of the ReLU) or ``swiglu``.
        dropout: of the attention weights and of both branches.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads, dropout)
        self.norm_mlp = nn.LayerNorm(width, bias=False)
        self.activation = activation
        self.into = nn.Linear(width, 2 * hidden if activation == "swiglu" else hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)
        self.dropout = dropout

    def forward(self, h: Tensor, turn: Tensor, cache: Cache | None, layer: int) -> Tensor:
        h = h + self._drop(self.attention(self.norm_attention(h), turn, cache, layer))
        u = self.into(self.norm_mlp(h))
        if self.activation == "swiglu":
            gate, u = u.chunk(2, -1)
            u = F.silu(gate) * u
        else:
            u = F.gelu(u) if self.activation == "gelu" else F.relu(u).square()
        return h + self._drop(self.out(u))

    def _drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.dropout, self.training) if self.dropout else h


class CausalTransformer(nn.Module):
    """Pre-norm blocks and a last norm; token t sees the tokens 1..t.

    Args:
        length: the most tokens.
        width: of a token.
        layers: number of blocks.
        heads: of the attention.
        hidden: width of the layer within each MLP; None: 4 widths, or 8/3 for ``swiglu``, which is as many weights.
        activation: ``gelu``, ``relu2`` or ``swiglu``.
        dropout: probability that a unit is dropped in training.

    Raises:
        ValueError: the heads do not share the width in even parts.
    """

    turn: Tensor

    def __init__(
        self,
        length: int,
        *,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"model.width={width}: a multiple of twice model.heads={heads}")
        if hidden is None:
            hidden = 8 * width // 3 if activation == "swiglu" else 4 * width
        self.length, self.width, self.heads = length, width, heads
        self.blocks = nn.ModuleList([Block(width, heads, hidden, activation, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, bias=False)
        half = width // heads // 2
        angle = torch.arange(length)[:, None] * 10_000.0 ** -(torch.arange(half) / half)
        # of queries and keys; values are turned by nothing, which costs less than to hold them apart
        angle = torch.cat([angle, angle, torch.zeros_like(angle)], 1).view(length, 3, 1, half)
        angle = angle.expand(-1, -1, heads, -1).flatten(1, 2)
        turn = torch.stack([angle.cos(), angle.sin()], -1)  # reals: .double() would make a real of a complex
        self.register_buffer("turn", turn, persistent=False)
        for name, weight in self.named_parameters():  # GPT-2's start: branches into the residual stream are smaller
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5 if name.endswith("out.weight") else 0.02)

    def cache(self, n: int) -> Cache:
        """An empty cache for n rows."""
        shape = (n, self.heads, self.length, self.width // self.heads)
        return Cache(len(self.blocks), shape, self.norm.weight)

    def forward(self, h: Tensor, cache: Cache | None = None) -> Tensor:
        """Tokens (B, t, width) -> (B, t, width); with a cache, tokens that follow those in it (all, or one)."""
        past = 0 if cache is None else cache.length
        B, t, width = h.shape
        h = h.reshape(-1, width)  # matrices, whose products need no views
        turn = torch.view_as_complex(self.turn[past : past + t])
        for layer, block in enumerate(self.blocks):
            h = block(h, turn, cache, layer)
        if cache is not None:
            cache.length = past + t
        return self.norm(h).view(B, t, width)
