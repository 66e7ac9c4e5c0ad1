"""Probabilistic principal component analysis: the latent variable model whose every integral is known.

    z ~ N(0, I_d),    x | z ~ N(W z + mu, sigma^2 I_D),    x ~ N(mu, W W^T + sigma^2 I)

With M = W^T W + sigma^2 I the posterior is z | x ~ N(M^-1 W^T (x - mu), sigma^2 M^-1); taken as q it makes every
importance weight equal p(x).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencli.core import sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, NonNegative
from gencli.core.spec import Spec
from gencli.core.tensors import LOG_2PI, SINGULAR, factor
from gencli.models.base import DataInitialized, Elbo, ExactLikelihood, LatentVariable


class PPCA(ExactLikelihood, LatentVariable, DataInitialized):
    """A linear Gaussian model, which starts at its maximum-likelihood solution.

    That is W = U (L - sigma^2 I)^1/2 from the d largest eigenvalues L and eigenvectors U of the data's covariance, and
    sigma^2 the mean of the other eigenvalues.

    Args:
        spec: what one example is.
        conditional: refused.
        latent: d, less than D; auto: ``sizes.latents``, less than D.
        floor: least noise variance, as a share of the mean variance of the data.

    Raises:
        ValueError: conditional, or as many latents as coordinates.

    References:
        Tipping and Bishop, "Probabilistic principal component analysis", 1999.
    """

    shapes = ("vector",)
    initial_examples = 1_000_000
    stoppable = False

    def __init__(
        self, spec: Spec, *, conditional: bool = False, latent: Auto[Count] = "auto", floor: NonNegative = 1e-6
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: ppca has no network to condition; take model=vae")
        d: int = sizes.settle(self, "latent", latent, max(1, min(sizes.latents(spec.dim), spec.dim - 1)))
        if d >= spec.dim:
            raise ValueError(f"model.latent={d}: at most {spec.dim - 1}, for data of {spec.dim} coordinates")
        self.latent_dim, self.floor = d, floor
        self.mean = nn.Parameter(torch.zeros(spec.dim))
        self.W = nn.Parameter(torch.eye(spec.dim, d))
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def _exact(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x - mu, W, ln sigma, C with C C^T = M, and C^-1 W^T (x - mu) as columns.

        In fp64 where the device has it: an oracle should not lose digits to small noise.
        """
        precision = x.dtype if x.device.type == "mps" else torch.float64
        away, W, log_sigma = (x - self.mean).to(precision), self.W.to(precision), self.log_sigma.to(precision)
        eye = torch.eye(self.latent_dim, dtype=precision, device=x.device)
        C = factor(W.T @ W + (2 * log_sigma).exp() * eye)
        return away, W, log_sigma, C, torch.linalg.solve_triangular(C, (away @ W).T, upper=False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """By the Woodbury identity: |x - mu|^2 - |C^-1 W^T (x - mu)|^2 = sigma^2 times the Mahalanobis distance."""
        D, d = self.W.shape
        away, _, log_sigma, C, inside = self._exact(x)
        distance = (away.square().sum(1) - inside.square().sum(0)) * (-2 * log_sigma).exp()
        log_det = 2 * C.diagonal().log().sum() + 2 * (D - d) * log_sigma
        return -0.5 * (distance + log_det + D * LOG_2PI)

    def infer(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        *_, C, inside = self._exact(x)
        return (torch.linalg.solve_triangular(C.T, inside, upper=True).T,)

    def log_weights(
        self,
        x: Tensor,
        k: int,
        y: Tensor | None = None,
        *,
        noise: Noise,
        inferred: tuple[Tensor, ...] | None = None,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        away, W, log_sigma, C, _ = self._exact(x)
        (mean,) = inferred or self.infer(x)
        eps = noise.randn(len(x), k, self.latent_dim).to(mean)
        # z = mean + sigma C^-T eps has covariance sigma^2 M^-1
        spread = torch.linalg.solve_triangular(C.T, eps.flatten(0, 1).T, upper=True).T.view(eps.shape)
        z = mean[:, None] + log_sigma.exp() * spread
        log_q = -0.5 * eps.square().sum(2) + C.diagonal().log().sum() - self.latent_dim * log_sigma
        return _log_given(away, z, W, log_sigma) - 0.5 * z.square().sum(2) - log_q

    def elbo(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Elbo:
        """Both terms in closed form: their sum is -log p(x), q being the posterior."""
        away, W, log_sigma, C, _ = self._exact(x)
        (mean,) = self.infer(x)
        d = self.latent_dim
        covariance = (2 * log_sigma).exp() * torch.cholesky_inverse(C)
        log_det = 2 * d * log_sigma - 2 * C.diagonal().log().sum()
        rate = 0.5 * (mean.square().sum(1) + covariance.diagonal().sum() - d - log_det)
        blur = 0.5 * ((W @ covariance) * W).sum() * (-2 * log_sigma).exp()
        return Elbo(blur - _log_given(away, mean[:, None], W, log_sigma)[:, 0], rate[:, None])

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.infer(x)[0].to(self.W.dtype)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z @ self.W.T + self.mean

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        eps = noise.randn(n, self.latent_dim + self.spec.dim).to(self.mean) * temperature
        z, rest = eps.split([self.latent_dim, self.spec.dim], 1)
        return self.decode(z) + self.log_sigma.exp() * rest

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        rows = x.double()
        mean = rows.mean(0)
        away = rows - mean
        values, vectors = torch.linalg.eigh(away.T @ away / len(rows))  # ascending
        d = self.latent_dim
        variance = torch.maximum(values[:-d].mean(), self.floor * values.mean())
        if not variance > SINGULAR * values.mean():
            filled = int((values > SINGULAR * values[-1]).sum())
            raise ValueError(
                f"model.floor={self.floor}: these examples fill {filled} dimensions, which leaves no noise beside "
                f"model.latent={d}: raise model.floor, or lower model.latent"
            )
        self.mean.copy_(mean)
        self.W.copy_(vectors[:, -d:] * (values[-d:] - variance).clamp(min=0).sqrt())
        self.log_sigma.copy_(0.5 * variance.log())


def _log_given(away: Tensor, z: Tensor, W: Tensor, log_sigma: Tensor) -> Tensor:
    """log p(x | z): x - mu (B, D), z (B, k, d) -> (B, k)."""
    rest = (away[:, None] - z @ W.T) * (-log_sigma).exp()
    return -0.5 * (rest.square().sum(2) + len(W) * LOG_2PI) - len(W) * log_sigma
