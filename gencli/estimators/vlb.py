"""The variational bound of diffusion, -log p(x) <= prior + diffusion + reconstruction.

References:
    Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020; Kingma, Salimans, Poole and Ho, "Variational
    diffusion models", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.methods.diffusion_bound import Bound
from gencli.models.base import TimeField
from gencli.models.trained import Learned

RECONSTRUCTIONS = 4
"""Draws of the reconstruction under a T."""


@dataclass(frozen=True, kw_only=True)
class VLB(Estimator[TimeField]):
    """The bound in nats, its diffusion part from a stratified sample of times for each row.

    It bounds the NLL of the reverse SDE. ``ode`` measures the flow, another model unless the network is an exact score,
    so either may be the lower number. T equal steps of t cost what they cost, however good the network: for standard
    normal data T = 1000 loses 0.65 bits a dimension on ``vp``, where sigma ~ sqrt(t), and 0.09 where log-SNR is
    linear in t.

    Args:
        timesteps: T of the bound; null: that of a discrete model, else continuous time.
        samples: times for each row, each with noise of its own; with T at most this, every time once. At least 2, so
            that their spread gives a standard error.
    """

    timesteps: Annotated[int, Range(low=2)] | None = None
    samples: Annotated[int, Range(low=2)] = 64

    bound = "upper"

    def check(self, model: TimeField, learned: Learned) -> None:
        if not learned.velocity:
            raise ValueError(f"estimator: {learned.limit}, whose samples have no known density: estimator=null")
        if not learned.score:
            raise ValueError(f"estimator: {learned.limit}; this bound needs them: estimator=ode")
        if model.timesteps and self.timesteps not in (None, model.timesteps):
            raise ValueError(
                f"estimator.timesteps={self.timesteps}: this model knows model.timesteps={model.timesteps}"
            )

    @torch.no_grad()
    def nll(self, model: TimeField, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        T, B = self.timesteps or model.timesteps, len(batch.x)
        bound = Bound(model, batch.x, batch.y, T)
        start = noise.rand(B).to(bound.clock)
        if T is not None and self.samples >= T - 1:
            each = bound.every_step(noise)
        else:
            quantiles = [(start + k / self.samples) % 1 for k in range(self.samples)]
            each = torch.stack([bound.diffusion(u, noise) for u in quantiles], 1)
        draws = 1 if T is None else RECONSTRUCTIONS
        misses = torch.stack([bound.reconstruction(noise) for _ in range(draws)], 1)
        terms = {"prior": bound.prior(), "diffusion": each.mean(1), "reconstruction": misses.mean(1)}
        # As if times were independent: an upper estimate of the variance, since they are stratified
        variance = each.var(1) / each.shape[1]
        if draws > 1:
            variance = variance + misses.var(1) / draws
        return Estimate(sum(terms.values(), torch.zeros_like(start)), variance, terms)
