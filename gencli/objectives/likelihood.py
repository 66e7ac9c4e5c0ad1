"""Maximum likelihood: minimise E[-log p_theta(x)], the cross entropy of data and model."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.models.base import ExactLikelihood, log_likelihood
from gencli.models.structure import SequentialDensity
from gencli.objectives.base import Loss, Objective, Turn

MOST = 2000
"""Passes of networks, one after the other, of a step: of more a core makes one in minutes."""


class NLL(Objective[ExactLikelihood]):
    """-log p(x given y), averaged over the batch, in nats; one turn on all parameters of the model."""

    compiles = True

    def open(self, model: ExactLikelihood) -> None:
        if isinstance(model, SequentialDensity) and model.density_passes > MOST:
            raise ValueError(
                f"objective=nll: log p of this model takes {model.density_passes:,} passes of its networks, one after "
                f"the other, at every step, for D = {model.spec.dim}: model=maf takes one a transform; an objective "
                "that only draws (gan, wgan_gp, reverse_kl) suits model=iaf"
            )

    def turns(self, model: ExactLikelihood) -> list[Turn]:

        def loss(batch: Batch, noise: Noise) -> Loss:
            return Loss(-log_likelihood(model, batch).mean())

        return [Turn("model", list(model.parameters()), loss, static=True)]

    def score(self, model: ExactLikelihood, batch: Batch, noise: Noise) -> Tensor:
        return -log_likelihood(model, batch)
