"""The negative ELBO: an upper bound on the NLL that is cheap and loose by KL(q(z | x) || p(z | x))."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Shared
from gencli.estimators.latent import LatentEstimator, log_z_of
from gencli.models.base import LatentVariable


@dataclass(frozen=True, kw_only=True)
class ELBO(LatentEstimator):
    """Distortion plus rate, in nats, averaged over a few samples of z a row.

    The rate has log Z of a prior that is an energy, as ``LatentEstimator`` says.

    Args:
        samples: of z for each row; two or more give a variance.
    """

    samples: Count = 16

    def prepare(self, model: LatentVariable, examples: Batch | None, noise: Noise) -> Shared:
        return self.measure_prior(model, noise)

    def nll(self, model: LatentVariable, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        terms = [model.elbo(batch.x, batch.y, noise=noise) for _ in range(self.samples)]
        distortion = torch.stack([t.distortion for t in terms])
        rate = torch.stack([t.rate.sum(1) for t in terms]) + log_z_of(model, shared)
        nll = distortion + rate
        return Estimate(
            nll.mean(0),
            nll.var(0) / self.samples if self.samples > 1 else None,
            {"distortion": distortion.mean(0), "rate": rate.mean(0)},
        )
