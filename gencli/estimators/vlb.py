"""The variational bound of diffusion: -log p(x) <= prior + diffusion + reconstruction.

    prior            KL(q(x_t | x) || N(0, prior_std^2 I)) at the last time
    diffusion, T     sum over i = 2..T of 1/2 (SNR(t_{i-1}) - SNR(t_i)) E |x - x0^(x_t)|^2, the KLs of the reverse steps
    diffusion, inf   -1/2 integral of d SNR/dt E |x - x0^(x_t)|^2
    reconstruction   E -log N(x; m, (sigma / alpha)^2 I) at the first time, where m = x0^ under a T, as in DDPM, and
                     m = x_t / alpha in continuous time, which starts with so little noise that this is the posterior

References:
    Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020; Kingma, Salimans, Poole and Ho, "Variational
    diffusion models", 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.interfaces import Batch, Estimate, Estimator, Model, TimeField
from gencli.noise import Noise
from gencli.path import like

RANGE = 14.0
"""The continuous bound covers what the path has of log-SNR within [-RANGE, RANGE]; any range gives a bound."""
RECONSTRUCTIONS = 4
"""Draws of the reconstruction under a T."""


class VLB(Estimator):
    """The bound in nats, its diffusion part from a stratified sample of times for each row.

    Times are drawn so that log-SNR is about uniform, which has much less variance than uniform steps.

    Args:
        timesteps: T of the bound; null: that of a discrete model, else continuous time.
        samples: times for each row, each with noise of its own; with T at most this, every time once.
        draws: dequantization draws.

    Raises:
        ValueError: a number out of range.
    """

    requires = (TimeField,)
    bound = "upper"

    def __init__(self, timesteps: int | None = None, samples: int = 64, draws: int = 2) -> None:
        super().__init__(draws)
        if timesteps is not None and timesteps < 2:
            raise ValueError(f"estimator.timesteps={timesteps}: at least 2; null for continuous time")
        if samples < 2:
            raise ValueError(f"estimator.samples={samples}: at least 2, so that their spread gives a standard error")
        self.timesteps, self.samples = timesteps, samples

    def check(self, model: Model) -> None:
        assert isinstance(model, TimeField)
        if model.coupled:
            raise ValueError(
                "objective.coupling=optimal teaches no denoised mean, of which this bound is made: estimator=ode"
            )
        if model.timesteps and self.timesteps not in (None, model.timesteps):
            raise ValueError(
                f"estimator.timesteps={self.timesteps}: this model knows model.timesteps={model.timesteps}"
            )

    @torch.no_grad()
    def nll(self, model: Model, batch: Batch, noise: Noise) -> Estimate:
        assert isinstance(model, TimeField)
        path, x, y = model.path, batch.x, batch.y if model.conditional else None
        B, D, T = len(x), model.spec.dim, self.timesteps or model.timesteps
        clock = torch.float32 if x.device.type == "mps" else torch.float64

        def error(t: Tensor) -> Tensor:
            """|v - v^|^2 of each row (B,); |x - x0^|^2 is sigma^2 times this."""
            W, eps = path.turn(t), noise.randn(*x.shape).to(x)
            v = like(path.d_alpha(t) / W, x) * x + like(path.d_sigma(t) / W, x) * eps
            said = model.predict(path.noised(x, eps, t), t, y)
            return (said.v - v).flatten(1).to(clock).square().sum(1)

        start = noise.rand(B).to(clock)
        if T is None:
            ends = torch.tensor([path.t_max, path.t_min], dtype=clock, device=x.device)
            low, high = path.log_snr(ends).clamp(-RANGE, RANGE)
            first, last = path.time(torch.stack([high, low]))
            parts = []
            for k in range(self.samples):
                t = path.time(high - (start + k / self.samples) % 1 * (high - low))
                # d SNR = SNR d log-SNR, and SNR |x - x0^|^2 = alpha^2 |v - v^|^2
                parts.append(0.5 * (high - low) * path.alpha(t).square() * error(t))
            misses = [torch.full((B,), float(D), dtype=clock, device=x.device)]
        else:
            t_i = path.t_min + (path.t_max - path.t_min) * torch.arange(1, T + 1, dtype=clock, device=x.device) / T
            first, last = t_i[0], t_i[-1]
            snr = (path.alpha(t_i) / path.sigma(t_i)).square()
            weights = 0.5 * (snr[:-1] - snr[1:]) * path.sigma(t_i[1:]).square()
            parts = []
            if self.samples >= T - 1:
                parts = [(T - 1) * w * error(t.expand(B)) for w, t in zip(weights, t_i[1:], strict=True)]
            else:
                p = -path.log_snr(t_i).clamp(-RANGE, RANGE).diff()
                p = 0.9 * p / p.sum() + 0.1 / (T - 1)  # no step is left out where the range cuts
                for k in range(self.samples):
                    u = (start + k / self.samples) % 1
                    i = torch.searchsorted(p.cumsum(0), u, right=True).clamp(max=T - 2)
                    parts.append(weights[i] / p[i] * error(t_i[1:][i]))
            misses = [path.alpha(first).square() * error(first.expand(B)) for _ in range(RECONSTRUCTIONS)]

        ratio = path.sigma(last) / path.prior_std
        squares = (path.alpha(last) / path.prior_std * x.flatten(1).to(clock)).square().sum(1)
        prior = 0.5 * (D * (ratio.square() - 1 - 2 * ratio.log()) + squares)
        miss, each = torch.stack(misses, 1), torch.stack(parts, 1)
        log_width = (path.sigma(first) / path.alpha(first)).log()
        reconstruction = D * (0.5 * math.log(2 * math.pi) + log_width) + 0.5 * miss.mean(1)
        diffusion = each.mean(1)
        # As if times were independent: an upper estimate of the variance, since they are stratified
        variance = torch.zeros_like(start)
        for some in (each, 0.5 * miss):
            if some.shape[1] > 1:
                variance = variance + some.var(1) / some.shape[1]
        terms = {"prior": prior, "diffusion": diffusion, "reconstruction": reconstruction}
        return Estimate(prior + diffusion + reconstruction, variance, terms)
