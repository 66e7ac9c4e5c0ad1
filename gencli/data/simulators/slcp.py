"""Simple likelihood, complex posterior: four points of a normal distribution whose parameters are theta."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.data.priors import UniformPrior
from gencli.data.task import Task


class SLCP(Task):
    """theta ~ U[-3, 3]^5; x is four points of N((theta_1, theta_2), S).

    S has deviations theta_3^2, theta_4^2 and correlation tanh theta_5. The signs of theta_3 and theta_4 leave no trace,
    so that the posterior has four modes.

    "Sequential neural likelihood" (Papamakarios, Sterratt and Murray, 2019).
    """

    name = "slcp"
    observed = 8
    _TINY = 1e-6  # of a deviation: theta_3 or theta_4 of 0 would leave a point without a density

    def __init__(self) -> None:
        self.prior = UniformPrior([-3.0] * 5, [3.0] * 5)

    def _scales(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Deviations and correlation of each row, and sqrt(1 - rho^2)."""
        first, second = (theta[:, k].square() + self._TINY for k in (2, 3))
        return first, second, theta[:, 4].tanh(), 1 / theta[:, 4].cosh()

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        s1, s2, rho, rest = self._scales(theta)
        z = torch.randn(len(theta), 4, 2, generator=generator, dtype=torch.float64)
        first = theta[:, 0, None] + s1[:, None] * z[..., 0]
        second = theta[:, 1, None] + s2[:, None] * (rho[:, None] * z[..., 0] + rest[:, None] * z[..., 1])
        return torch.stack([first, second], -1).flatten(1)

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        s1, s2, rho, rest = self._scales(theta)
        points = x.view(len(x), 4, 2)
        z1 = (points[..., 0] - theta[:, 0, None]) / s1[:, None]
        z2 = ((points[..., 1] - theta[:, 1, None]) / s2[:, None] - rho[:, None] * z1) / rest[:, None]
        log_det = (s1 * s2 * rest).log() + math.log(2 * math.pi)
        return -0.5 * (z1.square() + z2.square()).sum(1) - 4 * log_det
