"""Step sizes that adapt in a warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Generic

import torch
from torch import Tensor

from gencli.kernels.base import S


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


@dataclass(frozen=True)
class Stepping(Generic[S]):
    """State of chains that adapt a step size each.

    Args:
        point: where chains are, and what is known there.
        size: (n,) step sizes of the next transition.
        sizes: what the warm-up has learned of them.
    """

    point: S
    size: Tensor
    sizes: DualAveraging

    @classmethod
    def start(cls, point: S, step: Tensor) -> Stepping[S]:
        """With first step sizes (n,)."""
        sizes = DualAveraging.start(step)
        return cls(point, sizes.step, sizes)

    def afresh(self, point: S, n: int) -> Stepping[S]:
        """For n other chains, all with the mean of the step sizes, in logarithms."""
        sizes = DualAveraging.near(self.size.log().mean().exp().expand(n))
        return Stepping(point, sizes.step, sizes)

    @property
    def x(self) -> Tensor:
        """(n, *)."""
        return self.point.x

    def adapted(self, accept: Tensor, target: float) -> Stepping[S]:
        """With the step sizes that acceptances (n,) teach."""
        sizes = self.sizes.update(accept, target)
        return replace(self, size=sizes.step, sizes=sizes)

    def settled(self) -> Stepping[S]:
        """With the average of the step sizes so far."""
        return replace(self, size=self.sizes.average)
