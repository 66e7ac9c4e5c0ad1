"""Maximum likelihood: minimise E[-log p_theta(x)], the cross entropy of data and model."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.models.base import ExactLikelihood, log_likelihood
from gencli.objectives.base import Loss, Objective, Turn


class NLL(Objective[ExactLikelihood]):
    """-log p(x given y), averaged over the batch, in nats; one turn on all parameters of the model."""

    compiles = True

    def turns(self, model: ExactLikelihood) -> list[Turn]:

        def loss(batch: Batch, noise: Noise) -> Loss:
            return Loss(-log_likelihood(model, batch).mean())

        return [Turn("model", list(model.parameters()), loss, static=True)]

    def score(self, model: ExactLikelihood, batch: Batch, noise: Noise) -> Tensor:
        return -log_likelihood(model, batch)
