"""Metropolis-Hastings on networks: a tie is dropped, or any dyad turned over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.kernels.base import Energy, Info, Kernel
from gencli.kernels.gibbs import Sites


@dataclass(frozen=True, kw_only=True)
class TieNoTie(Kernel[Sites]):
    """Half of the proposals turn over one of the E ties, drawn at random, and half one of all D dyads.

    Networks are sparse: a dyad drawn at random is a tie to be added, which is refused as a rule. A tie is added with

        q(y + ij | y) = 1 / (2 D)  (1 / D where E = 0),    q(y | y + ij) = 1 / (2 (E + 1)) + 1 / (2 D),

    from which follows the ratio of Metropolis and Hastings; a tie is dropped with its inverse. Bits of any other kind
    can be moved like this, too.

    Args:
        toggles: proposals a step.

    References:
        Morris, Handcock and Hunter, "Specification of exponential-family random graph models: terms and computational
        aspects", 2008.
    """

    moves = ("binary",)
    layouts = ("network",)
    toggles: Count = 100

    def init(self, energy: Energy, x: Tensor) -> Sites:
        return Sites(x.detach())

    @torch.no_grad()
    def step(self, energy: Energy, state: Sites, noise: Noise) -> tuple[Sites, Info]:
        x = state.x.clone()
        ties = Ties(x.flatten(1))
        u = noise.rand(len(x), 3 * self.toggles).to(x).view(len(x), 3, self.toggles).unbind(2)
        accepted = x.new_zeros(len(x))
        for coin, pick, level in (part.unbind(1) for part in u):
            rank, where, ratio = ties.propose(coin, pick)
            accept = (ratio - energy.toggles(x, where)).clamp(max=0).exp()
            ties.turn(rank, where, level < accept)
            accepted += accept
        accepted /= self.toggles
        return Sites(x), Info(x, energy(x), accepted, {"acceptance": accepted})


class Ties:
    """Which bits of x (n, D) are 1, so that one of them can be drawn without looking at all; x is changed in place.

    Args:
        x: floats, contiguous.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, D = x, x.shape[1]
        self.order = x.argsort(dim=1, descending=True, stable=True)  # row i: its E_i ties come first
        self.count = x.sum(1).long()
        E = torch.arange(D, device=x.device, dtype=torch.float64)
        drops, adds = 0.5 / (E + 1) + 0.5 / D, 0.5 * (1 + (E == 0).double()) / D
        self.ratios = (drops / adds).log().to(x)  # of a tie that is added to E of them

    def propose(self, coin: Tensor, pick: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Dyads to be turned over, from uniform numbers (n,).

        Returns:
            where each lies in the order, the dyad itself, and log q(y | y') - log q(y' | y).
        """
        E, D = self.count, self.x.shape[1]
        among = torch.where((coin < 0.5) & (E > 0), E, D)
        rank = torch.minimum((pick.double() * among).long(), among - 1)
        tie = rank < E
        ratio = self.ratios[(E - tie.long()).clamp(max=D - 1)]
        return rank, self.order.gather(1, rank[:, None])[:, 0], torch.where(tie, -ratio, ratio)

    def turn(self, rank: Tensor, where: Tensor, accept: Tensor) -> None:
        """Turn over the dyads (n,) of rows that accept."""
        at, here, E = where[:, None], rank[:, None], self.count
        tie = rank < E
        self.x.scatter_(1, at, (tie ^ accept).to(self.x)[:, None])
        # swapped with the last tie, or with the first dyad that is none; rows that refuse swap a dyad with itself
        edge = torch.where(accept, E - tie.long(), rank)[:, None]
        other = self.order.gather(1, edge)
        self.order.scatter_(1, here, other).scatter_(1, edge, at)
        self.count = E + accept.long() * (1 - 2 * tie.long())
