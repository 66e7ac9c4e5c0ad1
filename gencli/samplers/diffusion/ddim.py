"""Samples by denoising and adding noise again, along few or many times.

x_s = alpha_s x0 + sqrt(sigma_s^2 - tau^2) eps + tau z, with what the model says of x_t. For tau^2 = beta~ =
sigma_s^2 / sigma_t^2 (sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2) it is the true posterior q(x_s | x_t, x0), for
tau = 0 a step of the probability flow.
"""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.models.base import Model, VelocityField
from gencli.models.trained import Learned
from gencli.samplers.diffusion.walk import Guided, Steps


class DDIM(Steps):
    """tau = eta sqrt(beta~): eta = 0 is deterministic, eta = 1 is DDPM.

    Args:
        steps: number of steps, one evaluation each.
        eta: share of the noise that is drawn anew.
        grid: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.
        guidance: w.
        classes: labels to draw.
        given: what is kept of held-out examples; None: nothing.
        resample: times that each step is taken where something is given.

    Raises:
        ValueError: eta is not in [0, 1].

    References:
        Song, Meng and Ermon, "Denoising diffusion implicit models", 2021.
    """

    def __init__(
        self,
        steps: int = 50,
        eta: float = 0.0,
        grid: str = "uniform",
        guidance: float = 1.0,
        classes: list[int] | None = None,
        given: str | list[int] | None = None,
        resample: int = 10,
    ) -> None:
        super().__init__(steps, grid, guidance, classes, given, resample)
        if not 0 <= eta <= 1:
            raise ValueError(f"sampler.eta={eta}: between 0 and 1")
        self.eta = eta
        self.stochastic, self.steps_of = eta > 0, "ddim" if eta == 0 else None

    def step(self, field: Guided, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        path = field.path
        said = field(x, t)
        sigma_s2, removed = (
            path.sigma(s) ** 2,
            path.sigma(t) ** 2 - (path.alpha(t) / path.alpha(s) * path.sigma(s)) ** 2,
        )
        posterior = sigma_s2 / path.sigma(t) ** 2 * removed
        kept = (sigma_s2 - self.eta**2 * posterior).clamp(min=0).sqrt()
        x = path.alpha(s).to(x) * said.x0 + kept.to(x) * said.eps
        tau = self.tau(field, posterior, removed, s)
        return x if self.eta == 0 else x + tau.to(x) * noise.randn(*x.shape).to(x)

    def tau(self, field: Guided, posterior: Tensor, removed: Tensor, s: Tensor) -> Tensor:
        """Standard deviation of the fresh noise."""
        return self.eta * posterior.sqrt()


class DDPM(DDIM):
    """Ancestral sampling, with no noise in the last step.

    Args:
        steps: T; null: that of a discrete model, else 1000.
        variance: of each step: ``small`` is beta~, right for data that are a point; ``large`` is beta =
            sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2, right for data N(0, I).
        guidance: w.
        classes: labels to draw.
        given: what is kept of held-out examples; None: nothing.
        resample: times that each step is taken where something is given.

    Raises:
        ValueError: an unknown variance.

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020.
    """

    stochastic = True

    def __init__(
        self,
        steps: int | None = None,
        variance: str = "small",
        guidance: float = 1.0,
        classes: list[int] | None = None,
        given: str | list[int] | None = None,
        resample: int = 10,
    ) -> None:
        super().__init__(1000 if steps is None else steps, 1.0, "uniform", guidance, classes, given, resample)
        if variance not in ("small", "large"):
            raise ValueError(f"sampler.variance={variance}: small or large")
        self.variance, self.own = variance, steps is not None

    def times(self, model: VelocityField) -> Tensor:
        if not self.own:
            self.steps = model.timesteps or 1000
        return super().times(model)

    def check(self, model: Model, learned: Learned) -> None:
        super().check(model, learned)
        assert isinstance(model, VelocityField)
        if self.own and model.timesteps and self.steps > model.timesteps:
            raise ValueError(f"sampler.steps={self.steps}: this model knows {model.timesteps} times")

    def tau(self, field: Guided, posterior: Tensor, removed: Tensor, s: Tensor) -> Tensor:
        if s <= field.path.t_min:
            return posterior * 0
        return (posterior if self.variance == "small" else removed).sqrt()
