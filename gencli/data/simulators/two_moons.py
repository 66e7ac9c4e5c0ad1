"""Two moons: a posterior of two crescents, each with structure at the scale of 0.01."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gencli.data.priors import UniformPrior
from gencli.data.task import Task

_OFFSET, _RADIUS, _WIDTH = 0.25, 0.1, 0.01
_ANGLES, _RADII = 200, 6  # of the quadrature of p(x)
_ROWS = 64  # at a time
_REACH = _RADIUS + 5 * _WIDTH


class TwoMoons(Task):
    """theta ~ U[-1, 1]^2, x = p + (-|theta_1 + theta_2|, -theta_1 + theta_2) / sqrt(2).

    p = (r cos a + 0.25, r sin a) with a ~ U(-pi/2, pi/2), r ~ N(0.1, 0.01^2) has the density
    N(r; 0.1, 0.01^2) / (pi r) on the half plane right of 0.25. Rotated, theta is q with |q_1| = p_1 - x_1, q_2 =
    x_2 - p_2 up to signs, so that the posterior is drawn exactly, and p(x) is an integral over the crescent.
    """

    name = "two_moons"
    observed = 2

    def __init__(self) -> None:
        self.prior = UniformPrior([-1.0, -1.0], [1.0, 1.0])

    def _crescent(self, n: int, generator: torch.Generator) -> Tensor:
        angle = math.pi * (torch.rand(n, generator=generator, dtype=torch.float64) - 0.5)
        r = _RADIUS + _WIDTH * torch.randn(n, generator=generator, dtype=torch.float64)
        return torch.stack([r * angle.cos() + _OFFSET, r * angle.sin()], 1)

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return self._crescent(len(theta), generator) + self._shift(theta)

    @staticmethod
    def _shift(theta: Tensor) -> Tensor:
        first, second = theta[:, 0], theta[:, 1]
        return torch.stack([-(first + second).abs(), second - first], 1) / math.sqrt(2)

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        u = x - self._shift(theta) - torch.tensor([_OFFSET, 0.0]).to(x)
        r = u.square().sum(1).sqrt().clamp(min=1e-300 if x.dtype == torch.float64 else 1e-30)
        log_p = -0.5 * ((r - _RADIUS) / _WIDTH).square() - math.log(_WIDTH * math.sqrt(2 * math.pi) * math.pi) - r.log()
        return torch.where(u[:, 0] > 0, log_p, -torch.inf)

    @staticmethod
    def _parameters(p: Tensor, x: Tensor, sign: Tensor | float) -> tuple[Tensor, Tensor]:
        """Theta of points p (..., 2) of the crescent, by the sign of theta_1 + theta_2; and whether they fit."""
        along, across = sign * (p[..., 0] - x[..., 0]), x[..., 1] - p[..., 1]
        theta = torch.stack([along - across, along + across], -1) / math.sqrt(2)
        return theta, (p[..., 0] > x[..., 0]) & (theta.abs() < 1).all(-1)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) of rows (n, 2): p(x) = (P(+) + P(-)) / 4, the shares of the crescent that lead to the prior's box.

        Both are 1 where a rectangle around the crescent leads there. Else Gauss and Hermite's rule over r and the
        midpoint rule over the angle, good to a few 1e-3 nats.
        """
        x = x.double()
        ends = torch.tensor([_OFFSET, _OFFSET + _REACH], dtype=torch.float64), torch.tensor([-_REACH, _REACH]).double()
        corners = torch.cartesian_prod(*ends)
        whole = torch.stack([self._parameters(corners, x[:, None], sign)[1].all(1) for sign in (1.0, -1.0)]).all(0)
        share = torch.full((len(x),), 2.0, dtype=torch.float64)
        share[~whole] = self._shares(x[~whole])
        return (share / 4).log()

    def _shares(self, x: Tensor) -> Tensor:
        """P(+) + P(-) of rows, by quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_RADII)
        r, w = _RADIUS + _WIDTH * torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
        angle = math.pi * ((torch.arange(_ANGLES, dtype=torch.float64) + 0.5) / _ANGLES - 0.5)
        p = torch.stack([r[:, None] * angle.cos() + _OFFSET, r[:, None] * angle.sin()], -1)
        found = [x.new_zeros(0)]
        for rows in x.split(_ROWS):
            fits = [self._parameters(p, rows[:, None, None], sign)[1].double().mean(2) @ w for sign in (1.0, -1.0)]
            found.append(fits[0] + fits[1])
        return torch.cat(found)

    def log_posterior(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.log_likelihood(x, theta) + self.prior.log_prob(theta) - self.log_evidence(x)

    def posterior(self, x: Tensor, n: int, generator: torch.Generator) -> Tensor:
        found, there, tries = [], 0, 0
        while there < n:
            sign = torch.where(torch.rand(2 * n, generator=generator, dtype=torch.float64) < 0.5, 1.0, -1.0)
            theta, fits = self._parameters(self._crescent(2 * n, generator), x, sign)
            found.append(theta[fits])
            there, tries = there + int(fits.sum()), tries + 1
            if tries == 1000 and there < n:
                raise ValueError(f"data.task=two_moons: no parameters of the prior lead to {x.tolist()}")
        return torch.cat(found)[:n]
