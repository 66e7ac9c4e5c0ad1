"""The negative ELBO: an upper bound on the NLL that is cheap and loose by KL(q(z | x) || p(z | x))."""

from __future__ import annotations

import torch

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Estimator
from gencli.models.base import LatentVariable, Model


class ELBO(Estimator):
    """Distortion plus rate, in nats, averaged over a few samples of z a row.

    Args:
        samples: of z for each row; two or more give a variance.
        draws: dequantization draws.

    Raises:
        ValueError: fewer than one sample.
    """

    requires = (LatentVariable,)
    bound = "upper"

    def __init__(self, samples: int = 16, draws: int = 2) -> None:
        super().__init__(draws)
        if samples < 1:
            raise ValueError(f"estimator.samples={samples}: at least 1")
        self.samples = samples

    def nll(self, model: Model, batch: Batch, noise: Noise) -> Estimate:
        assert isinstance(model, LatentVariable)
        terms = [model.elbo(batch.x, batch.y, noise=noise) for _ in range(self.samples)]
        distortion = torch.stack([t.distortion for t in terms])
        rate = torch.stack([t.rate.sum(1) for t in terms])
        nll = distortion + rate
        return Estimate(
            nll.mean(0),
            nll.var(0) / self.samples if self.samples > 1 else None,
            {"distortion": distortion.mean(0), "rate": rate.mean(0)},
        )
