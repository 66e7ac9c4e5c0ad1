"""Unadjusted Langevin steps: no step is refused, and the stationary law is right up to the order of the step size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import NonNegative, Positive
from gencli.kernels.base import Energy, Info, Kernel, slope
from gencli.kernels.energy import Of


def langevin(energy: Of, x: Tensor, noise: Noise, *, step: float, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """One unadjusted Langevin step, x - step grad E + sqrt(2 step T) xi: its stationary law is p^(1/T) up to O(step).

    Returns:
        the new x, and E (n,) of the old one.
    """
    e, gradient = slope(energy, x)
    x = x.add(gradient, alpha=-step)
    if temperature:
        x = x.add(noise.randn(*x.shape).to(x), alpha=math.sqrt(2 * step * temperature))
    return x, e


@dataclass(frozen=True)
class Walkers:
    """State of Langevin dynamics: x (n, *), and how many steps brought it there."""

    x: Tensor
    taken: int = 0


@dataclass(frozen=True, kw_only=True)
class Langevin(Kernel[Walkers]):
    """x <- x - step_size grad E + sqrt(2 step_size T) xi.

    Args:
        step_size: of every step alike.
        temperature: T; 1 is the energy itself.
        hot: T at the first step, from which it falls geometrically to ``temperature``.
        cooling: number of steps in which it falls; 0: T is ``temperature`` throughout.

    Raises:
        ValueError: it would have to rise, or to fall to 0, which no geometric series does.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", 1996.
    """

    step_size: Positive = 0.01
    temperature: NonNegative = 1.0
    hot: NonNegative = 1.0
    cooling: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.cooling and self.hot != self.temperature and not self.hot > self.temperature > 0:
            raise ValueError(f"hot={self.hot}: at least temperature={self.temperature}, which is then positive")

    def heat(self, taken: int) -> float:
        """T of the step after so many."""
        if not self.cooling or self.hot == self.temperature:
            return self.temperature
        done = min(1.0, taken / self.cooling)
        return float(self.hot ** (1 - done) * self.temperature**done)

    @property
    def invariant(self) -> bool:
        return False

    def init(self, energy: Energy, x: Tensor) -> Walkers:
        return Walkers(x.detach())

    def step(self, energy: Energy, state: Walkers, noise: Noise) -> tuple[Walkers, Info]:
        x, e = langevin(energy, state.x, noise, step=self.step_size, temperature=self.heat(state.taken))
        return Walkers(x, state.taken + 1), Info(state.x, e)

    def exchange(self, energy: Energy, state: Walkers, index: Tensor, ratio: Tensor) -> Walkers:
        return replace(state, x=state.x[index])


@dataclass(frozen=True, kw_only=True)
class ShortRun(Kernel[Walkers]):
    """x <- x - step_size grad E + sigma xi: Langevin dynamics at T = sigma^2 / (2 step_size), often far below 1.

    Args:
        step_size: alpha, on the gradient.
        sigma: deviation of the noise.

    References:
        Nijkamp, Hill, Zhu and Wu, "Learning non-convergent non-persistent short-run MCMC toward energy-based model",
        2019.
    """

    step_size: Positive = 1.0
    sigma: NonNegative = 0.01

    @property
    def temperature(self) -> float:
        """T = sigma^2 / (2 step_size)."""
        return self.sigma**2 / (2 * self.step_size)

    @property
    def invariant(self) -> bool:
        return False

    def init(self, energy: Energy, x: Tensor) -> Walkers:
        return Walkers(x.detach())

    def step(self, energy: Energy, state: Walkers, noise: Noise) -> tuple[Walkers, Info]:
        x, e = langevin(energy, state.x, noise, step=self.step_size, temperature=self.temperature)
        return Walkers(x, state.taken + 1), Info(state.x, e)

    def exchange(self, energy: Energy, state: Walkers, index: Tensor, ratio: Tensor) -> Walkers:
        return replace(state, x=state.x[index])

    def summary(self, state: Walkers) -> dict[str, float]:
        return {"effective_temperature": self.temperature}
