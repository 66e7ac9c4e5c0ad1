"""Where contrastive points come from: x is perturbed, y ~ q(y | x), and x' is drawn in proportion to q(y | x').

A perturbation of a support draws both at once. Where the density r of x' given y is not in proportion to q(y | x'), the
ratio rho = log r(x) - log r(x') corrects for it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.objectives.base import Drift


@dataclass(frozen=True, kw_only=True)
class Perturbation(ABC):
    """Draws contrastive points.

    kinds: kinds of support whose x it perturbs, as ``Support.kind`` names them.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "unit")

    @abstractmethod
    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """M contrastive points of each row.

        Args:
            x: (B, *).
            samples: M.
            noise: with B rows.

        Returns:
            x' (B, M, *), and rho (B, M) in nats; None: it is 0.
        """


@dataclass(frozen=True, kw_only=True)
class Gaussian(Perturbation):
    """x'_ij = x_i + sqrt(t) xi_i + sqrt(t) xi'_ij.

    Args:
        t: variance of the noise; a tensor has one for each coordinate.
    """

    t: float | Tensor = 1.0

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        deviation = self.t**0.5
        first = noise.randn(*x.shape).to(x)[:, None]
        second = noise.randn(len(x), samples, *x.shape[1:]).to(x)
        return x[:, None] + deviation * (first + second), None


@dataclass(frozen=True, kw_only=True)
class Scales(Perturbation):
    """Gaussian noise of many sizes: the variance of each row is drawn, uniformly in its logarithm.

    Each size by itself has the truth as its minimum, and so has their mean. Small ones tell the shape of a mode, large
    ones what modes weigh that lie apart.

    Args:
        t: the largest variance, for each coordinate.
        range: how many times as small the smallest is.
    """

    t: Tensor
    range: float = 16.0

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        part = self.range ** -noise.rand(len(x)).to(x).view(-1, *[1] * (x.ndim - 1))
        deviation = (self.t.to(x) * part).sqrt()
        first, second = noise.randn(*x.shape).to(x), noise.randn(len(x), samples, *x.shape[1:]).to(x)
        return x[:, None] + deviation[:, None] * (first[:, None] + second), None


@dataclass(frozen=True, kw_only=True)
class OrnsteinUhlenbeck(Perturbation):
    """y = e^-t x + s xi with s^2 = 1 - e^-2t, and x' = e^t (y + s xi').

    Args:
        t: time of the process.
    """

    t: float = 1.0

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        return Gaussian(t=math.expm1(2 * self.t)).draw(x, samples, noise)  # e^t s = sqrt(e^2t - 1)


def detail(x: Tensor) -> Tensor:
    """What mean-pooling loses: x less the mean of its window, of 2 neighbours in a vector, of 2 x 2 pixels in an image.

    A projection; windows that stick out at an odd end average what they hold.

    Args:
        x: (B, D) or (B, C, H, W).
    """
    if x.ndim == 2:
        means = F.avg_pool1d(x[:, None], 2, ceil_mode=True)[:, 0]
    else:
        means = F.avg_pool2d(x, 2, ceil_mode=True).repeat_interleave(2, 2)[:, :, : x.shape[2]]
    return x - means.repeat_interleave(2, -1)[..., : x.shape[-1]]


@dataclass(frozen=True, kw_only=True)
class Pooling(Perturbation):
    """y = h(x) is the mean of each window, and x' any point with h(x') = y.

    That fibre has no uniform distribution, so x' = x - d(x) + sqrt(t) d(xi') is drawn by a Gaussian r on it, with
    log r(x) = -|d(x)|^2 / 2t and d what pooling loses.

    Args:
        t: variance of the draws, best that of what pooling loses.
    """

    t: float = 1.0

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, Tensor]:
        own = detail(x)
        lost = detail(noise.randn(len(x), samples, *x.shape[1:]).to(x).flatten(0, 1))
        rho = 0.5 * lost.flatten(1).square().sum(1).view(-1, samples)
        rho = rho - own.flatten(1).square().sum(1)[:, None] / (2 * self.t)
        return (x - own)[:, None] + math.sqrt(self.t) * lost.view(len(x), samples, *x.shape[1:]), rho


@dataclass(frozen=True, kw_only=True)
class Ito(Perturbation):
    """y is where dX = b(X) dt + dW brings x by the time t, in K Euler steps of length h; x' is where it may have begun.

    Every x' is the end of a path from y backwards, dX = -b(X) dt + dW. A path x_0..x_K has two laws, forwards from x_0
    and backwards from x_K, and

        a = log p(forwards) - log p(backwards)
          = 1/2h sum_k (|x_k - x_k+1 + h b(x_k+1)|^2 - |x_k+1 - x_k - h b(x_k)|^2)

    is what stands in place of the density of x' given y, of which nothing is known: rho_j = a(path of x'_j) - a(path of
    x). For h -> 0 it is -int div b dt, the weight of Feynman and Kac; as a sum of the steps that were taken it is exact
    for every h, so that the truth is the minimum whatever K is.

    Args:
        drift: b.
        t: time.
        steps: K.

    Raises:
        ValueError: b(x) is not shaped as x; when points are drawn.

    References:
        Schröder, Ou, Lim, Li, Vollmer and Duncan, "Energy discrepancies: a score-independent loss for energy-based
        models", 2023 (the weight of Feynman and Kac; that of steps is the ratio of their normal densities).
    """

    drift: Drift
    t: float = 1.0
    steps: int = 10

    @torch.no_grad()
    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, Tensor]:
        y, own = self._path(x, 1.0, noise, len(x))
        start = y[:, None].expand(-1, samples, *[-1] * (x.ndim - 1)).flatten(0, 1)
        others, a = self._path(start, -1.0, noise, len(x))
        return others.view(len(x), samples, *x.shape[1:]), a.view(len(x), samples) - own[:, None]

    def _path(self, x: Tensor, direction: float, noise: Noise, rows: int) -> tuple[Tensor, Tensor]:
        """The end of a path from x (n, *), n a multiple of the rows of noise, and a (n,)."""
        h, b = self.t / self.steps, self._drift(x)
        a = x.new_zeros(len(x))
        for _ in range(self.steps):
            xi = noise.randn(rows, len(x) // rows, *x.shape[1:]).to(x).flatten(0, 1)
            new = x + direction * h * b + math.sqrt(h) * xi
            b_new = self._drift(new)
            back = (x - new + direction * h * b_new).flatten(1).square().sum(1) / (2 * h)
            gone = xi.flatten(1).square().sum(1) / 2
            a = a + direction * (back - gone)
            x, b = new, b_new
        return x, a

    def _drift(self, x: Tensor) -> Tensor:
        b = self.drift(x)
        if b.shape != x.shape:
            raise ValueError(f"objective.drift gives {tuple(b.shape)} for x of {tuple(x.shape)}; b(x) is shaped as x")
        return b.to(x)
