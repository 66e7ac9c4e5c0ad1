"""Samples by the reverse SDE dx = [f x - g^2 score] dt + g dW, in steps of Euler and Maruyama.

With the velocity f x - g^2/2 score of the probability flow, score = -eps / sigma and g^2 = 2 W sigma / alpha, the drift
is velocity + W/alpha eps.
"""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.samplers.diffusion.walk import Guided, Steps


class EulerMaruyama(Steps):
    """x_s = x_t + drift (s - t) + g sqrt(t - s) z; weak order 1.

    Args:
        steps: number of steps, one evaluation each.
        grid: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.
        guidance: w.
        classes: labels to draw.
        given: what is kept of held-out examples; None: nothing.
        resample: times that each step is taken where something is given.

    References:
        Anderson, "Reverse-time diffusion equation models", 1982; Song et al., "Score-based generative modeling through
        stochastic differential equations", 2021.
    """

    stochastic = True
    finite = True

    def __init__(
        self,
        steps: int = 500,
        grid: str = "log_snr",
        guidance: float = 1.0,
        classes: list[int] | None = None,
        given: str | list[int] | None = None,
        resample: int = 10,
    ) -> None:
        super().__init__(steps, grid, guidance, classes, given, resample)

    def step(self, field: Guided, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        path, said = field.path, field(x, t)
        drift = said.velocity + (path.turn(t) / path.alpha(t)).to(x) * said.eps
        spread = (path.g2(t) * (t - s)).sqrt()
        return x + (s - t).to(x) * drift + spread.to(x) * noise.randn(*x.shape).to(x)


class PredictorCorrector(EulerMaruyama):
    """A step of Euler and Maruyama, then steps of Langevin dynamics at the new time.

    A corrector moves by e score + sqrt(2 e) z with e = 2 (r sigma)^2, where r is the ratio of signal to noise of the
    step. The published e has |z|^2 / |score|^2, averaged over the batch, in place of sigma^2; this is its
    expected value for a point of data, and lets a sample not depend on its batch.

    Args:
        steps: number of predictor steps.
        corrections: corrector steps after each.
        r: size of a corrector step.
        grid: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.
        guidance: w.
        classes: labels to draw.
        given: what is kept of held-out examples; None: nothing.
        resample: times that each step is taken where something is given.

    Raises:
        ValueError: a number out of range.

    References:
        Song et al., "Score-based generative modeling through stochastic differential equations", 2021.
    """

    def __init__(
        self,
        steps: int = 250,
        corrections: int = 1,
        r: float = 0.16,
        grid: str = "log_snr",
        guidance: float = 1.0,
        classes: list[int] | None = None,
        given: str | list[int] | None = None,
        resample: int = 10,
    ) -> None:
        super().__init__(steps, grid, guidance, classes, given, resample)
        if corrections < 0:
            raise ValueError(f"sampler.corrections={corrections}: at least 0")
        if not r > 0:
            raise ValueError(f"sampler.r={r}: above 0")
        self.corrections, self.r = corrections, r

    def step(self, field: Guided, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        x = super().step(field, x, t, s, noise)
        if s <= field.path.t_min:  # a discrete model does not know this time
            return x
        sigma = field.path.sigma(s).to(x)
        for _ in range(self.corrections):
            eps = field(x, s).eps
            x = x - 2 * self.r**2 * sigma * eps + 2 * self.r * sigma * noise.randn(*x.shape).to(x)
        return x
