"""Energy discrepancy: contrast x with points from which the same noise might have come; no chain, no score, no Z."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.options import Count, NonNegative, Positive
from gencli.core.spec import Batch, Spec
from gencli.models.base import Unnormalized
from gencli.objectives.energy.base import RowObjective, contrast


def detail(x: Tensor) -> Tensor:
    """What mean-pooling loses: x less the mean of its window, of 2 neighbours in a vector, of 2 x 2 pixels in an image.

    A projection; windows that stick out at an odd end average what they hold.

    Args:
        x: (B, D) or (B, C, H, W).
    """
    if x.ndim == 2:
        means = F.avg_pool1d(x[:, None], 2, ceil_mode=True)[:, 0]
    else:
        means = F.avg_pool2d(x, 2, ceil_mode=True).repeat_interleave(2, 2)[:, :, : x.shape[2]]
    return x - means.repeat_interleave(2, -1)[..., : x.shape[-1]]


class EnergyDiscrepancy(RowObjective):
    """L = 1/N sum_i log(w/M + 1/M sum_j exp(E(x_i) - E(x'_ij))).

    x is perturbed, y ~ q(y | x), and x' is drawn with a density in proportion to q(y | x'). Gaussian:
    x'_ij = x_i + sqrt(t) xi_i + sqrt(t) xi'_ij. Ornstein-Uhlenbeck (``ou``): y = e^-t x + s xi with s^2 = 1 - e^-2t,
    and x' = e^t (y + s xi'). For t -> 0 it is t times score matching, for large t maximum likelihood.

    Pooling: y = h(x) is the mean of each window, and x' any point with h(x') = y. That fibre has no uniform
    distribution, so x' = x - d(x) + sqrt(t) d(xi') is drawn by a Gaussian r on it, and E(x) + log r(x) stands in place
    of E(x), with log r(x) = -|d(x)|^2 / 2t and d what pooling loses. For large M it is -log p(x | h(x)) but for a
    constant: the truth is a minimum, as is every E(x) + g(h(x)), because a map without noise says nothing of how y is
    distributed.

    At w = 1 the truth is the minimum for every M: x and x'_1..x'_M are candidates of which the softmax of -E tells the
    one that is data. At w = 0 it is so for large M only.

    Args:
        spec: of model space.
        t: variance of the Gaussian perturbation, time of the Ornstein-Uhlenbeck process, or variance of the draws on
            the fibres of pooling, best that of what pooling loses.
        samples: M, contrastive samples an example.
        w: stabilization; at 0 the logarithm has a heavy-tailed error where all x' have a high energy.
        perturbation: ``gaussian``, ``ou`` or ``pooling``.
        shared: the options of ``EnergyObjective``.

    Raises:
        ValueError: pooling of what has no neighbours.

    References:
        Schröder, Ou, Lim, Li, Vollmer and Duncan, "Energy discrepancies: a score-independent loss for energy-based
        models", 2023 (the code adds w to the sum over j instead of w/M to its mean: the same up to log M).
    """

    continuous = True

    def __init__(
        self,
        spec: Spec,
        *,
        t: Positive = 1.0,
        samples: Count = 4,
        w: NonNegative = 1.0,
        perturbation: Literal["gaussian", "ou", "pooling"] = "gaussian",
        **shared: Any,
    ) -> None:
        super().__init__(spec, **shared)
        if perturbation == "pooling" and spec.shape[-1] < 2:
            raise ValueError(f"objective.perturbation=pooling: an example of shape {spec.shape} has no neighbours")
        self.t, self.samples, self.w, self.perturbation = t, samples, w, perturbation

    def others(self, x: Tensor, noise: Noise) -> Tensor:
        """Contrastive points x' (B, M, *)."""
        first = noise.randn(*x.shape).to(x)[:, None]
        second = noise.randn(len(x), self.samples, *x.shape[1:]).to(x)
        if self.perturbation == "ou":
            return x[:, None] + math.sqrt(math.expm1(2 * self.t)) * (first + second)  # e^t s = sqrt(e^2t - 1)
        return x[:, None] + math.sqrt(self.t) * (first + second)

    def fibre(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Contrastive points x' (B, M, *) with the window means of x, and log r(x) - log r(x') of each, (B, M)."""
        own = detail(x)
        lost = detail(noise.randn(len(x), self.samples, *x.shape[1:]).to(x).flatten(0, 1))
        ratio = 0.5 * lost.flatten(1).square().sum(1).view(-1, self.samples)
        ratio = ratio - own.flatten(1).square().sum(1)[:, None] / (2 * self.t)
        return (x - own)[:, None] + math.sqrt(self.t) * lost.view(len(x), self.samples, *x.shape[1:]), ratio

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        if self.perturbation == "pooling":
            others, ratio = self.fibre(batch.x, noise)
            return contrast(model, batch, others, self.w, ratio)
        return contrast(model, batch, self.others(batch.x, noise), self.w)
