"""Any energy at all, where the states can be written down: a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, Unnormalized

CELLS = 1 << 20
"""Most states of a table."""


class Tabular(Unnormalized, DataInitialized):
    """E(x) = theta[x]: a number of its own for each of the K^D states, Z = sum_x exp(-theta[x]).

    The smallest is a coin. Only differences of theta matter. States are counted with the last coordinate the fastest,
    as in an array of shape (K, ..., K). The table starts at -log of the frequencies of the data, each state counted
    once more than it was seen.

    Args:
        spec: what one example is.
        conditional: refused.

    Raises:
        ValueError: conditional, or more than 2^20 states.
    """

    supports = ("binary", "levels", "categorical")
    shapes = ("vector", "image")
    initial_examples = 1_000_000
    strides: Tensor

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an energy has another Z for each y; train one model a class")
        K, D = spec.support.size, spec.dim
        if K**D > CELLS:
            raise ValueError(f"model=tabular: {K}^{D} states; a table holds {CELLS:,} at most (model=discrete_ebm)")
        self.theta = nn.Parameter(torch.zeros(K**D))
        self.register_buffer("strides", K ** torch.arange(D - 1, -1, -1), persistent=False)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        counts = torch.bincount(self.index(x), minlength=len(self.theta)) + 1
        self.theta.copy_(-(counts / counts.sum()).log())

    def index(self, x: Tensor) -> Tensor:
        """The number of each state: (B, *) -> (B,)."""
        return (x.flatten(1).long() * self.strides).sum(1)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.theta[self.index(x)]

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        own, values = self.index(x), torch.arange(self.spec.support.size, device=x.device)
        step = (values - x.flatten(1)[:, where, None].long()) * self.strides[where, None]
        return self.theta[own[:, None, None] + step] - self.theta[own][:, None, None]
