"""Residual fully connected networks for functions of a vector and a time."""

from __future__ import annotations

import math

from torch import Tensor, nn

from gencli.core import sizes
from gencli.core.options import Auto, BelowOne, Count, Natural
from gencli.core.tensors import shared
from gencli.nn.base import Network


class ResidualMLP(Network):
    """h <- h + W_2 silu(W_1 silu(norm(h)) + V c): the context c is felt at the start and in every block.

    The last layer starts at zero. Images are flattened.

    Args:
        in_shape: event shape of the input.
        out_shape: event shape of the output.
        context: dimension of the context; 0: none.
        width: units of a hidden layer; auto: ``sizes.width`` of the inputs.
        blocks: number of residual blocks.
        norm: layer norm in front of every block.
        dropout: probability that a hidden unit is dropped in training.

    References:
        He, Zhang, Ren and Sun, "Identity mappings in deep residual networks", 2016 (pre-activation blocks).
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        context: int,
        *,
        width: Auto[Count] = "auto",
        blocks: Natural = 3,
        norm: bool = False,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        units: int = sizes.settle(self, "width", width, sizes.width(math.prod(in_shape)))
        # x has a layer of its own: among many features of time its weights would start so small that the network is
        # nearly linear in x, which for symmetric data is a saddle that training hardly leaves
        self.first = nn.Linear(math.prod(in_shape), units)
        self.context = (
            nn.Sequential(nn.Linear(context, units), nn.SiLU(), nn.Linear(units, (blocks + 1) * units))
            if context
            else None
        )
        self.norms = nn.ModuleList(nn.LayerNorm(units) if norm else nn.Identity() for _ in range(blocks))
        self.up = nn.ModuleList(nn.Linear(units, units) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(units, units) for _ in range(blocks))
        self.act, self.dropout = nn.SiLU(), nn.Dropout(dropout)
        self.last = nn.Linear(units, math.prod(out_shape))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        shifts: list[Tensor | float] = [0.0] * (len(self.up) + 1)
        if self.context is not None and context is not None:
            shifts = list(self.context(shared(context)).chunk(len(shifts), 1))
        h = self.first(x.flatten(1)) + shifts.pop()
        for norm, up, down, shift in zip(self.norms, self.up, self.down, shifts, strict=True):
            h = h + down(self.dropout(self.act(up(self.act(norm(h))) + shift)))
        return self.last(self.act(h)).view(-1, *self.out_shape)
