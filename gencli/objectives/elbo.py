"""The evidence lower bound: -log p(x) <= E_q[-log p(x | z)] + KL(q(z | x) || p(z))."""

from __future__ import annotations

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Fraction, NonNegative
from gencli.core.spec import Batch, Spec
from gencli.models.base import LatentVariable
from gencli.objectives.base import Loss, Objective, Turn


class ELBO(Objective[LatentVariable]):
    """distortion + beta(t) sum_u max(free_bits, rate_u), from one sample of z a row, averaged over the batch, in nats.

    rate_u is the KL divergence of latent unit (or group of units) u, in closed form where there is one. The score is
    the negative ELBO itself (beta 1, no free bits): an upper bound on the NLL.

    Args:
        spec: what one example is.
        beta: weight of the rate.
        warmup: fraction of the training budget in which the weight rises from 0 to beta.
        free_bits: nats of each unit's rate, averaged over the batch, that cost nothing.

    References:
        Kingma and Welling, "Auto-encoding variational Bayes", 2014.
        Higgins et al., "beta-VAE: learning basic visual concepts with a constrained variational framework", 2017.
        Bowman et al., "Generating sentences from a continuous space", 2016 (warm-up).
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016 (free bits).
    """

    def __init__(
        self, spec: Spec, beta: NonNegative = 1.0, warmup: Fraction = 0.0, free_bits: NonNegative = 0.0
    ) -> None:
        super().__init__(spec)
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits

    def turns(self, model: LatentVariable) -> list[Turn]:

        def loss(batch: Batch, noise: Noise) -> Loss:
            terms = model.elbo(batch.x, batch.y, noise=noise)
            distortion, rates = terms.distortion.mean(), terms.rate.mean(0)
            beta = self.beta * (min(1.0, batch.progress / self.warmup) if self.warmup else 1.0)
            paid = rates.clamp(min=self.free_bits).sum() if self.free_bits else rates.sum()
            logs = {"distortion": distortion.detach(), "rate": rates.detach().sum()}
            return Loss(distortion + beta * paid, logs)

        return [Turn("model", list(model.parameters()), loss)]

    def score(self, model: LatentVariable, batch: Batch, noise: Noise) -> Tensor:
        terms = model.elbo(batch.x, batch.y, noise=noise)
        return terms.distortion + terms.rate.sum(1)
