"""Chains whose steps are accepted or refused, so that exp(-E) is their exact stationary law: MALA and HMC."""

from __future__ import annotations

from dataclasses import dataclass

from gencli.core.options import BelowOne, Count, Natural, Positive, ProperFraction
from gencli.kernels import hmc
from gencli.models.base import Unnormalized
from gencli.samplers.chain import MarkovChain


@dataclass(frozen=True, kw_only=True)
class HMC(MarkovChain):
    """Chains of the kernel ``hmc``, whose step sizes adapt in a warm-up and then stay. One leap is MALA (step^2 / 2).

    Args:
        leaps: leapfrog steps a transition.
        step: first step size.
        steps: transitions after the warm-up.
        warmup: transitions in which the step size adapts; 0: it stays as it is.
        target: acceptance to reach.
        jitter: the step size of a transition is uniform on (1 +- jitter) times the adapted one.
    """

    supports = ("real",)
    leaps: Count = 10
    step: Positive = 0.1
    steps: Count = 100
    warmup: Natural = 100
    target: ProperFraction = 0.8
    jitter: BelowOne = 0.2

    def transition(self, model: Unnormalized | None = None) -> hmc.HMC:
        return hmc.HMC(leaps=self.leaps, step_size=self.step, target=self.target, jitter=self.jitter)

    @property
    def named(self) -> str:
        return f"sampler.step={self.step} (adapted)"
