"""Maximum likelihood: minimise E[-log p_theta(x)], the cross entropy of data and model."""

from __future__ import annotations

from torch import Tensor

from gencli.interfaces import Batch, ExactLikelihood, Loss, Model, Objective, Turn
from gencli.noise import Noise


class NLL(Objective):
    """-log p(x given y), averaged over the batch, in nats; one turn on all parameters of the model."""

    requires = (ExactLikelihood,)

    def turns(self, model: Model) -> list[Turn]:
        assert isinstance(model, ExactLikelihood)

        def loss(batch: Batch, noise: Noise) -> Loss:
            return Loss(-model.log_prob(batch.x, batch.y).mean())

        return [Turn("model", list(model.parameters()), loss)]

    def score(self, model: Model, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        assert isinstance(model, ExactLikelihood)
        return -model.log_prob(x, y)
