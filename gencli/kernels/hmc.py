"""Hamiltonian Monte Carlo: accepted or refused, so that exp(-E) is the exact stationary law."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.tensors import rows
from gencli.kernels.base import Energy, slope


@dataclass
class Point:
    """Where chains are: x (n, *), its energy (n,) and gradient (n, *)."""

    x: Tensor
    energy: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, energy: Energy, x: Tensor) -> Point:
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


def leapfrog(energy: Energy, point: Point, momentum: Tensor, step: Tensor, leaps: int) -> tuple[Point, Tensor]:
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


def hmc(energy: Energy, point: Point, noise: Noise, *, step: Tensor, leaps: int) -> tuple[Point, Tensor]:
    """One Hamiltonian Monte Carlo transition, which leaves exp(-E) invariant; one leap is MALA with step^2 / 2.

    A proposal whose energy is not finite is refused.

    Returns:
        the new point, and the probability of acceptance (n,).

    References:
        Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo", 1987; Neal, "MCMC using Hamiltonian dynamics", 2011.
        Besag, comment on "Representations of knowledge in complex systems", 1994 (MALA).
    """
    momentum = noise.randn(*point.x.shape).to(point.x)
    u = noise.rand(len(point.x)).to(point.x)
    proposed, end = leapfrog(energy, point, momentum, step, leaps)
    rise = proposed.energy - point.energy + 0.5 * (end.square() - momentum.square()).flatten(1).sum(1)
    accept = torch.nan_to_num((-rise).clamp(max=0).exp(), nan=0.0)
    return proposed.where(u < accept, point), accept


class DualAveraging:
    """Step sizes, one a chain, that reach a target acceptance.

    Each chain adapts alone, so that sample i does not depend on the other chains of its batch.

    Args:
        step: (n,) first step sizes.
        target: mean probability of acceptance to reach.

    References:
        Hoffman and Gelman, "The No-U-Turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo", 2014.
    """

    GAMMA, T0, KAPPA = (
        0.1,
        10.0,
        0.75,
    )  # the paper's gamma of 0.05 leaves a chain of 200 transitions 0.1 above its target

    def __init__(self, step: Tensor, target: float) -> None:
        self.target, self.t = target, 0
        self.mu = (10 * step).log()
        self.error = torch.zeros_like(step)
        self.log_step = step.log()
        self.log_average = torch.zeros_like(step)

    def update(self, accept: Tensor) -> None:
        """Learn from the probabilities of acceptance (n,) of a transition."""
        self.t += 1
        rate = 1 / (self.t + self.T0)
        self.error = (1 - rate) * self.error + rate * (self.target - accept)
        self.log_step = self.mu - math.sqrt(self.t) / self.GAMMA * self.error
        weight = self.t**-self.KAPPA
        self.log_average = weight * self.log_step + (1 - weight) * self.log_average

    @property
    def step(self) -> Tensor:
        """To explore with, while adapting."""
        return self.log_step.exp()

    @property
    def average(self) -> Tensor:
        """To stay with, afterwards."""
        return self.log_average.exp() if self.t else self.step
