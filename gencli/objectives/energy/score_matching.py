"""Score matching: fit dE/dx to the data's own score, which knows no Z. Blind to the weights of separated modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Positive, Range
from gencli.core.spec import Batch, Spec
from gencli.models.base import Unnormalized
from gencli.objectives.energy.base import RowObjective, score_of


class ContinuousRows(RowObjective):
    """An objective of dE/dx, which discrete x do not have."""

    continuous = True


def divergence(field: Tensor, x: Tensor) -> Tensor:
    """sum_d d field_d / d x_d, (B,), exact by D backward passes, differentiable."""
    flat = field.flatten(1)
    total = torch.zeros_like(flat[:, 0])
    for d in range(flat.shape[1]):
        (gradient,) = torch.autograd.grad(flat[:, d].sum(), x, create_graph=True)
        total = total + gradient.flatten(1)[:, d]
    return total


class ScoreMatching(ContinuousRows):
    """J = E[ 1/2 |s(x)|^2 + div s(x) ] with s = -dE/dx: the Fisher divergence to the data, up to a constant.

    Args:
        spec: of model space.
        regularization: alpha of alpha E[E(x)^2].

    References:
        Hyvärinen, "Estimation of non-normalized statistical models by score matching", 2005.
    """

    static = True

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        x = batch.x.detach().requires_grad_()
        s = score_of(model, x, batch.y)
        return 0.5 * s.flatten(1).square().sum(1) + divergence(s, x)


class SlicedScoreMatching(ContinuousRows):
    """J = E_v[ v^T (ds/dx) v ] + 1/2 |s|^2 with random directions v: two backward passes whatever D is.

    Directions have coordinates of +-1 (Rademacher), so that E[v v^T] = I and |s|^2 needs no direction; this is the
    variance-reduced form of the paper.

    Args:
        spec: of model space.
        slices: directions an example.
        shared: the options of ``EnergyObjective``.

    References:
        Song, Garg, Shi and Ermon, "Sliced score matching: a scalable approach to density and score estimation", 2019.
    """

    static = True

    def __init__(self, spec: Spec, *, slices: Count = 1, **shared: Any) -> None:
        super().__init__(spec, **shared)
        self.slices = slices

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        x = batch.x.detach().requires_grad_()
        s = score_of(model, x, batch.y)
        curvature = torch.zeros_like(s.flatten(1)[:, 0])
        for v in (noise.rand(len(x), self.slices, *x.shape[1:]) < 0.5).to(x).mul(2).sub(1).unbind(1):
            (gradient,) = torch.autograd.grad((s * v).sum(), x, create_graph=True)
            curvature = curvature + (gradient * v).flatten(1).sum(1)
        return 0.5 * s.flatten(1).square().sum(1) + curvature / self.slices


class DenoisingScoreMatching(ContinuousRows):
    """J = c sum_k pi_k E[ 1/2 | s(x + sigma_k xi) + xi / sigma_k |^2 ]: s becomes the score of the data plus noise.

    With several sigmas there is still one energy, and the best one is that of the data under the scale mixture
    sum_k pi_k N(0, sigma_k^2): a density too. Large sigmas put mass between modes, which tells how much each of them
    weighs; what they weigh themselves costs the model likelihood, at most -log of the smallest sigma's pi. One level is
    drawn for each example, all as often, so that the rare ones are learned as well. c is the smallest sigma squared.

    Every xi is taken with its mirror image -xi. The gradient's noise of 1 / sigma cancels in the pair, and what is left
    does not grow as sigma falls.

    Args:
        spec: of model space.
        sigmas: deviations of the noise.
        weights: pi, up to a factor; None: equal.
        shared: the options of ``EnergyObjective``.

    Raises:
        ValueError: not as many weights as sigmas.

    References:
        Vincent, "A connection between score matching and denoising autoencoders", 2011. Several levels: Song and Ermon,
        "Generative modeling by estimating gradients of the data distribution", 2019, where each has its own score.
    """

    static = True

    levels: Tensor
    shares: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        sigmas: Annotated[Sequence[Positive], Range(low=1)] = (0.1,),
        weights: Sequence[Positive] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(spec, **shared)
        pi = torch.tensor([1.0] * len(sigmas) if weights is None else [float(w) for w in weights])
        if len(pi) != len(sigmas):
            raise ValueError(f"objective.weights={pi.tolist()}: one for each of objective.sigmas")
        self.register_buffer("levels", torch.tensor([float(s) for s in sigmas]), persistent=False)
        self.register_buffer("shares", pi / pi.sum(), persistent=False)

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        x, n = batch.x, len(batch.x)
        k = (noise.rand(n).to(x.device) * len(self.levels)).long()
        sigma = self.levels[k].view(-1, *[1] * (x.ndim - 1))
        xi = noise.randn(*x.shape).to(x)
        near = torch.cat([x + sigma * xi, x - sigma * xi]).detach().requires_grad_()
        target = torch.cat([xi / sigma, -xi / sigma])
        y = None if batch.y is None else torch.cat([batch.y, batch.y])
        miss = (score_of(model, near, y) + target).flatten(1).square().sum(1).view(2, n).mean(0)
        return 0.5 * self.levels.min().square() * len(self.levels) * self.shares[k] * miss


class DiffusionScoreMatching(ContinuousRows):
    """J = E[ 1/2 a |s|^2 + div(a s) ] with a(x) = 1 / (1 + |x - mu|^2 / (nu D)) in units of the data's deviations.

    a = m m^T is the diffusion matrix of the Langevin process whose Fisher divergence is matched: the Stein score is
    trusted less far from the middle, which makes the estimate robust to outliers and heavy tails. a = 1 is score
    matching.

    Args:
        spec: of model space.
        nu: how fast a falls; large: score matching.
        shared: the options of ``EnergyObjective``.

    References:
        Barp, Briol, Duncan, Girolami and Mackey, "Minimum Stein discrepancy estimators", 2019 (section 3, diffusion
        score matching with a matrix m(x); here m = sqrt(a) I).
    """

    static = True

    initial_examples = 2048
    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, *, nu: Positive = 1.0, **shared: Any) -> None:
        super().__init__(spec, **shared)
        self.nu = nu
        self.register_buffer("mean", torch.zeros(spec.shape))
        self.register_buffer("std", torch.ones(spec.shape))

    @torch.no_grad()
    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        assert examples is not None
        self.mean.copy_(examples.x.mean(0))
        self.std.copy_(examples.x.std(0, unbiased=False))

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        x = batch.x.detach().requires_grad_()
        s = score_of(model, x, batch.y)
        far = ((x - self.mean) / self.std).flatten(1).square().sum(1) / (self.nu * self.spec.dim)
        a = (1 / (1 + far)).view(-1, *[1] * (x.ndim - 1))
        return 0.5 * (a * s.square()).flatten(1).sum(1) + divergence(a * s, x)
