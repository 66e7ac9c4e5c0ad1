"""Paths from data to noise, and what can be said about a point on one.

x_t = alpha(t) x_0 + sigma(t) eps with eps ~ N(0, I), t from 0 (data) to 1 (noise).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencli.core.tensors import like, shared


@dataclass(frozen=True)
class Level:
    """The numbers of a path at times t, shaped and typed to multiply x (B, *).

    Args:
        alpha: how much of the data is left.
        sigma: standard deviation of the noise.
        a: alpha' / W.
        b: sigma' / W.
        turn: W = alpha sigma' - alpha' sigma.
    """

    alpha: Tensor
    sigma: Tensor
    a: Tensor
    b: Tensor
    turn: Tensor

    def v(self, x: Tensor, eps: Tensor) -> Tensor:
        """(alpha' x + sigma' eps) / W, what ``Prediction.v`` is to say on average, of data x and noise eps (B, *)."""
        return torch.addcmul(self.a * x, self.b, eps)


class Path(nn.Module, ABC):
    """How data become noise along time: x_t = alpha(t) x_0 + sigma(t) eps with eps ~ N(0, I), t from 0 (data) to 1.

    Mass moves with the velocity dx_t/dt = alpha' x_0 + sigma' eps. The same marginals have the SDE dx = f x dt + g dW.
    Everything works on t of any shape, elementwise.

    All but ``time`` is differentiable, in t and in parameters, where a path has them.

    t_min, t_max: the ends of the times that are used; t_min > 0 where alpha' or sigma' diverge at 0.
    prior_std: standard deviation of the normal distribution from which samplers start at t_max.
    """

    t_min: float = 0.0
    t_max: float = 1.0
    prior_std: float = 1.0

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """How much of the data is left, in [0, 1]."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """d alpha / dt."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """d sigma / dt."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The t at which log-SNR has this value: the inverse of ``log_snr``."""

    def interior(self) -> list[nn.Parameter]:
        """Parameters that move times between two noise levels without moving the levels at t_min and t_max."""
        return []

    def turn(self, t: Tensor) -> Tensor:
        """W = alpha sigma' - alpha' sigma > 0: how fast data turn into noise; the unit of ``Prediction.v``."""
        return self.alpha(t) * self.d_sigma(t) - self.d_alpha(t) * self.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2), which falls with t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def d_log_snr(self, t: Tensor) -> Tensor:
        """d log-SNR / dt = -2 W / (alpha sigma)."""
        return -2 * self.turn(t) / (self.alpha(t) * self.sigma(t))

    def f(self, t: Tensor) -> Tensor:
        """Drift of the SDE for a unit of x: alpha' / alpha."""
        return self.d_alpha(t) / self.alpha(t)

    def g2(self, t: Tensor) -> Tensor:
        """Squared diffusion of the SDE: g^2 = (sigma^2)' - 2 f sigma^2 = 2 W sigma / alpha."""
        return 2 * self.turn(t) * self.sigma(t) / self.alpha(t)

    def numbers(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """alpha, sigma, alpha' / W, sigma' / W and W; a path that has them for less, or in closed form, says so."""
        W = self.turn(t)
        return self.alpha(t), self.sigma(t), self.d_alpha(t) / W, self.d_sigma(t) / W, W

    def level(self, t: Tensor, x: Tensor) -> Level:
        """``numbers`` at times t (B,), computed in the type of t; of one row where all of x (B, *) share a time."""
        t = shared(t).view(-1, *[1] * (x.ndim - 1))
        return Level(*(c.to(x.dtype) for c in self.numbers(t)))

    def noised(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha x + sigma eps, for t (B,)."""
        return torch.addcmul(like(self.alpha(t), x) * x, like(self.sigma(t), x), eps)


class Prediction:
    """What a model says about x_t: velocity, score, noise and denoised mean, all from one number a coordinate.

    v = velocity / W, with W = alpha sigma' - alpha' sigma, stays finite at both ends of every path. On a
    variance-preserving path it is the v of "Progressive distillation for fast sampling of diffusion models" (Salimans
    and Ho, 2022), on the straight line the velocity itself. From x_t = alpha x0 + sigma eps and the velocity
    alpha' x0 + sigma' eps follows

        x0 = (sigma'/W) x_t - sigma v,    eps = alpha v - (alpha'/W) x_t,    score = -eps / sigma.

    Args:
        path: of x_t.
        x: x_t (B, *).
        t: (B,).
        v: (B, *).
        scale: how much v moves for a unit of the network's output, broadcast to v: losses that count in the network's
            own units divide by it.
        level: what the path says of t, where it is known already.
    """

    def __init__(
        self,
        path: Path,
        x: Tensor,
        t: Tensor,
        v: Tensor,
        scale: Tensor | None = None,
        level: Level | None = None,
    ) -> None:
        self.path, self.x, self.t, self.v = path, x, t, v
        self.scale = torch.ones_like(v[:1]) if scale is None else scale
        self.level = path.level(t, x) if level is None else level

    @classmethod
    def of(cls, path: Path, x: Tensor, t: Tensor, level: Level | None = None, **known: Tensor) -> Prediction:
        """From one of velocity=, score=, eps=, x0= or v=."""
        ((kind, value),) = known.items()
        level = path.level(t, x) if level is None else level
        alpha, sigma, W = level.alpha, level.sigma, level.turn
        one = torch.ones_like(alpha)
        if kind == "score":
            kind, value = "eps", -sigma * value
        if kind == "v":
            return cls(path, x, t, value, one, level)
        if kind == "velocity":
            return cls(path, x, t, value / W, one / W, level)
        if kind == "eps":
            return cls(path, x, t, (value + level.a * x) / alpha, one / alpha, level)
        if kind == "x0":
            return cls(path, x, t, (level.b * x - value) / sigma, -one / sigma, level)
        raise TypeError(f"{kind} is none of velocity, score, eps, x0, v")

    @property
    def velocity(self) -> Tensor:
        """dx_t/dt of the probability flow, E[alpha' x_0 + sigma' eps | x_t]."""
        return self.level.turn * self.v

    @property
    def x0(self) -> Tensor:
        """The denoised mean E[x_0 | x_t]."""
        return self.level.b * self.x - self.level.sigma * self.v

    @property
    def eps(self) -> Tensor:
        """The noise E[eps | x_t]."""
        return self.level.alpha * self.v - self.level.a * self.x

    @property
    def score(self) -> Tensor:
        """grad log p_t(x_t); valid where data and noise were drawn independently (``Learned.score``)."""
        return -self.eps / self.level.sigma

    def at(self, s: Tensor) -> Tensor:
        """Where x_t goes by the times s (B,) while denoised mean and noise stay: alpha_s x0 + sigma_s eps, of DDIM."""
        return self.path.noised(self.x0, self.eps, s)
