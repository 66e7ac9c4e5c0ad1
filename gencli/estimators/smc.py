"""Sequential Monte Carlo: annealed chains that are resampled when their weights get uneven."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.progress import counted
from gencli.core.tensors import ess, frozen
from gencli.estimators.annealed import Annealed, acceptance, systematic
from gencli.estimators.base import Shared
from gencli.methods.weights import weighed
from gencli.models.base import Unnormalized


@dataclass(frozen=True, kw_only=True)
class SMC(Annealed):
    """Sequential Monte Carlo: annealed chains that are resampled when their weights get uneven.

    Chains are dealt to populations that know nothing of each other; each gives an unbiased Z^ and their spread the
    standard error.

    Args:
        populations: number of populations.
        threshold: resample when the effective sample size falls below this share of a population.
        chains: of all populations.

    Raises:
        ValueError: populations of unequal size, or of one chain.

    References:
        Del Moral, Doucet and Jasra, "Sequential Monte Carlo samplers", 2006.
    """

    chains: Annotated[int, Range(low=2)] = 512
    populations: Annotated[int, Range(low=2)] = 8
    threshold: Annotated[float, Range(above=0, high=1)] = 0.5

    USUAL: ClassVar[int] = 200
    PASSES: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.chains % self.populations or self.chains == self.populations:
            raise ValueError(
                f"estimator.populations={self.populations}: a divisor of estimator.chains={self.chains} that leaves 2 "
                "chains or more to each"
            )

    def whole(self, chains: int) -> int:
        return self.populations * max(2, chains // self.populations)

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        R = self.populations
        with frozen(model):
            annealing = self.annealing(model, x, noise)
            size = annealing.chains // R
            at = annealing.path.sample(annealing.chains, noise)
            log_w = at.new_zeros(R, size, dtype=torch.float64)
            log_z = log_w.new_zeros(R)
            rates: list[Tensor | None] = []
            resampled = 0.0
            for k in counted("chains from the base", range(1, annealing.steps + 1)):
                log_w -= annealing.rise(at, k).view(R, size)
                uneven = ess(log_w) < self.threshold * size
                index = torch.arange(annealing.chains, device=at.device).view(R, size)
                for r in uneven.nonzero().flatten().tolist():
                    log_z[r] += log_w[r].logsumexp(0) - math.log(size)
                    index[r] = r * size + systematic(log_w[r], noise)
                    log_w[r] = 0.0
                    resampled += 1
                at, accept = annealing.move(at[index.flatten()], k, noise)
                rates.append(accept)
            log_z += log_w.logsumexp(1) - math.log(size)
        found = weighed(log_z)
        said = {**acceptance(rates), "resampled": resampled / R, "effective_populations": found.ess}
        return self.settled(annealing, Shared(self.bound, found.log_mean, found.variance, found.collapsed, said))
