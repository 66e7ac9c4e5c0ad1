"""Tasks whose posterior is a normal distribution or a mixture of such, on all of R^D or within a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.data.priors import NormalPrior, UniformPrior
from gencli.data.task import Task

_D, _VARIANCE = 10, 0.1


def _log_normal(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(x; mean, std^2 I) of rows."""
    return -0.5 * ((x - mean) / std).square().sum(1) - x.shape[1] * math.log(std * math.sqrt(2 * math.pi))


def _log_mass(mean: Tensor, std: float, side: float) -> Tensor:
    """log of what N(mean, std^2 I) has in [-side, side]^D, by row."""
    log_cdf, z = torch.special.log_ndtr, mean.abs()
    # the interval lies below or around |mean|, so both terms are tails on the side where log_ndtr is precise
    high, low = log_cdf((side - z) / std), log_cdf((-side - z) / std)
    return (high + torch.log1p(-(low - high).exp())).sum(1)


def _within(mean: Tensor, std: float, side: float, generator: torch.Generator) -> Tensor:
    """A draw of N(mean, std^2) within [-side, side] for each coordinate, by inversion of the tail that is precise."""
    sign = torch.where(mean > 0, -1.0, 1.0)  # mirrored, so that the mean is at most 0 and the upper tail is what counts
    centre = sign * mean
    low, high = (torch.special.ndtr((centre - end) / std) for end in (-side, side))  # P(z > end)
    u = torch.rand(mean.shape, generator=generator, dtype=torch.float64)
    z = -torch.special.ndtri(torch.lerp(high, low, u))
    return sign * (centre + std * z).clamp(-side, side)


class GaussianLinear(Task):
    """theta ~ N(0, 0.1 I) of 10 dimensions, x ~ N(theta, 0.1 I); so theta given x ~ N(x / 2, 0.05 I)."""

    name = "gaussian_linear"
    observed = _D

    def __init__(self) -> None:
        self.prior = NormalPrior([0.0] * _D, [1 / _VARIANCE] * _D)

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return theta + math.sqrt(_VARIANCE) * torch.randn(theta.shape, generator=generator, dtype=torch.float64)

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        return _log_normal(x, theta, math.sqrt(_VARIANCE))

    def log_posterior(self, theta: Tensor, x: Tensor) -> Tensor:
        return _log_normal(theta, x / 2, math.sqrt(_VARIANCE / 2))

    def posterior(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, _D, generator=generator, dtype=torch.float64)
        return x / 2 + math.sqrt(_VARIANCE / 2) * z


class GaussianLinearUniform(Task):
    """theta ~ U[-1, 1]^10, x ~ N(theta, 0.1 I); so theta given x ~ N(x, 0.1 I) within the box."""

    name = "gaussian_linear_uniform"
    observed = _D

    def __init__(self) -> None:
        self.prior = UniformPrior([-1.0] * _D, [1.0] * _D)

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return theta + math.sqrt(_VARIANCE) * torch.randn(theta.shape, generator=generator, dtype=torch.float64)

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        return _log_normal(x, theta, math.sqrt(_VARIANCE))

    def log_posterior(self, theta: Tensor, x: Tensor) -> Tensor:
        std = math.sqrt(_VARIANCE)
        log_p = _log_normal(theta, x, std) - _log_mass(x, std, 1.0)
        return torch.where(self.prior.box.contains(theta), log_p, -torch.inf)

    def posterior(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        return self.prior.box.within(_within(x.expand(n, -1), math.sqrt(_VARIANCE), 1.0, generator))


class GaussianMixture(Task):
    """theta ~ U[-10, 10]^2, x ~ N(theta, I) / 2 + N(theta, 0.01 I) / 2: a narrow core, wide tails."""

    name = "gaussian_mixture"
    observed = 2
    STD, SIDE = (1.0, 0.1), 10.0

    def __init__(self) -> None:
        self.prior = UniformPrior([-self.SIDE] * 2, [self.SIDE] * 2)

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        wide = torch.rand(len(theta), 1, generator=generator, dtype=torch.float64) < 0.5
        std = torch.where(wide, *self.STD)
        return theta + std * torch.randn(theta.shape, generator=generator, dtype=torch.float64)

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        return torch.stack([_log_normal(x, theta, std) for std in self.STD]).logsumexp(0) - math.log(2)

    def _log_masses(self, x: Tensor) -> Tensor:
        """log of half of what each component has in the box, (2, n)."""
        return torch.stack([_log_mass(x, std, self.SIDE) for std in self.STD]) - math.log(2)

    def log_posterior(self, theta: Tensor, x: Tensor) -> Tensor:
        log_p = self.log_likelihood(x, theta) - self._log_masses(x).logsumexp(0)
        return torch.where(self.prior.box.contains(theta), log_p, -torch.inf)

    def posterior(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        share = self._log_masses(x[None]).squeeze(1).softmax(0)[0]
        wide = torch.rand(n, 1, generator=generator, dtype=torch.float64) < share
        far, near = (_within(x.expand(n, -1), std, self.SIDE, generator) for std in self.STD)
        return self.prior.box.within(torch.where(wide, far, near))
