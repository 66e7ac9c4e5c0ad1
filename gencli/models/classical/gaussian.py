"""The multivariate normal N(mu, Sigma): what every other density has to beat.

log p(x) = -1/2 |L^-1 (x - mu)|^2 - log det L - D/2 log 2 pi,    Sigma = L L^T
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import NonNegative
from gencli.core.spec import Spec
from gencli.core.tensors import LOG_2PI, cholesky, positive
from gencli.models.base import DataInitialized, ExactLikelihood, Reparameterized
from gencli.models.structure import Sloped

Covariance = Literal["isotropic", "diagonal", "full"]
"""One variance, one for each coordinate, or any."""


class Normals(nn.Module):
    """K normal distributions in D dimensions.

    Args:
        components: K.
        dim: D.
        covariance: ``isotropic`` (one variance), ``diagonal`` or ``full``.
    """

    def __init__(self, components: int, dim: int, covariance: Covariance) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(components, dim))
        self.log_diagonal = nn.Parameter(torch.zeros(components, 1 if covariance == "isotropic" else dim))
        self.lower = nn.Parameter(torch.zeros(components, dim, dim)) if covariance == "full" and dim > 1 else None

    def _factor(self, lower: Tensor) -> Tensor:
        """L of each component: (K, D, D)."""
        return lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp())

    def _white(self, x: Tensor) -> Tensor:
        """L_k^-1 (x - mu_k): (B, D) -> (K, B, D)."""
        away = x - self.mean[:, None]
        if self.lower is None:
            return away * (-self.log_diagonal[:, None]).exp()
        return torch.linalg.solve_triangular(self._factor(self.lower), away.mT, upper=False).mT

    def _of_white(self, white: Tensor) -> Tensor:
        D = white.shape[2]
        log_det = self.log_diagonal.expand(-1, D).sum(1)
        return (-0.5 * (white.square().sum(2) + D * LOG_2PI) - log_det[:, None]).T

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mu_k, Sigma_k): (B, D) -> (B, K) nats."""
        return self._of_white(self._white(x))

    @torch.no_grad()
    def slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-log N(x; mu_k, Sigma_k) (B, K), and its gradient Sigma_k^-1 (x - mu_k): (K, B, D)."""
        white = self._white(x)
        if self.lower is None:
            gradient = white * (-self.log_diagonal[:, None]).exp()
        else:
            gradient = torch.linalg.solve_triangular(self._factor(self.lower).mT, white.mT, upper=True).mT
        return -self._of_white(white), gradient

    def sample(self, k: Tensor, eps: Tensor) -> Tensor:
        """mu_k + L_k eps, for the component k (n,) of each row and standard normal eps (n, D)."""
        if self.lower is None:
            return self.mean[k] + eps * self.log_diagonal.exp()[k]
        x = self.mean[k]
        for j, factor in enumerate(self._factor(self.lower)):
            x = x + (eps @ factor.T) * (k == j)[:, None]
        return x

    @torch.no_grad()
    def set(self, mean: Tensor, covariance: Tensor) -> None:
        """Take means (K, D) and covariances: (K,) variances if isotropic, (K, D) if diagonal, else (K, D, D).

        Raises:
            ValueError: a covariance is singular; names the coordinates.
        """
        way_out = "raise ridge, a share of the mean variance, or leave them out"
        self.mean.copy_(mean)
        if self.lower is None:
            variances = positive(covariance.view_as(self.log_diagonal), way_out)
            self.log_diagonal.copy_(0.5 * variances.log())
        else:
            L = cholesky(covariance.view(-1, *2 * self.mean.shape[1:]), way_out)
            self.log_diagonal.copy_(L.diagonal(dim1=1, dim2=2).log())
            self.lower.copy_(L.tril(-1))


class Gaussian(ExactLikelihood, Reparameterized, DataInitialized, Sloped):
    """A single normal distribution, which starts at its maximum-likelihood estimate.

    Args:
        spec: what one example is.
        conditional: refused.
        covariance: ``isotropic``, ``diagonal`` or ``full``.
        ridge: added to every variance, as a share of the mean variance of the data.

    Raises:
        ValueError: conditional.
    """

    shapes = ("vector",)
    initial_examples = 1_000_000

    def __init__(
        self, spec: Spec, *, conditional: bool = False, covariance: Covariance = "full", ridge: NonNegative = 1e-6
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: a Gaussian has no network to condition; take a flow")
        self.ridge, self.kind = ridge, covariance
        self.normal = Normals(1, spec.dim, covariance)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.normal.log_prob(x)[:, 0]

    def slope(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        e, gradient = self.normal.slopes(x)
        return e[:, 0], gradient[0]

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        eps = noise.randn(n, self.spec.dim).to(self.normal.mean) * temperature
        return self.normal.sample(torch.zeros(n, dtype=torch.long, device=eps.device), eps)

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        rows = x.double()
        mean = rows.mean(0)
        variance = (rows - mean).square().mean(0)
        ridge = self.ridge * variance.mean()
        if self.kind == "full":
            away = rows - mean
            covariance = away.T @ away / len(rows) + ridge * torch.eye(len(mean), dtype=rows.dtype, device=x.device)
        else:
            covariance = ridge + (variance if self.kind == "diagonal" else variance.mean())
        self.normal.set(mean, covariance[None])
