"""Energy discrepancy: contrast x with points from which the same noise might have come; no chain, no score, no Z."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, NonNegative, Positive, ProperFraction
from gencli.core.spec import Batch, Spec
from gencli.models.base import Unnormalized
from gencli.objectives.base import Drift
from gencli.objectives.energy.base import RowObjective, contrast, deviation_of
from gencli.objectives.energy.discrete_perturbations import Bernoulli, Diffusion, Grid, Shuffling, Uniform, few
from gencli.objectives.energy.perturbations import (
    Gaussian,
    Ito,
    OrnsteinUhlenbeck,
    Perturbation,
    Pooling,
    Scales,
)

Name = Literal["gaussian", "ou", "diffusion", "pooling", "bernoulli", "grid", "uniform", "ordinal", "cyclic"]

REALS = ("gaussian", "ou", "diffusion", "pooling")
OF_KIND = {
    "real": REALS,
    "unit": REALS,
    "binary": ("bernoulli", "grid", "pooling"),
    "levels": ("ordinal", "cyclic", "uniform", "grid", "pooling"),
    "categorical": ("uniform", "cyclic", "ordinal", "grid", "pooling"),
}
"""Perturbations of each kind of support; the first is the default."""


class EnergyDiscrepancy(RowObjective):
    """L = 1/N sum_i log(w/M + 1/M sum_j exp(E(x_i) - E(x'_ij))).

    x is perturbed, y ~ q(y | x), and x' is drawn with a density in proportion to q(y | x'). For reals that is Gaussian
    noise, an Ornstein-Uhlenbeck process (``ou``), or a ``diffusion`` whose drift is yours. For t -> 0 it is t times
    score matching, for large t maximum likelihood. For bits it is ``bernoulli``, flips with probability epsilon: for
    epsilon -> 0 a comparison of neighbours, for epsilon = 1/2 maximum likelihood. ``grid`` takes one step to a
    neighbour and one from there. For values each coordinate is drawn anew (``uniform``), or walks on a line
    (``ordinal``) or a ring (``cyclic``).

    ``pooling``: y says of each window of neighbours its mean, or, of discrete x, what it holds without the order. For
    reals E(x) + log r(x) stands in place of E(x), with r the density of the draws. For large M it is -log p(x | y) but
    for a constant: the truth is a minimum, as is every E(x) + g(y), because a map without noise says nothing of how y
    is distributed.

    At w = 1 the truth is the minimum for every M: x and x'_1..x'_M are candidates of which the softmax of -E tells the
    one that is data. At w = 0 it is so for large M only.

    Args:
        spec: of model space.
        t: variance of the Gaussian perturbation, time of the Ornstein-Uhlenbeck process or of a diffusion, or variance
            of the draws in the windows of reals; null: 1. Of ordinal and cyclic walks their time in units of K^2; null:
            0.01 and 0.005.
            auto: of Gaussian noise many variances, up to that of the data (``Scales``); else as null.
        epsilon: probability of a flip, or of a value drawn anew; null: about four coordinates, at most 0.1 and 0.5.
        samples: M, contrastive samples an example; null: 4 of reals, 32 of discrete x, and 8 of images of those, whose
            networks cost more.
        w: stabilization; at 0 the logarithm has a heavy-tailed error where all x' have a high energy.
        drift: b of ``diffusion``, dX = b(X) dt + dW: ``package.module:name`` of a Drift of yours, of a trusted package.
        steps: of ``diffusion``: Euler steps; the truth is the minimum by few of them too; null: 10.
        perturbation: null: ``gaussian``, ``bernoulli``, ``ordinal`` or ``uniform``, by support.
        shared: the options of ``EnergyObjective``.

    Raises:
        ValueError: a perturbation that is not for this support, an option that it does not have, or pooling of what
            has no neighbours.

    References:
        Schröder, Ou, Lim, Li, Vollmer and Duncan, "Energy discrepancies: a score-independent loss for energy-based
        models", 2023 (the code adds w to the sum over j instead of w/M to its mean: the same up to log M).
        Schröder, Ou, Li and Duncan, "Energy-based modelling for discrete and mixed data via heat equations on
        structured spaces", 2024.
    """

    static = True

    variance: Tensor | None

    def __init__(
        self,
        spec: Spec,
        *,
        t: Auto[Positive] | None = "auto",
        epsilon: ProperFraction | None = None,
        samples: Count | None = None,
        w: NonNegative = 1.0,
        drift: Drift | None = None,
        steps: Count | None = None,
        perturbation: Name | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(spec, **shared)
        time = None if t == "auto" else t
        self.perturbation = of_name(spec, perturbation, time, epsilon, drift, steps)
        many = t == "auto" and isinstance(self.perturbation, Gaussian)
        self.initial_examples = 2048 if many else 0
        self.register_buffer("variance", torch.ones(spec.shape) if many else None)
        own = 4 if not spec.support.discrete else 8 if spec.kind == "image" else 32
        self.samples = samples or own
        self.w = w

    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        if self.variance is not None:
            assert examples is not None
            self.variance.copy_(deviation_of(examples.x).square())

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        perturbation = self.perturbation if self.variance is None else Scales(t=self.variance)
        others, rho = perturbation.draw(batch.x, self.samples, noise)
        return contrast(model, batch, others, self.w, rho)


def of_name(
    spec: Spec,
    name: Name | None,
    t: float | None,
    epsilon: float | None,
    drift: Drift | None = None,
    steps: int | None = None,
) -> Perturbation:
    """A perturbation by its name.

    Raises:
        ValueError: as ``EnergyDiscrepancy`` says.
    """
    fitting = OF_KIND.get(spec.support.kind)
    if fitting is None:
        raise ValueError(f"objective=energy_discrepancy: nothing is known that perturbs x that is {spec.support}")
    chosen = name or fitting[0]
    if chosen not in fitting:
        raise ValueError(
            f"objective.perturbation={chosen}: this model's x is {spec.support}, which {', '.join(fitting)} perturb"
        )
    if chosen == "pooling" and spec.shape[-1] < 2:
        raise ValueError(f"objective.perturbation=pooling: an example of shape {spec.shape} has no neighbours")
    own = chosen == "diffusion"
    if own and drift is None:
        raise ValueError(f"objective.perturbation=diffusion needs objective.drift: {Drift.words}")
    timed = chosen in ("gaussian", "ou", "diffusion", "ordinal", "cyclic") or (
        chosen == "pooling" and not spec.support.discrete
    )
    flipped = chosen in ("bernoulli", "uniform")
    had = (("t", t, timed), ("epsilon", epsilon, flipped), ("drift", drift, own), ("steps", steps, own))
    for key, value, has in had:
        if value is not None and not has:
            said = type(value).__name__ if isinstance(value, Drift) else value
            raise ValueError(f"objective.{key}={said}: objective.perturbation={chosen} has none; leave it at null")
    if spec.support.discrete:
        return _discrete(spec, chosen, t, epsilon)
    if chosen == "pooling":
        return Pooling(t=t or 1.0)
    if drift is not None:
        return Ito(drift=drift, t=t or 1.0, steps=steps or 10)
    return OrnsteinUhlenbeck(t=t or 1.0) if chosen == "ou" else Gaussian(t=t or 1.0)


def _discrete(spec: Spec, name: str, t: float | None, epsilon: float | None) -> Perturbation:
    K = spec.support.size
    if name in ("ordinal", "cyclic") and K > Diffusion.LARGEST:
        raise ValueError(f"objective.perturbation={name}: of {Diffusion.LARGEST} values at most, not {K}; uniform")
    match name:
        case "bernoulli":
            return Bernoulli(epsilon=epsilon or few(spec.dim, 0.1))
        case "uniform":
            return Uniform(values=K, epsilon=epsilon or few(spec.dim, 0.5))
        case "ordinal":
            return Diffusion(values=K, t=t or 0.01)
        case "cyclic":
            return Diffusion(values=K, t=t or 0.005, neighbours="ring")
        case "grid":
            return Grid(values=K)
        case _:
            return Shuffling()
