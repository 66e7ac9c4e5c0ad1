"""Samples by the reverse SDE dx = [f x - g^2 score] dt + g dW, in steps of Euler and Maruyama.

With the velocity f x - g^2/2 score of the probability flow, score = -eps / sigma and g^2 = 2 W sigma / alpha, the drift
is velocity + W/alpha eps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Natural, Positive
from gencli.models.base import TimeField
from gencli.samplers.diffusion.walk import Completing, Grid, Gridded, Guided


@dataclass(frozen=True, kw_only=True)
class ReverseSDE(Gridded, Completing):
    """Steps of the reverse SDE."""

    finite: ClassVar[bool] = True

    grid: Grid = "log_snr"

    @property
    def stochastic(self) -> bool:
        return True

    def predicted(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """x_s = x_t + drift (s - t) + g sqrt(t - s) z."""
        path, said = field.path, field(x, t)
        drift = said.velocity + (path.turn(t) / path.alpha(t)).to(x) * said.eps
        spread = (path.g2(t) * (t - s)).sqrt()
        return x + (s - t).to(x) * drift + spread.to(x) * noise.randn(*x.shape).to(x)


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(ReverseSDE):
    """x_s = x_t + drift (s - t) + g sqrt(t - s) z; weak order 1.

    Args:
        steps: number of steps, one evaluation each.

    References:
        Anderson, "Reverse-time diffusion equation models", 1982; Song et al., "Score-based generative modeling through
        stochastic differential equations", 2021.
    """

    steps: Count = 500

    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return self.predicted(field, x, t, s, noise)


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(ReverseSDE):
    """A step of Euler and Maruyama, then steps of Langevin dynamics at the new time.

    A corrector moves by e score + sqrt(2 e) z with e = 2 (r sigma)^2, where r is the ratio of signal to noise of the
    step. The published e has |z|^2 / |score|^2, averaged over the batch, in place of sigma^2; this is its
    expected value for a point of data, and lets a sample not depend on its batch.

    Args:
        steps: number of predictor steps.
        corrections: corrector steps after each.
        r: size of a corrector step.

    References:
        Song et al., "Score-based generative modeling through stochastic differential equations", 2021.
    """

    steps: Count = 250
    corrections: Natural = 1
    r: Positive = 0.16

    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        x = self.predicted(field, x, t, s, noise)
        if s <= field.path.t_min:  # a discrete model does not know this time
            return x
        sigma = field.path.sigma(s).to(x)
        for _ in range(self.corrections):
            eps = field(x, s).eps
            x = x - 2 * self.r**2 * sigma * eps + 2 * self.r * sigma * noise.randn(*x.shape).to(x)
        return x
