"""Moves of discrete x that are informed of the neighbourhood: proposals in proportion to sqrt(p(x') / p(x)).

With the change r_wk = E(x with coordinate w set to k) - E(x), to first order or exact, a proposal has the weight
exp(-r / 2). It is locally balanced (Zanella, 2020): of all functions g(p(x') / p(x)) those with g(t) = t g(1/t), such
as sqrt(t), are the ones under which small steps need no refusal. The acceptance by Metropolis and Hastings makes
exp(-E) the exact stationary law however rough the first order is.

References:
    Zanella, "Informed proposals for local MCMC in discrete spaces", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Positive, ProperFraction
from gencli.core.spec import Support
from gencli.core.tensors import rows
from gencli.kernels.adaptation import Stepping
from gencli.kernels.base import Energy, Info, Kernel
from gencli.kernels.gibbs import Gibbs, inverse


@dataclass(frozen=True)
class Site:
    """Where chains are, x (n, *), its energy (n,) and what single changes do to it, ``rise`` (n, D, K) nats."""

    x: Tensor
    energy: Tensor
    rise: Tensor

    @classmethod
    @torch.no_grad()
    def at(cls, energy: Energy, x: Tensor, exact: bool = False) -> Site:
        """x, looked at; ``exact``: changes in place of what the gradient says of them."""
        return cls(x, energy(x), energy.changes(x)) if exact else cls(x, *energy.expansion(x))

    def where(self, condition: Tensor, other: Site) -> Site:
        """This site in rows where the condition (n,) holds, the other elsewhere."""
        return Site(
            torch.where(rows(condition, self.x), self.x, other.x),
            torch.where(condition, self.energy, other.energy),
            torch.where(rows(condition, self.rise), self.rise, other.rise),
        )

    def exchanged(self, index: Tensor, ratio: Tensor) -> Site:
        """The sites of other chains, whose energies are multiples there."""
        return Site(self.x[index], self.energy[index] * ratio, self.rise[index] * rows(ratio, self.rise))


def acceptance(site: Site, proposed: Site, there: Tensor, back: Tensor) -> Tensor:
    """min(1, exp(E(x) - E(x')) q(x | x') / q(x' | x)), (n,); 0 where E(x') is not finite.

    Args:
        site: x.
        proposed: x'.
        there: log q(x' | x), (n,).
        back: log q(x | x'), (n,).
    """
    log_ratio = site.energy - proposed.energy + back - there
    return torch.nan_to_num(log_ratio.clamp(max=0).exp(), nan=0.0)


def single_changes(site: Site) -> Tensor:
    """log q (n, D, K) of setting coordinate w to k, over all single changes: the softmax of -rise / 2."""
    own = site.x.flatten(1).long()[..., None]
    log_q = (-0.5 * site.rise).scatter(2, own, -torch.inf)
    return log_q.flatten(1).log_softmax(1).view_as(log_q)


def all_changes(site: Site, alpha: Tensor, support: Support) -> Tensor:
    """log q (n, D, K) of each coordinate's new value: the softmax over k of -rise / 2 - distance^2 / (2 alpha).

    Args:
        site: x.
        alpha: (n,) step sizes.
        support: says the distance: |k - x_w| of bits and levels, of categories 1 to each other one.
    """
    values = torch.arange(support.size, device=site.x.device)
    own = site.x.flatten(1)[..., None]
    squared = (values != own) if support.kind == "categorical" else (values - own).square()
    return (-0.5 * site.rise - squared.to(site.rise) / (2 * rows(alpha, site.rise))).log_softmax(2)


@dataclass(frozen=True, kw_only=True)
class GibbsWithGradients(Kernel[Site]):
    """One change of one coordinate a step, proposed by ``single_changes`` and accepted or refused.

    Args:
        informed: by the ``gradient``, one pass for all changes, or by the exact ``changes``, for which an energy that
            knows no better is asked D (K - 1) times. Energies of which nothing is known between the values of levels
            and categories have exact ones either way.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions", 2021.
    """

    moves = ("binary", "levels", "categorical")

    informed: Literal["gradient", "changes"] = "gradient"

    def init(self, energy: Energy, x: Tensor) -> Site:
        return Site.at(energy, x.detach(), self.informed == "changes")

    def step(self, energy: Energy, state: Site, noise: Noise) -> tuple[Site, Info]:
        n, K = len(state.x), state.rise.shape[2]
        u = noise.rand(n, 2).to(state.x.device).double()
        log_q = single_changes(state).flatten(1)
        total = log_q.double().exp().cumsum(1)  # of thousands of probabilities
        chosen = torch.searchsorted(total, u[:, :1] * total[:, -1:], right=True).clamp(max=total.shape[1] - 1)
        where, value = chosen // K, chosen % K
        flat = state.x.flatten(1)
        before = flat.gather(1, where).long()
        proposed = self.init(energy, flat.scatter(1, where, value.to(flat)).view_as(state.x))
        there = log_q.gather(1, chosen)[:, 0]
        back = single_changes(proposed).flatten(1).gather(1, where * K + before)[:, 0]
        accept = acceptance(state, proposed, there, back)
        after = proposed.where(u[:, 1] < accept, state)
        return after, Info(after.x, after.energy, accept, {"acceptance": accept})

    def exchange(self, energy: Energy, state: Site, index: Tensor, ratio: Tensor) -> Site:
        return state.exchanged(index, ratio)


@dataclass(frozen=True, kw_only=True)
class DiscreteMALA(Kernel[Stepping[Site]]):
    """All coordinates at once and independently, proposed by ``all_changes``, then accepted or refused together.

    Without acceptance the stationary law is that of the energy only as far as the energy is linear in x.

    Args:
        step_size: alpha, the first; in a warm-up each chain adapts its own by dual averaging.
        target: mean probability of acceptance to reach.
        metropolis: accept or refuse; false: every proposal is taken, and nothing adapts.

    References:
        Zhang, Liu and Liu, "A Langevin-like sampler for discrete distributions", 2022.
        Sun, Dai, Sutton, Schuurmans and Dai, "Optimal scaling for locally balanced proposals in discrete spaces", 2022
        (0.574).
    """

    LARGEST = 1e6  # a step of such a size is no shorter than any other, and adds nothing that overflows

    moves = ("binary", "levels", "categorical")

    step_size: Positive = 0.2
    target: ProperFraction = 0.574
    metropolis: bool = True

    def init(self, energy: Energy, x: Tensor) -> Stepping[Site]:
        site = Site.at(energy, x.detach())
        return Stepping.start(site, site.energy.new_full((len(x),), self.step_size))

    def step(self, energy: Energy, state: Stepping[Site], noise: Noise) -> tuple[Stepping[Site], Info]:
        site, alpha = state.point, state.size.clamp(max=self.LARGEST)
        u = noise.rand(len(site.x), site.rise.shape[1] + 1).to(site.rise)
        log_q = all_changes(site, alpha, energy.support)
        value = inverse(-log_q, u[:, 1:])[..., None]
        proposed = Site.at(energy, value[..., 0].to(site.x.dtype).view_as(site.x))
        if not self.metropolis:
            return replace(state, point=proposed), Info(proposed.x, proposed.energy)
        back = all_changes(proposed, alpha, energy.support).gather(2, site.x.flatten(1).long()[..., None])
        there = log_q.gather(2, value.long())
        accept = acceptance(site, proposed, there.sum((1, 2)), back.sum((1, 2)))
        after = proposed.where(u[:, 0] < accept, site)
        return replace(state, point=after), Info(after.x, after.energy, accept, {"acceptance": accept})

    def adapt(self, state: Stepping[Site], info: Info) -> Stepping[Site]:
        return state if info.accept is None else state.adapted(info.accept, self.target)

    @property
    def invariant(self) -> bool:
        return self.metropolis

    def retarget(self, energy: Energy, x: Tensor, learned: Stepping[Site]) -> Stepping[Site]:
        return learned.afresh(Site.at(energy, x), len(x))

    def settle(self, state: Stepping[Site]) -> Stepping[Site]:
        return state.settled()

    def exchange(self, energy: Energy, state: Stepping[Site], index: Tensor, ratio: Tensor) -> Stepping[Site]:
        return replace(state, point=state.point.exchanged(index, ratio))

    def summary(self, state: Stepping[Site]) -> dict[str, float]:
        return {"step_size": float(state.size.clamp(max=self.LARGEST).mean())}


SWEPT = 256
"""Single changes, D (K - 1), above which no sweep asks a network for the energy of every one of them."""


def usual_of_discrete(energy: Energy, dim: int) -> Kernel[Any]:
    """The kernel of discrete x (n, D) where none is named: sweeps of Gibbs sampling.

    A network that is the energy of many coordinates, and knows no shorter way to what a change does, would be asked
    once for each of them in a sweep: there all move at once by what its gradient says (discrete Langevin, accepted or
    refused).

    Args:
        energy: of the chains; a weighted sum of energies counts as one that knows a shorter way.
        dim: D.
    """
    asked = energy.change is None and energy.resample is None and energy.taylor is not None
    return DiscreteMALA() if asked and dim * (energy.support.size - 1) > SWEPT else Gibbs()
