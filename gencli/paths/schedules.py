"""Paths x_t = alpha(t) x_0 + sigma(t) eps from data (t = 0) to noise (t = 1)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.options import BelowOne, Positive, Range
from gencli.paths.base import Path

FromAbove0 = Annotated[float, Range(low=1e-8, below=1)]
"""A t_min for a path whose velocity diverges at 0."""


class _Interval(Path):
    """A path with an earliest time.

    Args:
        t_min: the earliest time in use.
    """

    def __init__(self, t_min: BelowOne) -> None:
        super().__init__()
        self.t_min = t_min


class _Betas(_Interval):
    """The linear schedule beta(t) = beta_min + t (beta_max - beta_min); B(t) is its integral from 0."""

    def __init__(self, beta_min: Positive, beta_max: Positive, t_min: BelowOne) -> None:
        super().__init__(t_min)
        if beta_min > beta_max:
            raise ValueError(f"model.path.beta_min={beta_min}: at most model.path.beta_max={beta_max}")
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def B(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def B_inverse(self, B: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        # The root of slope/2 t^2 + beta_min t = B in the form that does not cancel
        return 2 * B / (self.beta_min + (self.beta_min**2 + 2 * slope * B).sqrt())

    def alpha(self, t: Tensor) -> Tensor:
        return (-0.5 * self.B(t)).exp()

    def d_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t) * self.alpha(t)


class VP(_Betas):
    """Variance preserving, linear beta: alpha^2 = exp(-B(t)), sigma^2 = 1 - alpha^2, B' = beta.

    Its T-step view is DDPM: beta_i is about beta(i/T) / T.

    Args:
        beta_min: beta(0).
        beta_max: beta(1).
        t_min: the earliest time in use; sigma' diverges at 0.

    Raises:
        ValueError: betas that fall.

    References:
        Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020; Song et al., "Score-based generative
        modeling through stochastic differential equations", 2021.
    """

    def __init__(self, beta_min: Positive = 0.1, beta_max: Positive = 20.0, t_min: FromAbove0 = 1e-5) -> None:
        super().__init__(beta_min, beta_max, t_min)

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self.B(t))).sqrt()

    def d_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * self.beta(t) * (-self.B(t)).exp() / self.sigma(t)

    def turn(self, t: Tensor) -> Tensor:
        return 0.5 * self.beta(t) * self.alpha(t) / self.sigma(t)

    def numbers(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        alpha, sigma = self.alpha(t), self.sigma(t)
        return alpha, sigma, -sigma, alpha, 0.5 * self.beta(t) * alpha / sigma

    def time(self, log_snr: Tensor) -> Tensor:
        return self.B_inverse(F.softplus(-log_snr))


class SubVP(_Betas):
    """Sub-VP: alpha as for VP, sigma = 1 - alpha^2, below that of VP.

    Args:
        beta_min: beta(0).
        beta_max: beta(1).
        t_min: the earliest time in use.

    References:
        Song et al., "Score-based generative modeling through stochastic differential equations", 2021.
    """

    def __init__(self, beta_min: Positive = 0.1, beta_max: Positive = 20.0, t_min: BelowOne = 1e-5) -> None:
        super().__init__(beta_min, beta_max, t_min)

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.B(t))

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.beta(t) * (-self.B(t)).exp()

    def time(self, log_snr: Tensor) -> Tensor:
        # (1 - alpha^2) / alpha = 2 sinh(B/2) = exp(-log_snr / 2)
        return self.B_inverse(2 * torch.asinh(0.5 * (-0.5 * log_snr).exp()))


class Cosine(_Interval):
    """Variance preserving with a cosine: alpha = cos(a(t)) / cos(a(0)), a(t) = (t + s) / (1 + s) pi/2.

    It ends at t = 0.999, as the published betas are cut at 0.999: at 1 no trace of the data is left.

    Args:
        s: keeps beta from vanishing at 0.
        t_min: the earliest time in use; sigma' diverges at 0.

    References:
        Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021.
    """

    t_max = 0.999

    def __init__(self, s: Positive = 0.008, t_min: FromAbove0 = 1e-5) -> None:
        super().__init__(t_min)
        self.s = s
        self.start = math.pi / 2 * s / (1 + s)
        self.rate = math.pi / 2 / (1 + s)

    def alpha(self, t: Tensor) -> Tensor:
        return (self.rate * (1 - t)).sin() / math.cos(self.start)  # cos a(t), without its rounding error near t = 1

    def d_alpha(self, t: Tensor) -> Tensor:
        return -self.rate * (self.start + self.rate * t).sin() / math.cos(self.start)

    def sigma(self, t: Tensor) -> Tensor:
        # cos^2 a0 - cos^2 a = sin(a - a0) sin(a + a0)
        moved = self.rate * t
        return (moved.sin() * (moved + 2 * self.start).sin()).clamp(min=0).sqrt() / math.cos(self.start)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def turn(self, t: Tensor) -> Tensor:
        return -self.d_alpha(t) / self.sigma(t)

    def numbers(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        alpha, sigma = self.alpha(t), self.sigma(t)
        return alpha, sigma, -sigma, alpha, -self.d_alpha(t) / sigma

    def time(self, log_snr: Tensor) -> Tensor:
        # As tan^2 a with sigma^2 small against 1 where acos(alpha) would cancel: sin^2 a = 1 - alpha^2 cos^2 a0
        sin2 = torch.sigmoid(-log_snr) + torch.sigmoid(log_snr) * math.sin(self.start) ** 2
        cos2 = torch.sigmoid(log_snr) * math.cos(self.start) ** 2
        return (torch.atan2(sin2.sqrt(), cos2.sqrt()) - self.start) / self.rate


class VE(Path):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t.

    Samplers start from N(0, sigma_max^2 I), which differs from p_1 by the data themselves; records state by how much.

    Args:
        sigma_min: sigma(0), small against the details of the data.
        sigma_max: sigma(1), large against the data.

    Raises:
        ValueError: sigma_min is not below sigma_max.

    References:
        Song and Ermon, "Generative modeling by estimating gradients of the data distribution", 2019; Song et al.,
        "Score-based generative modeling through stochastic differential equations", 2021.
    """

    def __init__(self, sigma_min: Positive = 0.01, sigma_max: Positive = 50.0) -> None:
        super().__init__()
        if not sigma_min < sigma_max:
            raise ValueError(f"model.path.sigma_min={sigma_min}: below model.path.sigma_max={sigma_max}")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.prior_std = sigma_max
        self.rate = math.log(sigma_max / sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.rate * t).exp()

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.rate * self.sigma(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return (-0.5 * log_snr - math.log(self.sigma_min)) / self.rate


class Straight(_Interval):
    """The straight line: alpha = 1 - t, sigma = t; velocity eps - x_0 does not depend on t.

    Args:
        t_min: the earliest time in use; 0 is possible, since the velocity stays finite.

    References:
        Liu, Gong and Liu, "Flow straight and fast: learning to generate and transfer data with rectified flow", 2023;
        Lipman et al., "Flow matching for generative modeling", 2023.
    """

    def __init__(self, t_min: BelowOne = 0.0) -> None:
        super().__init__(t_min)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def turn(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def numbers(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(t)
        return 1 - t, t, -one, one, one

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * torch.logit(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * log_snr)


class Trigonometric(_Interval):
    """A quarter circle: alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Args:
        t_min: the earliest time in use; 0 is possible, since the velocity stays finite.

    References:
        Albergo and Vanden-Eijnden, "Building normalizing flows with stochastic interpolants", 2023.
    """

    def __init__(self, t_min: BelowOne = 0.0) -> None:
        super().__init__(t_min)

    def alpha(self, t: Tensor) -> Tensor:
        return (0.5 * math.pi * (1 - t)).sin()  # cos, without its rounding error at t = 1

    def d_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi * (0.5 * math.pi * t).sin()

    def sigma(self, t: Tensor) -> Tensor:
        return (0.5 * math.pi * t).sin()

    def d_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * (0.5 * math.pi * t).cos()

    def turn(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 0.5 * math.pi)

    def numbers(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        alpha, sigma = self.alpha(t), self.sigma(t)
        return alpha, sigma, -sigma, alpha, self.turn(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan((-0.5 * log_snr).exp())
