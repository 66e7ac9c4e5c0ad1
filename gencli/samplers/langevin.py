"""Unadjusted Langevin dynamics, and its short-run form."""

from __future__ import annotations

from dataclasses import dataclass

from gencli.core.options import Count, NonNegative, Positive
from gencli.kernels import langevin
from gencli.models.base import Unnormalized
from gencli.samplers.chain import MarkovChain


@dataclass(frozen=True, kw_only=True)
class Langevin(MarkovChain):
    """x <- x - step grad E + sqrt(2 step T) xi, all steps alike: a bias of order ``step``, no step is refused.

    The temperature falls geometrically from ``hot`` to ``temperature`` over the first half of the steps.

    Args:
        step: step size.
        steps: number of steps.
        temperature: T at the end; 1 is the model itself.
        hot: T at the beginning; ``temperature`` or more.

    Raises:
        ValueError: the temperature would have to rise, or to fall to 0.
    """

    supports = ("real",)
    step: Positive = 0.01
    steps: Count = 500
    temperature: NonNegative = 1.0
    hot: NonNegative = 1.0

    def __post_init__(self) -> None:
        self.transition()

    def transition(self, model: Unnormalized | None = None) -> langevin.Langevin:
        return langevin.Langevin(
            step_size=self.step, temperature=self.temperature, hot=self.hot, cooling=self.steps / 2
        )

    @property
    def named(self) -> str:
        return f"sampler.step={self.step}"


@dataclass(frozen=True, kw_only=True)
class ShortRun(MarkovChain):
    """x <- x - step grad E + sigma xi for a few steps: the sampler that papers on images call SGLD.

    It is Langevin dynamics of temperature sigma^2 / (2 step), which is often far below 1 and stands in the diagnostics
    as ``effective_temperature``: the samples are those of p^(1/T) at best, and of the initial distribution in part.

    Args:
        step: alpha, on the gradient.
        sigma: deviation of the noise.
        steps: number of steps.
    """

    supports = ("real",)
    step: Positive = 1.0
    sigma: NonNegative = 0.01
    steps: Count = 100

    def transition(self, model: Unnormalized | None = None) -> langevin.ShortRun:
        return langevin.ShortRun(step_size=self.step, sigma=self.sigma)

    @property
    def named(self) -> str:
        temperature = self.transition().temperature
        return f"sampler.step={self.step}, sampler.sigma={self.sigma} (effective temperature {temperature:.3g})"
