"""Parallel tempering: hot replicas cross barriers and hand what they find to the cold one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gencli.core.options import Count, Natural, Positive, ProperFraction, Range
from gencli.kernels import tempering
from gencli.models.base import Unnormalized
from gencli.samplers.chain import MarkovChain


@dataclass(frozen=True, kw_only=True)
class Tempering(MarkovChain):
    """Chains of the kernel ``tempering``, whose step sizes adapt in a warm-up and then stay.

    Args:
        replicas: K, at temperatures 1 to ``hot``.
        hot: T_K; barriers of the energy up to a few times this are crossed.
        leaps: leapfrog steps a transition.
        step: first step size at T = 1; it grows with sqrt(T).
        steps: rounds after the warm-up.
        warmup: rounds in which step sizes adapt.
        target: acceptance to reach.
    """

    replicas: Annotated[int, Range(low=2)] = 8
    hot: Annotated[float, Range(above=1)] = 30.0
    leaps: Count = 3
    step: Positive = 0.1
    steps: Count = 100
    warmup: Natural = 50
    target: ProperFraction = 0.7

    def transition(self, model: Unnormalized | None = None) -> tempering.Tempering:
        return tempering.Tempering(
            replicas=self.replicas, hot=self.hot, leaps=self.leaps, step_size=self.step, target=self.target
        )

    @property
    def named(self) -> str:
        return f"sampler.step={self.step} (adapted)"
