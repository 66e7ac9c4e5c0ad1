"""A normalised density that is fixed: what an energy tilts, what noise is made of, where annealing starts."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gencli.core import tensors
from gencli.core.noise import Noise
from gencli.core.options import Count, NonNegative, Positive
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model
from gencli.models.classical.gaussian import Covariance, Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.classical.independent import Independent
from gencli.models.structure import Sloped
from gencli.models.trained import TrainedRun

Kind = Literal["gaussian", "gmm", "independent", "run"]


class Reference(ExactLikelihood, DirectSampling, DataInitialized, Sloped):
    """A Gaussian, a mixture of them or independent coordinates, started from the data and never trained; or a run.

    The fit is maximum likelihood, by EM for the mixture; frequencies have one more example of each value. Images are
    flattened inside.

    Args:
        spec: what one example is.
        kind: ``gaussian`` or ``gmm`` of reals, ``independent`` of bits, levels or categories, or ``run``; None: by
            support, ``gaussian`` or ``independent``.
        covariance: ``isotropic``, ``diagonal`` or ``full``; of Gaussians.
        components: of ``gmm``.
        widen: factor on every standard deviation after the fit: wider than the data covers the tails of a model, which
            importance weights need. Independent coordinates become p^(1 / widen^2) / Z, which does that to a normal.
        ridge: added to every variance, as a share of the mean variance of the data; of Gaussians.
        run: of ``run``: a trained run, best on the same data and preprocessing.

    Raises:
        ValueError: ``run`` without a run, or the other way round; or a kind that does not fit the support.
    """

    supports = ("real", "binary", "levels", "categorical")
    shapes = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        kind: Kind | None = None,
        covariance: Covariance = "full",
        components: Count = 10,
        widen: Positive = 1.0,
        ridge: NonNegative = 1e-3,
        run: TrainedRun | None = None,
    ) -> None:
        super().__init__(spec)
        if (kind == "run") != (run is not None):
            raise ValueError(f"kind={kind} and run: a run folder is needed for kind=run, and only there")
        discrete = spec.support.discrete
        kind = kind or ("independent" if discrete else "gaussian")
        if kind != "run" and (kind == "independent") != discrete:
            fitting = "independent" if discrete else "gaussian, gmm"
            raise ValueError(f"kind={kind}: x is {spec.support} here, which needs {fitting} or run")
        flat = Spec((spec.dim,), spec.support)
        self.widen = widen
        self.density: Model
        if run is not None:
            self.density = run.density(spec)
        elif kind == "independent":
            self.density = Independent(flat, conditionals=None if spec.support.kind == "binary" else "softmax")
        elif kind == "gaussian":
            self.density = Gaussian(flat, covariance=covariance, ridge=ridge)
        else:
            self.density = GMM(flat, components=components, covariance=covariance, ridge=ridge)
        self.initial_examples = 20_000 if isinstance(self.density, DataInitialized) else 2048
        self.requires_grad_(False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert isinstance(self.density, ExactLikelihood)
        return self.density.log_prob(x if self.density.spec.shape == self.spec.shape else x.flatten(1))

    def slope(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not isinstance(self.density, Sloped):
            return tensors.slope(self.energy, x)
        e, gradient = self.density.slope(x if self.density.spec.shape == self.spec.shape else x.flatten(1))
        return e, gradient.view_as(x)

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        assert isinstance(self.density, DirectSampling)
        return self.density.sample(n, noise=noise, temperature=temperature).view(n, *self.spec.shape)

    @property
    def passes(self) -> int:
        assert isinstance(self.density, DirectSampling)
        return self.density.passes

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        assert isinstance(self.density, ExactLikelihood)
        return self.density.changes(x if self.density.spec.shape == self.spec.shape else x.flatten(1), where)

    def blocks(self) -> tuple[Tensor, ...] | None:
        assert isinstance(self.density, ExactLikelihood)
        return self.density.blocks()

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        if isinstance(self.density, Independent):
            self.density.initialize(x.flatten(1))
            self.density.marginals.div_(self.widen**2)  # logits, or log-probabilities up to a constant
        if not isinstance(self.density, Gaussian | GMM):
            return
        self.density.initialize(x.flatten(1))
        normals = self.density.normal if isinstance(self.density, Gaussian) else self.density.normals
        normals.log_diagonal.add_(math.log(self.widen))
        if normals.lower is not None:
            normals.lower.mul_(self.widen)
