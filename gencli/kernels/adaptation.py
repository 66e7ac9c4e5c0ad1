"""Step sizes that adapt in a warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class DualAveraging:
    """Step sizes, one a chain, on their way to a target acceptance.

    Each chain adapts alone, so that sample i does not depend on the other chains of its batch.

    Args:
        mu: (n,) where log step sizes are drawn to, the logarithm of ten times the first step sizes.
        log_step: (n,) of the step sizes to explore with.
        log_average: (n,) their average so far.
        error: (n,) mean of target minus acceptance so far.
        t: number of updates.

    References:
        Hoffman and Gelman, "The No-U-Turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo", 2014.
    """

    mu: Tensor
    log_step: Tensor
    log_average: Tensor
    error: Tensor
    t: int = 0

    # the paper's gamma of 0.05 leaves a chain of 200 transitions 0.1 above its target
    GAMMA: ClassVar[float] = 0.1
    T0: ClassVar[float] = 10.0
    KAPPA: ClassVar[float] = 0.75

    @classmethod
    def start(cls, step: Tensor) -> DualAveraging:
        """From first step sizes (n,)."""
        return cls((10 * step).log(), step.log(), torch.zeros_like(step), torch.zeros_like(step))

    @classmethod
    def near(cls, step: Tensor) -> DualAveraging:
        """From step sizes (n,) that are nearly right: the first update moves log step by 0.9 (acceptance - target)."""
        return cls(step.log(), step.log(), torch.zeros_like(step), torch.zeros_like(step))

    def update(self, accept: Tensor, target: float) -> DualAveraging:
        """Learn from probabilities of acceptance (n,), whose mean is to reach a target."""
        t = self.t + 1
        rate = 1 / (t + self.T0)
        error = (1 - rate) * self.error + rate * (target - accept)
        log_step = self.mu - math.sqrt(t) / self.GAMMA * error
        weight = t**-self.KAPPA
        log_average = weight * log_step + (1 - weight) * self.log_average
        return replace(self, log_step=log_step, log_average=log_average, error=error, t=t)

    @property
    def step(self) -> Tensor:
        """To explore with, while adapting."""
        return self.log_step.exp()

    @property
    def average(self) -> Tensor:
        """To stay with, afterwards."""
        return self.log_average.exp() if self.t else self.step
