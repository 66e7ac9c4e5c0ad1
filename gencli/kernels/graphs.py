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
    toggles: Count = 100

    def init(self, energy: Energy, x: Tensor) -> Sites:
        return Sites(x.detach())

    @torch.no_grad()
    def step(self, energy: Energy, state: Sites, noise: Noise) -> tuple[Sites, Info]:
        x = state.x.clone()
        ties = Ties(x.flatten(1))
        u = noise.rand(len(x), 3 * self.toggles).to(x.device).view(len(x), 3, self.toggles)
        accepted = x.new_zeros(len(x))
        for t in range(self.toggles):
            where, ratio = ties.propose(u[:, 0, t], u[:, 1, t])
            accept = (ratio - energy.toggles(x, where)).clamp(max=0).exp()
            ties.turn(where, u[:, 2, t] < accept)
            accepted += accept
        accepted /= self.toggles
        return Sites(x), Info(x, energy(x), accepted, {"acceptance": accepted})


class Ties:
    """Which bits of x (n, D) are 1, so that one of them can be drawn without looking at all; x is changed in place.

    Args:
        x: floats, contiguous.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, (n, self.D) = x, x.shape
        self.order = x.argsort(dim=1, descending=True, stable=True)  # row i: its E_i ties come first
        self.place = self.order.argsort(dim=1)  # where each dyad lies in the order
        self.count = x.sum(1).long()

    def propose(self, coin: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Dyads (n,) to be turned over, and log q(y | y') - log q(y' | y), from uniform numbers (n,)."""
        E, D = self.count, self.D
        among = torch.where((coin < 0.5) & (E > 0), E, D)
        rank = (pick.double() * among).long().clamp(max=D - 1)
        rank = torch.minimum(rank, among - 1)
        # a dyad that is drawn from all of them is one of the order, too
        where = self.order.gather(1, rank[:, None])[:, 0]
        tie = rank < E
        most = torch.where(tie, E, E + 1).double()  # ties in the one of y and y' that has more
        adds = torch.where(most == 1, 1.0, 0.5) / D
        drops = 0.5 / most + 0.5 / D
        ratio = (drops / adds).log()
        return where, torch.where(tie, -ratio, ratio).to(self.x)

    def turn(self, where: Tensor, accept: Tensor) -> None:
        """Turn over the dyads (n,) of rows that accept."""
        at = where[:, None]
        tie = self.x.gather(1, at)
        self.x.scatter_(1, at, torch.where(accept[:, None], 1 - tie, tie))
        here = self.place.gather(1, at)
        # swapped with the first dyad without a tie, or with the last tie; rows that refuse swap a dyad with itself
        edge = torch.where(tie > 0.5, self.count[:, None] - 1, self.count[:, None])
        edge = torch.where(accept[:, None], edge, here)
        other = self.order.gather(1, edge)
        self.order.scatter_(1, here, other).scatter_(1, edge, at)
        self.place.scatter_(1, at, edge).scatter_(1, other, here)
        self.count += torch.where(accept, 1 - 2 * tie[:, 0].long(), 0)
