"""Samples by denoising and adding noise again, along few or many times.

x_s = alpha_s x0 + sqrt(sigma_s^2 - tau^2) eps + tau z, with what the model says of x_t. For tau^2 = beta~ =
sigma_s^2 / sigma_t^2 (sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2) it is the true posterior q(x_s | x_t, x0), for
tau = 0 a step of the probability flow.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Fraction
from gencli.methods.diffusion_bound import Variance, variances
from gencli.models.base import TimeField
from gencli.models.trained import Learned
from gencli.samplers.diffusion.walk import Completing, Grid, Gridded, Guided, snapped


@dataclass(frozen=True, kw_only=True)
class DDIM(Gridded, Completing):
    """tau = eta sqrt(beta~): eta = 0 is deterministic, eta = 1 is DDPM.

    Args:
        steps: number of steps, one evaluation each.
        eta: share of the noise that is drawn anew.
        grid: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.

    References:
        Song, Meng and Ermon, "Denoising diffusion implicit models", 2021.
    """

    steps: Count = 50
    eta: Fraction = 0.0
    grid: Grid = "uniform"

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    @property
    def steps_of(self) -> str | None:
        return "ddim" if self.eta == 0 else None

    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        small, _ = variances(field.path, t, s)
        x = denoised(field, x, t, s, self.eta**2 * small)
        if self.eta == 0:
            return x
        return x + (self.eta * small.sqrt()).to(x) * noise.randn(*x.shape).to(x)


@dataclass(frozen=True, kw_only=True)
class DDPM(Completing):
    """Ancestral sampling, with no noise in the last step.

    Args:
        steps: T; null: that of a discrete model, else 1000.
        variance: of each step: ``small`` is beta~, right for data that are a point; ``large`` is beta =
            sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2, right for data N(0, I).

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020.
    """

    steps: Count | None = None
    variance: Variance = "small"

    @property
    def stochastic(self) -> bool:
        return True

    def times(self, model: TimeField) -> Tensor:
        return snapped(model, self.steps or model.timesteps or 1000, "uniform")

    def check(self, model: TimeField, learned: Learned) -> None:
        super().check(model, learned)
        if self.steps and model.timesteps and self.steps > model.timesteps:
            raise ValueError(f"sampler.steps={self.steps}: this model knows {model.timesteps} times")

    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        small, large = variances(field.path, t, s)
        x = denoised(field, x, t, s, small)
        variance = small if self.variance == "small" else large
        tau = variance.sqrt() if s > field.path.t_min else small * 0
        return x + tau.to(x) * noise.randn(*x.shape).to(x)


def denoised(field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, fresh: Tensor) -> Tensor:
    """alpha_s x0 + sqrt(sigma_s^2 - fresh) eps: x_s before noise of the variance ``fresh`` is added."""
    path, said = field.path, field(x, t)
    kept = (path.sigma(s) ** 2 - fresh).clamp(min=0).sqrt()
    return path.alpha(s).to(x) * said.x0 + kept.to(x) * said.eps
