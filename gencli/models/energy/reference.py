"""A normalised density that is fixed: what an energy tilts, what noise is made of, where annealing starts."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, NonNegative, Positive
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model
from gencli.models.classical.gaussian import Covariance, Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.classical.independent import Independent
from gencli.models.trained import TrainedRun


class Reference(ExactLikelihood, DirectSampling, DataInitialized):
    """A density that starts from the data (maximum likelihood, EM) and is never trained; or a run.

    Of reals a Gaussian or a mixture of them, of discrete x independent coordinates with the frequencies of the data,
    each value counted once more than it was seen. Images are flattened inside.

    Args:
        spec: what one example is.
        kind: ``gaussian``, ``gmm``, ``independent`` or ``run``.
        covariance: ``isotropic``, ``diagonal`` or ``full``.
        components: of ``gmm``.
        widen: factor on every standard deviation of normals after the fit: wider than the data covers the tails of a
            model, which importance weights need.
        ridge: added to every variance, as a share of the mean variance of the data.
        run: of ``run``: a trained run, best on the same data and preprocessing.

    Raises:
        ValueError: ``run`` without a run, or the other way round; a kind that is not for such x.
    """

    supports = ("real", "binary", "levels", "categorical")
    shapes = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        kind: Literal["gaussian", "gmm", "independent", "run"] = "gaussian",
        covariance: Covariance = "full",
        components: Count = 10,
        widen: Positive = 1.0,
        ridge: NonNegative = 1e-3,
        run: TrainedRun | None = None,
    ) -> None:
        super().__init__(spec)
        if (kind == "run") != (run is not None):
            raise ValueError(f"kind={kind} and run: a run folder is needed for kind=run, and only there")
        if kind != "run" and (kind == "independent") != spec.support.discrete:
            fitting = "independent" if spec.support.discrete else "gaussian or gmm"
            raise ValueError(f"kind={kind}: this model's x is {spec.support}; kind={fitting}")
        flat = Spec((spec.dim,), spec.support)
        self.widen = widen
        self.density: Model
        if run is not None:
            self.density = run.density(spec)
        elif kind == "gaussian":
            self.density = Gaussian(flat, covariance=covariance, ridge=ridge)
        elif kind == "independent":
            self.density = Independent(flat, conditionals="softmax" if spec.support.kind == "levels" else None)
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
        if isinstance(self.density, Gaussian | GMM | Independent):
            self.density.initialize(x.flatten(1))
        if not isinstance(self.density, Gaussian | GMM):
            return
        normals = self.density.normal if isinstance(self.density, Gaussian) else self.density.normals
        normals.log_diagonal.add_(math.log(self.widen))
        if normals.lower is not None:
            normals.lower.mul_(self.widen)
