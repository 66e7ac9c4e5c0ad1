"""The model's own normalised density: NLL = -log p(x)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.models.base import Autoregressive, Ensemble, ExactLikelihood, log_likelihood
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class Exact(Estimator[ExactLikelihood]):
    """-log p(x given y) in nats, with no error of its own.

    Of columns of several kinds it has two parts, by the base measure of a value: ``discrete``, the masses of integers
    and of missing values, and ``continuous``, the densities of reals, which alone depend on the units of the data.

    Args:
        masks: of an ensemble, measure the mixture of its first K members only, itself a density; None: all of them.
    """

    masks: Count | None = None

    bound = "exact"

    @property
    def scores_given(self) -> bool:  # type: ignore[override]
        return self.masks is None

    @property
    def variant(self) -> str:  # type: ignore[override]
        return "" if self.masks is None else f"-masks{self.masks}"

    def check(self, model: ExactLikelihood, learned: Learned) -> None:
        if self.masks is None:
            return
        if not isinstance(model, Ensemble):
            raise ValueError(f"estimator.masks={self.masks} needs a model that is an ensemble, such as made")
        if self.masks > model.members:
            raise ValueError(f"estimator.masks={self.masks}: this model has {model.members} (model.masks)")

    def nll(self, model: ExactLikelihood, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        if model.spec.support.columns and self.masks is None and isinstance(model, Autoregressive):
            return _by_measure(model, batch)
        if self.masks is None:
            nll = -log_likelihood(model, batch)
        else:
            assert isinstance(model, Ensemble)
            nll = -model.log_prob_of(self.masks, batch.x, batch.y)
        return Estimate(nll, torch.zeros_like(nll))


def _by_measure(model: Autoregressive, batch: Batch) -> Estimate:
    """The chain rule's terms, summed over values that have a mass and over those that have a density."""
    nats = -model.log_conditionals(batch.x, batch.y)
    reals = torch.tensor([column.continuous for column in model.spec.support.columns], device=nats.device)
    dense = reals & ~batch.x.isnan()
    parts = {"discrete": nats.masked_fill(dense, 0.0).sum(1), "continuous": nats.masked_fill(~dense, 0.0).sum(1)}
    nll = nats.sum(1)
    return Estimate(nll, torch.zeros_like(nll), parts=parts)
