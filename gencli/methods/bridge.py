"""Bridges from a base q with known Z to a model, which annealed estimators walk: energies E_beta, 0 <= beta <= 1.

    E_beta = (1 - beta) E^0_beta + beta E_1,    E_1 the model's.

    geometric   E^0_beta = -log q: the base stays as it is.
    moments     E^0_beta = -log N(m_beta, S_beta): a normal whose mean and covariance go over to those of the model.

Each is a product of powers of two densities whose exponents add up to 1, so that it can be normalised (Hölder).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.tensors import cholesky
from gencli.kernels.energy import Of
from gencli.kernels.hmc import Point, hmc
from gencli.models.base import DirectSampling, ExactLikelihood, Unnormalized


class Density(ExactLikelihood, DirectSampling):
    """What a base or proposal must offer; no class of its own, but the name of the type."""


class Still:
    """The base q at every beta: the geometric path.

    Args:
        q: the base.
    """

    def __init__(self, q: Density) -> None:
        self.q = q

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Exact samples (n, *) at beta = 0."""
        return self.q.sample(n, noise=noise)

    def at(self, beta: float) -> Of:
        """E^0_beta, normalised."""
        return self.q.energy


class AveragedNormals:
    """Normals with averaged moments: the moment path.

    With d = m_1 - m_0,

        m_beta = (1 - beta) m_0 + beta m_1,    S_beta = (1 - beta) S_0 + beta S_1 + beta (1 - beta) d d^T.

    Only a family of densities has moments to average, and an energy at large lies in none. So the family is that of the
    normals: the path starts at the one with the base's mean and covariance, whatever the base's own shape is, and the
    model comes in by its power beta. Moments that are not the model's make the path longer and bias nothing. It is the
    shorter one where base and model lie far apart, as they do not if the base is fitted to the model's data.

    Args:
        zero: rows x (N, *) of the base.
        one: rows (N, *) that stand for the model's.

    References:
        Grosse, Maddison and Salakhutdinov, "Annealing between distributions by averaging moments", 2013.
    """

    RIDGE = 1e-3  # added to every variance, as a share of the mean one

    def __init__(self, zero: Tensor, one: Tensor) -> None:
        self.like = zero[:1]
        self.m_0, self.S_0 = self._moments(zero)
        self.m_1, self.S_1 = self._moments(one)

    @classmethod
    def _moments(cls, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.flatten(1).double()
        away = rows - rows.mean(0)
        covariance = away.T @ away / len(rows)
        ridge = cls.RIDGE * covariance.diagonal().mean()
        return rows.mean(0), covariance + ridge * torch.eye(len(covariance)).to(covariance)

    def normal(self, beta: float) -> tuple[Tensor, Tensor]:
        """m_beta (D,) and the Cholesky factor (D, D) of S_beta."""
        d = self.m_1 - self.m_0
        S = (1 - beta) * self.S_0 + beta * self.S_1 + beta * (1 - beta) * d.outer(d)
        return self.m_0 + beta * d, cholesky(S, "estimator.path=geometric")

    def sample(self, n: int, noise: Noise) -> Tensor:
        """Exact samples (n, *) at beta = 0."""
        mean, L = self.normal(0.0)
        eps = noise.randn(n, len(mean)).to(mean)
        return (mean + eps @ L.T).to(self.like).view(n, *self.like.shape[1:])

    def at(self, beta: float) -> Of:
        """E^0_beta, normalised."""
        mean, L = self.normal(beta)
        level = float(L.diagonal().log().sum()) + 0.5 * len(mean) * math.log(2 * math.pi)

        def energy(x: Tensor) -> Tensor:
            white = torch.linalg.solve_triangular(L, (x.flatten(1).to(mean) - mean).T, upper=False)
            return (0.5 * white.square().sum(0) + level).to(x)

        return energy


class Bridge:
    """A path with the step sizes and betas that a pilot run has chosen.

    What the main run uses is fixed before it starts, so that its weights stay unbiased.

    Args:
        model: E_1.
        base: E^0_beta.
        betas: number of intermediate steps K.
        leaps: leapfrog steps a transition.
        target: acceptance to reach.
        adapt: choose betas by how fast the weights spread; False: evenly spaced.
    """

    PILOT_CHAINS, PILOT_BETAS, GAIN = 64, 200, 0.3

    def __init__(
        self,
        model: Unnormalized,
        base: Still | AveragedNormals,
        betas: int,
        leaps: int,
        target: float,
        adapt: bool,
    ) -> None:
        self.model, self.base, self.leaps, self.target, self.adapt = model, base, leaps, target, adapt
        self.betas = torch.linspace(0, 1, betas + 1, dtype=torch.float64)
        self.sizes = torch.ones(betas + 1, dtype=torch.float64)

    def at(self, beta: float) -> Of:
        """E_beta."""
        if beta >= 1:
            return self.model.energy
        base = self.base.at(beta)
        return lambda x: (1 - beta) * base(x) + beta * self.model.energy(x)

    @torch.no_grad()
    def rise(self, x: Tensor, low: float, high: float) -> Tensor:
        """E_high - E_low, (n,) in fp64: what a step of beta adds to an energy."""
        before, after = self.base.at(low), self.base.at(high)
        first = before(x).double()
        second = first if before == after else after(x).double()
        return (high - low) * self.model.energy(x).double() + (1 - high) * second - (1 - low) * first

    def step(self, x: Tensor, k: int) -> Tensor:
        """E at beta_k less that at beta_k-1, (n,)."""
        return self.rise(x, float(self.betas[k - 1]), float(self.betas[k]))

    def move(self, x: Tensor, k: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """One transition at beta_k; returns x and the mean acceptance."""
        energy = self.at(float(self.betas[k]))
        size = x.new_full((len(x),), float(self.sizes[k]))
        point, accept = hmc(energy, Point.at(energy, x), noise, step=size, leaps=self.leaps)
        return point.x, accept.mean()

    def pilot(self, noise: Noise) -> None:
        """Run a few chains along even betas; learn step sizes, and betas along which log weights spread evenly.

        A step size follows the acceptance of all chains as beta goes on. The density of betas is the mean of an even
        one and one in proportion to the deviation of dE_beta / dbeta.
        """
        K = min(len(self.betas) - 1, self.PILOT_BETAS)
        grid = torch.linspace(0, 1, K + 1, dtype=torch.float64)
        x = self.base.sample(self.PILOT_CHAINS, noise)
        log_size = math.log(0.5 * float(x.std()))
        sizes, spread = [], []
        for i, beta in enumerate(grid.tolist()):
            energy = self.at(beta)
            point = Point.at(energy, x)
            for _ in range(20 if i == 0 else 1):  # the first step size is a guess
                point, accept = hmc(
                    energy, point, noise, step=x.new_full((len(x),), math.exp(log_size)), leaps=self.leaps
                )
                log_size += self.GAIN * (float(accept.mean()) - self.target)
            x = point.x
            sizes.append(log_size)
            near = min(i, K - 1)
            spread.append(float(self.rise(x, float(grid[near]), float(grid[near + 1])).std()))
        if self.adapt:
            deviation = torch.tensor(spread, dtype=torch.float64)
            step = (deviation[1:] + deviation[:-1]) / 2
            density = step / step.sum().clamp(min=1e-30) + 1 / K
            reached = torch.cat([grid.new_zeros(1), density.cumsum(0)]) / density.sum()
            self.betas = _interpolate(torch.linspace(0, 1, len(self.betas), dtype=torch.float64), reached, grid)
            self.betas[-1] = 1.0
        self.sizes = _interpolate(self.betas, grid, torch.tensor(sizes, dtype=torch.float64)).exp()


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(x) at points, x increasing."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1]).clamp(min=1e-30)).clamp(0, 1)
    return y[right - 1] + share * (y[right] - y[right - 1])
