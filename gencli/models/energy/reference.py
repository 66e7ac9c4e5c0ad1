"""A normalised density that is fixed: what an energy tilts, what noise is made of, where annealing starts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model
from gencli.models.classical.gaussian import Covariance, Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.trained import TrainedRun

KINDS = ("gaussian", "gmm", "run")


class Reference(ExactLikelihood, DirectSampling, DataInitialized):
    """A Gaussian or a mixture of them, started from the data (maximum likelihood, EM) and never trained; or a run.

    Images are flattened inside.

    Args:
        spec: what one example is.
        kind: ``gaussian``, ``gmm`` or ``run``.
        covariance: ``isotropic``, ``diagonal`` or ``full``.
        components: of ``gmm``.
        widen: factor on every standard deviation after the fit: wider than the data covers the tails of a model, which
            importance weights need.
        ridge: added to every variance, as a share of the mean variance of the data.
        run: of ``run``: a trained run, best on the same data and preprocessing.

    Raises:
        ValueError: no such kind or covariance, a factor that is not positive, or ``run`` without a run.
    """

    shapes = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        kind: str = "gaussian",
        covariance: Covariance = "full",
        components: int = 10,
        widen: float = 1.0,
        ridge: float = 1e-3,
        run: TrainedRun | None = None,
    ) -> None:
        super().__init__(spec)
        if kind not in KINDS:
            raise ValueError(f"kind={kind}: {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        if (kind == "run") != (run is not None):
            raise ValueError(f"kind={kind} and run: a run folder is needed for kind=run, and only there")
        if widen <= 0:
            raise ValueError(f"widen={widen}: a factor is positive")
        flat = Spec((spec.dim,), spec.support)
        self.widen = widen
        self.density: Model
        if run is not None:
            self.density = run.density(spec)
        elif kind == "gaussian":
            self.density = Gaussian(flat, covariance=covariance, ridge=ridge)
        else:
            self.density = GMM(flat, components=components, covariance=covariance, ridge=ridge)
        self.initial_examples = 20_000 if isinstance(self.density, DataInitialized) else 2048
        self.requires_grad_(False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert isinstance(self.density, ExactLikelihood)
        return self.density.log_prob(x if self.density.spec.shape == self.spec.shape else x.flatten(1))

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        assert isinstance(self.density, DirectSampling)
        return self.density.sample(n, noise=noise, temperature=temperature).view(n, *self.spec.shape)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        if not isinstance(self.density, Gaussian | GMM):
            return
        self.density.initialize(x.flatten(1))
        normals = self.density.normal if isinstance(self.density, Gaussian) else self.density.normals
        normals.log_diagonal.add_(math.log(self.widen))
        if normals.lower is not None:
            normals.lower.mul_(self.widen)
