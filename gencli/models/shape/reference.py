"""A simple normalised density, fitted to the data once and then fixed: what an energy tilts, or is compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.interfaces import DataInitialized, DirectSampling, ExactLikelihood, Spec
from gencli.models.transform.gaussian import Gaussian
from gencli.models.transform.gmm import GMM
from gencli.noise import Noise

KINDS = ("gaussian", "gmm")


class Reference(ExactLikelihood, DirectSampling, DataInitialized):
    """A Gaussian or a mixture of them, started from the data (maximum likelihood, EM) and never trained.

    Images are flattened inside.

    Args:
        spec: what one example is.
        kind: ``gaussian`` or ``gmm``.
        covariance: ``isotropic``, ``diagonal`` or ``full``.
        components: of ``gmm``.
        widen: factor on every standard deviation after the fit: wider than the data covers the tails of a model, which
            importance weights need.
        ridge: added to every variance, as a share of the mean variance of the data.

    Raises:
        ValueError: no such kind or covariance, or a factor that is not positive.
    """

    shapes = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        kind: str = "gaussian",
        covariance: str = "full",
        components: int = 10,
        widen: float = 1.0,
        ridge: float = 1e-3,
    ) -> None:
        super().__init__(spec)
        if kind not in KINDS:
            raise ValueError(f"kind={kind}: {' or '.join(KINDS)}")
        if widen <= 0:
            raise ValueError(f"widen={widen}: a factor is positive")
        flat = Spec((spec.dim,), spec.support)
        self.widen = widen
        self.density: Gaussian | GMM
        if kind == "gaussian":
            self.density = Gaussian(flat, covariance=covariance, ridge=ridge)
        else:
            self.density = GMM(flat, components=components, covariance=covariance, ridge=ridge)
        self.initial_examples = min(self.density.initial_examples, 20_000)
        self.requires_grad_(False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.density.log_prob(x.flatten(1))

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.density.sample(n, noise=noise, temperature=temperature).view(n, *self.spec.shape)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.density.initialize(x.flatten(1))
        normals = self.density.normal if isinstance(self.density, Gaussian) else self.density.normals
        normals.log_diagonal.add_(math.log(self.widen))
        if normals.lower is not None:
            normals.lower.mul_(self.widen)
