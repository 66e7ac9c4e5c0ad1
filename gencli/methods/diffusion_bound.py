"""The variational bound of diffusion: -log p(x) <= prior + diffusion + reconstruction.

    prior            KL(q(x_t | x) || N(0, prior_std^2 I)) at the last time
    diffusion, T     sum over i = 2..T of 1/2 (SNR(t_{i-1}) - SNR(t_i)) E |x - x0^(x_t)|^2, the KLs of reverse steps of
                     the variance beta~ of q(x_s | x_t, x); of another one V it is beta~ / V of that, and
                     D/2 (ln(V / beta~) + beta~ / V - 1) beside it
    diffusion, inf   -1/2 integral of d SNR/dt E |x - x0^(x_t)|^2
    reconstruction   E -log N(x; m, (sigma / alpha)^2 I) at the first time, where m = x0^ under a T, as in DDPM, and
                     m = x_t / alpha in continuous time, which starts with so little noise that this is the posterior

In continuous time the path between its ends does not matter: with gamma = -log-SNR and SNR |x - x0^|^2 = alpha^2 |v -
v^|^2 = |eps - eps^|^2 the diffusion part is 1/2 integral of E |eps - eps^|^2 d gamma.

References:
    Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020; Kingma, Salimans, Poole and Ho, "Variational
    diffusion models", 2021.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.models.base import TimeField
from gencli.paths.base import Path

Variance = Literal["small", "large"]
VARIANCES: tuple[Variance, ...] = get_args(Variance)
"""Of a reverse step: beta~, right for data that are a point, or beta, right for data N(0, I)."""

RANGE = 14.0
"""The continuous bound covers what a fixed path has of log-SNR within [-RANGE, RANGE]; any range gives a bound."""


def variances(path: Path, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """beta~ of q(x_s | x_t, x0) and beta of q(x_t | x_s), for times s < t of one shape, which both have."""
    beta = path.sigma(t) ** 2 - (path.alpha(t) / path.alpha(s) * path.sigma(s)) ** 2
    return path.sigma(s) ** 2 / path.sigma(t) ** 2 * beta, beta


class Bound:
    """The bound's parts for rows of data, differentiable in the model and its path.

    Times of the diffusion part are named by u in [0, 1), so that stratified u give stratified times. A fixed path is
    walked at equal steps of log-SNR, which has much less variance than equal steps of t; a learned one in t, which is
    what its schedule is for. So are the T times of a bound in steps, which is much tighter for it, but those of a
    discrete model, which are its own.

    Args:
        model: the field.
        x: (B, *).
        y: labels or contexts.
        T: number of steps; None: continuous time.
        variance: of the reverse steps, ``small`` (beta~) or ``large`` (beta); of T steps only.
    """

    def __init__(
        self, model: TimeField, x: Tensor, y: Tensor | None, T: int | None, variance: Variance = "small"
    ) -> None:
        self.model, self.path, self.x, self.T = model, model.path, x, T
        self.y = y if model.conditional else None
        self.D = x[0].numel()
        self.clock = torch.float32 if x.device.type == "mps" else torch.float64
        path, ends = self.path, torch.tensor([model.t_min, model.t_max], dtype=self.clock, device=x.device)
        if T is not None:
            if model.timesteps or path.interior():
                self.t = ends[0] + (ends[1] - ends[0]) * torch.arange(1, T + 1, dtype=self.clock, device=x.device) / T
            else:
                high, low = path.log_snr(ends).clamp(-RANGE, RANGE).tolist()
                self.t = path.time(torch.linspace(high, low, T, dtype=self.clock, device=x.device))
            snr = path.log_snr(self.t).exp()
            self.weights = 0.5 * (snr[:-1] - snr[1:]) * path.sigma(self.t[1:]).square()
            self.wider: Tensor | float = 0.0
            if variance == "large":
                small, large = variances(path, self.t[1:], self.t[:-1])
                share = small / large
                self.weights = self.weights * share
                self.wider = 0.5 * self.D * (share - 1 - share.log()).sum()
            p = -path.log_snr(self.t).detach().clamp(-RANGE, RANGE).diff()
            self.p = 0.9 * p / p.sum() + 0.1 / (T - 1)  # no step is left out where the range cuts
            self.first, self.last = self.t[0], self.t[-1]
        elif path.interior():
            self.first, self.last = ends
        else:
            self.high, self.low = path.log_snr(ends).clamp(-RANGE, RANGE)
            self.first, self.last = path.time(torch.stack([self.high, self.low]))

    def _error(self, t: Tensor, noise: Noise) -> Tensor:
        """|v - v^|^2 of each row (B,) at times t (B,); |x - x0^|^2 is sigma^2 times this."""
        x, eps = self.x, noise.randn(*self.x.shape).to(self.x)
        said = self.model.predict(self.path.noised(x, eps, t), t, self.y)
        return (said.v - said.level.v(x, eps)).flatten(1).to(self.clock).square().sum(1)

    def prior(self) -> Tensor:
        """(B,) nats."""
        path, t = self.path, self.last
        ratio = path.sigma(t) / path.prior_std
        squares = (path.alpha(t) / path.prior_std * self.x.flatten(1).to(self.clock)).square().sum(1)
        return 0.5 * (self.D * (ratio.square() - 1 - 2 * ratio.log()) + squares)

    def diffusion(self, u: Tensor, noise: Noise) -> Tensor:
        """(B,) nats from one time a row; uniform u (B,) give the right mean."""
        u = u.to(self.clock)
        if self.T is not None:
            i = torch.searchsorted(self.p.cumsum(0), u, right=True).clamp(max=self.T - 2)
            return self.weights[i] / self.p[i] * self._error(self.t[1:][i], noise) + self.wider
        if self.path.interior():
            t = self.first + (self.last - self.first) * u
            speed = -self.path.d_log_snr(t) * (self.last - self.first)
        else:
            t, speed = self.path.time(self.high - u * (self.high - self.low)), self.high - self.low
        return 0.5 * speed * self.path.alpha(t).square() * self._error(t, noise)

    def every_step(self, noise: Noise) -> Tensor:
        """(B, T - 1) values whose mean is the diffusion part, one of each step under a T."""
        steps, T = zip(self.weights, self.t[1:], strict=True), len(self.p)
        return torch.stack([T * w * self._error(t.expand(len(self.x)), noise) + self.wider for w, t in steps], 1)

    def reconstruction(self, noise: Noise) -> Tensor:
        """(B,) nats; without randomness in continuous time."""
        t, D = self.first, self.D
        nats = 0.5 * D * (math.log(2 * math.pi) - self.path.log_snr(t))
        if self.T is None:
            return (nats + 0.5 * D).expand(len(self.x))
        return nats + 0.5 * self.path.alpha(t).square() * self._error(t.expand(len(self.x)), noise)
