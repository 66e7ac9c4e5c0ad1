"""The model's own normalised density: NLL = -log p(x)."""

from __future__ import annotations

import torch

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Estimator
from gencli.models.base import Ensemble, ExactLikelihood, Model, log_likelihood
from gencli.models.trained import Learned


class Exact(Estimator):
    """-log p(x given y) in nats, with no error of its own.

    Args:
        draws: dequantization draws an example.
        masks: of an ensemble, measure the mixture of its first K members only, itself a density; None: all of them.

    Raises:
        ValueError: draws or masks below 1.
    """

    requires = (ExactLikelihood,)
    bound = "exact"

    def __init__(self, draws: int = 2, masks: int | None = None) -> None:
        super().__init__(draws)
        if masks is not None and (not isinstance(masks, int) or masks < 1):
            raise ValueError(f"estimator.masks={masks}: a number of members, at least 1")
        self.masks = masks
        self.scores_given = masks is None
        self.variant = "" if masks is None else f"-masks{masks}"

    def check(self, model: Model, learned: Learned) -> None:
        if self.masks is None:
            return
        if not isinstance(model, Ensemble):
            raise ValueError(f"estimator.masks={self.masks} needs a model that is an ensemble, such as made")
        if self.masks > model.members:
            raise ValueError(f"estimator.masks={self.masks}: this model has {model.members} (model.masks)")

    def nll(self, model: Model, batch: Batch, noise: Noise) -> Estimate:
        if self.masks is None:
            assert isinstance(model, ExactLikelihood)
            nll = -log_likelihood(model, batch)
            return Estimate(nll, torch.zeros_like(nll))
        assert isinstance(model, Ensemble)
        nll = -model.log_prob_of(self.masks, batch.x, batch.y)
        return Estimate(nll, torch.zeros_like(nll))
