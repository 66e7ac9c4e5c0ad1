"""Energy discrepancy: contrast x with points from which the same noise might have come; no chain, no score, no Z."""

from __future__ import annotations

import math

from torch import Tensor

from gencli.interfaces import Batch, Spec, Unnormalized
from gencli.noise import Noise
from gencli.objectives.energy import RowObjective, contrast

PERTURBATIONS = ("gaussian", "ou")


class EnergyDiscrepancy(RowObjective):
    """L = 1/N sum_i log(w/M + 1/M sum_j exp(E(x_i) - E(x'_ij))).

    x is perturbed, y ~ q(y | x), and x' is drawn with a density in proportion to q(y | x'). Gaussian:
    x'_ij = x_i + sqrt(t) xi_i + sqrt(t) xi'_ij. Ornstein-Uhlenbeck (``ou``): y = e^-t x + s xi with s^2 = 1 - e^-2t,
    and x' = e^t (y + s xi'). For t -> 0 it is t times score matching, for large t maximum likelihood.

    At w = 1 the truth is the minimum for every M: x and x'_1..x'_M are candidates of which the softmax of -E tells the
    one that is data. At w = 0 it is so for large M only.

    Args:
        spec: of model space.
        t: variance of the Gaussian perturbation, or time of the Ornstein-Uhlenbeck process.
        samples: M, contrastive samples an example.
        w: stabilization; at 0 the logarithm has a heavy-tailed error where all x' have a high energy.
        perturbation: ``gaussian`` or ``ou``.
        regularization: alpha of alpha E[E(x)^2].

    Raises:
        ValueError: an option out of range.

    References:
        Schröder, Ou, Lim, Li, Vollmer and Duncan, "Energy discrepancies: a score-independent loss for energy-based
        models", 2023 (the code adds w to the sum over j instead of w/M to its mean: the same up to log M).
    """

    def __init__(
        self,
        spec: Spec,
        *,
        t: float = 1.0,
        samples: int = 4,
        w: float = 1.0,
        perturbation: str = "gaussian",
        regularization: float = 0.0,
    ) -> None:
        super().__init__(spec, regularization=regularization)
        if t <= 0:
            raise ValueError(f"objective.t={t}: a variance is positive")
        if samples < 1:
            raise ValueError(f"objective.samples={samples}: at least 1")
        if w < 0:
            raise ValueError(f"objective.w={w}: at least 0")
        if perturbation not in PERTURBATIONS:
            raise ValueError(f"objective.perturbation={perturbation}: {' or '.join(PERTURBATIONS)}")
        self.t, self.samples, self.w, self.perturbation = t, samples, w, perturbation

    def others(self, x: Tensor, noise: Noise) -> Tensor:
        """Contrastive points x' (B, M, *)."""
        first = noise.randn(*x.shape).to(x)[:, None]
        second = noise.randn(len(x), self.samples, *x.shape[1:]).to(x)
        if self.perturbation == "ou":
            return x[:, None] + math.sqrt(math.expm1(2 * self.t)) * (first + second)  # e^t s = sqrt(e^2t - 1)
        return x[:, None] + math.sqrt(self.t) * (first + second)

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        return contrast(model, batch, self.others(batch.x, noise), self.w)
