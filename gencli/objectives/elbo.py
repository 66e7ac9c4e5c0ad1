"""The evidence lower bound: -log p(x) <= E_q[-log p(x | z)] + KL(q(z | x) || p(z))."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Fraction, NonNegative
from gencli.core.spec import Batch, Spec
from gencli.models.base import LatentVariable
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Turn
from gencli.objectives.latent import LatentObjective


class ELBO(LatentObjective):
    """distortion + beta(t) sum_u max(free_bits, rate_u), from one sample of z a row, averaged over the batch, in nats.

    rate_u is the KL divergence of latent unit (or group of units) u, in closed form where there is one. The score is
    the negative ELBO itself (beta 1, no free bits): an upper bound on the NLL. The rate of a prior that is an energy
    lacks log Z, whose gradient has the same weight beta.

    Args:
        spec: what one example is.
        beta: weight of the rate.
        warmup: fraction of the training budget in which the weight rises from 0 to beta; auto: 0.3 where latents lie in
            layers, whose upper ones else stay at the prior, and 0 of one layer.
        free_bits: nats of each unit's rate, averaged over the batch, that cost nothing.
        prior: the options of ``LatentObjective``, of a prior that is an energy.

    Raises:
        ValueError: in ``bind``: free bits of a rate that is known up to log Z only.

    References:
        Kingma and Welling, "Auto-encoding variational Bayes", 2014.
        Higgins et al., "beta-VAE: learning basic visual concepts with a constrained variational framework", 2017.
        Bowman et al., "Generating sentences from a continuous space", 2016 (warm-up).
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016 (free bits).
        Sønderby et al., "Ladder variational autoencoders", 2016 (warm-up of layers).
    """

    RISE = 0.3

    def __init__(
        self,
        spec: Spec,
        beta: NonNegative = 1.0,
        warmup: Auto[Fraction] = "auto",
        free_bits: NonNegative = 0.0,
        **prior: Any,
    ) -> None:
        super().__init__(spec, **prior)
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits

    def bind(self, model: LatentVariable) -> Learned:
        if self.free_bits and model.latent_energy is not None:
            raise ValueError(
                f"objective.free_bits={self.free_bits}: the rate of an energy prior is known up to log Z only; take 0"
            )
        if self.warmup == "auto":
            self.warmup = self.RISE if model.layers > 1 else 0.0
        return super().bind(model)

    def turns(self, model: LatentVariable) -> list[Turn]:
        warmup = self.warmup
        assert warmup != "auto"  # since it was bound

        def loss(batch: Batch, noise: Noise) -> Loss:
            with self.bounding(model):
                terms = model.elbo(batch.x, batch.y, noise=noise)
            log_z, prior = self.learning(model, batch, noise)
            distortion, rates = terms.distortion.mean(), terms.rate.mean(0)
            beta = self.beta * (min(1.0, batch.progress / warmup) if warmup else 1.0)
            paid = rates.clamp(min=self.free_bits).sum() if self.free_bits else rates.sum()
            logs = {"distortion": distortion.detach(), "rate": rates.detach().sum()}
            return Loss(distortion + beta * (paid + log_z) + prior, logs)

        return [self.turn(model, loss, static=not warmup)]

    def score(self, model: LatentVariable, batch: Batch, noise: Noise) -> Tensor:
        terms = model.elbo(batch.x, batch.y, noise=noise)
        return terms.distortion + terms.rate.sum(1) + self.log_z(model, len(batch.x), noise)
