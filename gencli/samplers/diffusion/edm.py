"""Samples in the variables x/alpha and u = sigma/alpha, where every path is the same: d(x/alpha)/du = eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, NonNegative
from gencli.models.base import TimeField
from gencli.samplers.diffusion.walk import Completing, Grid, Gridded, Guided


@dataclass(frozen=True, kw_only=True)
class EDM(Gridded, Completing):
    """Heun's method, with churn: before each step noise goes up by a factor 1 + min(churn / steps, sqrt(2) - 1).

    Args:
        steps: number of steps, two evaluations each but the last where it ends without noise.
        churn: S_churn; 0 is deterministic.
        churn_min: least u at which noise is added.
        churn_max: most u.
        churn_noise: S_noise, the standard deviation of the added noise.
        grid: ``karras``, ``log_snr``, ``uniform`` or ``quadratic``.

    References:
        Karras, Aittala, Aila and Laine, "Elucidating the design space of diffusion-based generative models", 2022.
    """

    any_time: ClassVar[bool] = True
    finite: ClassVar[bool] = True

    steps: Count = 18
    churn: NonNegative = 0.0
    churn_min: NonNegative = 0.0
    churn_max: float = math.inf
    churn_noise: NonNegative = 1.0
    grid: Grid = "karras"

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        path = field.path
        x = x / path.alpha(t).to(x)
        u, v = path.sigma(t) / path.alpha(t), path.sigma(s) / path.alpha(s)
        more = u * (1 + min(self.churn / self.steps, math.sqrt(2) - 1))
        if self.churn and self.churn_min <= u <= self.churn_max and path.time(-2 * more.log()) <= path.t_max:
            x = x + self.churn_noise * (more**2 - u**2).sqrt().to(x) * noise.randn(*x.shape).to(x)
            u, t = more, path.time(-2 * more.log())
        slope = field(path.alpha(t).to(x) * x, t).eps
        to = x + (v - u).to(x) * slope
        if path.sigma(s) > 0:
            slope = (slope + field(path.alpha(s).to(x) * to, s).eps) / 2
            to = x + (v - u).to(x) * slope
        return path.alpha(s).to(x) * to
