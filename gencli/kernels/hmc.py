"""Hamiltonian Monte Carlo: accepted or refused, so that exp(-E) is the exact stationary law."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import BelowOne, Count, Positive, ProperFraction
from gencli.core.tensors import rows
from gencli.kernels.adaptation import Stepping
from gencli.kernels.base import Energy, Info, Kernel, slope
from gencli.kernels.energy import Of


@dataclass(frozen=True)
class Point:
    """Where chains are: x (n, *), its energy (n,) and gradient (n, *)."""

    x: Tensor
    energy: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, energy: Of, x: Tensor) -> Point:
        """x, looked at."""
        return cls(x.detach(), *slope(energy, x))

    def where(self, condition: Tensor, other: Point) -> Point:
        """This point in rows where the condition (n,) holds, the other elsewhere."""
        wide = rows(condition, self.x)
        return Point(
            torch.where(wide, self.x, other.x),
            torch.where(condition, self.energy, other.energy),
            torch.where(wide, self.gradient, other.gradient),
        )

    def exchanged(self, index: Tensor, ratio: Tensor) -> Point:
        """The points of other chains, whose energies are multiples there."""
        return Point(self.x[index], self.energy[index] * ratio, self.gradient[index] * rows(ratio, self.gradient))


def leapfrog(energy: Of, point: Point, momentum: Tensor, step: Tensor, leaps: int) -> tuple[Point, Tensor]:
    """Hamilton's equations for H = E(x) + |p|^2 / 2 by ``leaps`` leapfrog steps: error O(step^2), volume kept.

    Args:
        energy: E.
        point: where to start.
        momentum: p (n, *).
        step: (n,) step size of each chain.
        leaps: number of steps.

    Returns:
        the end and its momentum.
    """
    h = rows(step, point.x)
    x, gradient, e = point.x, point.gradient, point.energy
    p = momentum - 0.5 * h * gradient
    for i in range(leaps):
        x = x + h * p
        e, gradient = slope(energy, x)
        p = p - (0.5 if i == leaps - 1 else 1.0) * h * gradient
    return Point(x, e, gradient), p


def hmc(energy: Of, point: Point, noise: Noise, *, step: Tensor, leaps: int) -> tuple[Point, Tensor]:
    """One Hamiltonian Monte Carlo transition, which leaves exp(-E) invariant; one leap is MALA with step^2 / 2.

    A proposal whose energy is not finite is refused.

    Returns:
        the new point, and the probability of acceptance (n,).
    """
    momentum = noise.randn(*point.x.shape).to(point.x)
    u = noise.rand(len(point.x)).to(point.x)
    proposed, end = leapfrog(energy, point, momentum, step, leaps)
    rise = proposed.energy - point.energy + 0.5 * (end.square() - momentum.square()).flatten(1).sum(1)
    accept = torch.nan_to_num((-rise).clamp(max=0).exp(), nan=0.0)
    return proposed.where(u < accept, point), accept


@dataclass(frozen=True, kw_only=True)
class HMC(Kernel[Stepping[Point]]):
    """Hamiltonian Monte Carlo: ``leaps`` leapfrog steps, then accept or refuse. One leap is MALA (step_size^2 / 2).

    Args:
        leaps: leapfrog steps a transition.
        step_size: the first; in a warm-up each chain adapts its own by dual averaging.
        target: mean probability of acceptance to reach.
        jitter: the step size of a transition is uniform on (1 +- jitter) times the chain's own, to avoid resonance
            with periodic orbits.

    References:
        Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo", 1987; Neal, "MCMC using Hamiltonian dynamics", 2011;
        Hoffman and Gelman, "The No-U-Turn sampler", 2014.
        Besag, comment on "Representations of knowledge in complex systems", 1994 (MALA).
        Roberts and Rosenthal, "Optimal scaling of discrete approximations to Langevin diffusions", 1998 (MALA: 0.574).
    """

    leaps: Count = 10
    step_size: Positive = 0.1
    target: ProperFraction = 0.8
    jitter: BelowOne = 0.2

    def init(self, energy: Energy, x: Tensor) -> Stepping[Point]:
        return Stepping.start(Point.at(energy, x), x.new_full((len(x),), self.step_size))

    def step(self, energy: Energy, state: Stepping[Point], noise: Noise) -> tuple[Stepping[Point], Info]:
        n = len(state.size)
        shake = 1 + self.jitter * (2 * noise.rand(n).to(state.size) - 1) if self.jitter else 1.0
        point, accept = hmc(energy, state.point, noise, step=state.size * shake, leaps=self.leaps)
        return replace(state, point=point), Info(point.x, point.energy, accept, {"acceptance": accept})

    def adapt(self, state: Stepping[Point], info: Info) -> Stepping[Point]:
        assert info.accept is not None
        return state.adapted(info.accept, self.target)

    def settle(self, state: Stepping[Point]) -> Stepping[Point]:
        return state.settled()

    def retarget(self, energy: Energy, x: Tensor, learned: Stepping[Point]) -> Stepping[Point]:
        return learned.afresh(Point.at(energy, x), len(x))

    def exchange(self, energy: Energy, state: Stepping[Point], index: Tensor, ratio: Tensor) -> Stepping[Point]:
        return replace(state, point=state.point.exchanged(index, ratio))

    def summary(self, state: Stepping[Point]) -> dict[str, float]:
        return {"step_size": float(state.size.mean())}
