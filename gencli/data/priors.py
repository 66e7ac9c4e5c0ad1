"""Priors of parameters, for tasks of here and of the user's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gencli.data.box import Box
from gencli.data.task import Prior


def _vector(values: Sequence[float] | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


class UniformPrior(Prior):
    """Uniform on a box.

    Args:
        low: (D,) ends.
        high: (D,) ends, each above that of ``low``.
    """

    def __init__(self, low: Sequence[float] | Tensor, high: Sequence[float] | Tensor) -> None:
        self.box = Box(_vector(low), _vector(high))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(n, self.dim, generator=generator, dtype=torch.float64)
        return self.box.within(torch.lerp(self.box.low, self.box.high, u))

    def log_prob(self, theta: Tensor) -> Tensor:
        volume = (self.box.high - self.box.low).log().sum().to(theta)
        return torch.where(self.box.contains(theta), -volume, -torch.inf)


class LogNormalPrior(Prior):
    """log theta ~ N(mean, diag(std^2)).

    Args:
        mean: (D,) of log theta.
        std: (D,) of log theta.
    """

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        self.mean, self.std = _vector(mean), _vector(std)
        self.box = Box(torch.zeros_like(self.mean), torch.full_like(self.mean, torch.inf))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        return (self.mean + self.std * z).exp()

    def log_prob(self, theta: Tensor) -> Tensor:
        inside = theta > 0
        log_theta = torch.where(inside, theta, 1.0).log()
        z = (log_theta - self.mean.to(theta)) / self.std.to(theta)
        each = -0.5 * z.square() - self.std.log().to(theta) - log_theta - 0.5 * math.log(2 * math.pi)
        return torch.where(inside.all(1), each.sum(1), -torch.inf)


class NormalPrior(Prior):
    """N(mean, P^-1).

    Args:
        mean: (D,).
        precision: P (D, D), or (D,), its diagonal.
    """

    def __init__(self, mean: Sequence[float] | Tensor, precision: Sequence[float] | Tensor) -> None:
        self.mean, given = _vector(mean), _vector(precision)
        self.precision = given.diag() if given.ndim == 1 else given
        self.factor = torch.linalg.cholesky(self.precision)  # P = L L^T
        self.box = Box.everywhere(len(self.mean))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(self.dim, n, generator=generator, dtype=torch.float64)
        return self.mean + torch.linalg.solve_triangular(self.factor.T, z, upper=True).T

    def log_prob(self, theta: Tensor) -> Tensor:
        z = (theta - self.mean.to(theta)) @ self.factor.to(theta)
        log_det = self.factor.diag().log().sum().to(theta)
        return -0.5 * z.square().sum(1) + log_det - 0.5 * self.dim * math.log(2 * math.pi)
