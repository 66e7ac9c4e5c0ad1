"""Annealed importance sampling and sequential Monte Carlo: from a base with known Z to the model, by small steps.

Along a path of energies E_beta from a normalised one at beta = 0 to the model's at beta = 1 (see ``bridge``), each step
of a chain adds E_beta_k-1(x) - E_beta_k(x) to its log weight, then moves x by a transition that leaves exp(-E_beta_k)
invariant; E[w] = Z exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Natural, ProperFraction, Range
from gencli.core.spec import Bound
from gencli.core.tensors import ess, frozen
from gencli.estimators.base import Shared
from gencli.estimators.partition import PartitionEstimator, fitted
from gencli.methods.bridge import AveragedNormals, Bridge, Still
from gencli.methods.weights import weighed
from gencli.models.base import DirectSampling, ModelFactory, Unnormalized
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class Annealed(PartitionEstimator):
    """What AIS and SMC share: a base, a path, and its options.

    Args:
        base: builds q, fitted to examples; None: the model's own base.
        chains: number of chains.
        betas: K, steps from base to model.
        leaps: leapfrog steps of the Hamiltonian transition at each; 1 is MALA.
        target: acceptance that its step size aims at.
        adapt: choose betas by a pilot run; False: evenly spaced.
        path: ``geometric``, or ``moments``: from the normal with the base's mean and covariance, whose moments go over
            to those of the examples.
    """

    base: ModelFactory | None = None
    chains: Annotated[int, Range(low=2)] = 256
    betas: Annotated[int, Range(low=2)] = 500
    leaps: Count = 3
    target: ProperFraction = 0.7
    adapt: bool = True
    path: Literal["geometric", "moments"] = "geometric"

    continuous = True
    bound = "lower"
    DRAWN: ClassVar[int] = 4096  # of the base, for its moments

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        if self.base is None and model.reference() is None:
            raise ValueError("estimator.base=null: this model has no base of its own")

    def bridge(self, model: Unnormalized, x: Tensor, noise: Noise) -> Bridge:
        """From the base to the model, with the pilot run done."""
        q = fitted(self.base, model, x, "estimator.base")
        base = Still(q) if self.path == "geometric" else AveragedNormals(q.sample(self.DRAWN, noise=noise), x)
        bridge = Bridge(model, base, self.betas, self.leaps, self.target, self.adapt)
        bridge.pilot(noise)
        return bridge


@dataclass(frozen=True, kw_only=True)
class AIS(Annealed):
    """Annealed importance sampling: log Z^ = log 1/n sum_i w_i, whose expectation is at most log Z.

    With ``reverse``, as many chains go from the model to the base: from exact samples where the model has them
    (``log_z_reverse`` is then in expectation at least log Z: bidirectional Monte Carlo), else from the ends of forward
    chains, resampled by weight and moved on by ``refresh`` transitions, which makes it an estimate: where ``ess`` is
    small few ancestors are left, and ``log_z_reverse_se`` does not know it. ``log_z_gap`` is reverse minus forward; if
    it is more than four standard errors, or the weights themselves say so, the error is told as a lower limit.

    Args:
        report: ``forward``, or ``reverse``: which one the NLL takes.
        reverse: measure in both directions.
        refresh: transitions before reverse chains start, where there are no exact samples.

    Raises:
        ValueError: ``report=reverse`` without ``reverse``.

    References:
        Neal, "Annealed importance sampling", 2001; Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood
        using bidirectional Monte Carlo", 2015; Burda, Grosse and Salakhutdinov, "Accurate and conservative estimates of
        MRF log-likelihood using reverse annealing", 2015.
    """

    APART: ClassVar[float] = 4.0

    reverse: bool = True
    report: Literal["forward", "reverse"] = "forward"
    refresh: Natural = 200

    def __post_init__(self) -> None:
        if self.report == "reverse" and not self.reverse:
            raise ValueError("estimator.report=reverse needs estimator.reverse=true")

    def forward(self, bridge: Bridge, noise: Noise) -> tuple[Tensor, Tensor, float]:
        """Chains from base to model: their ends, log weights (n,) and mean acceptance."""
        x = bridge.base.sample(self.chains, noise)
        log_w, accepted = x.new_zeros(len(x), dtype=torch.float64), x.new_zeros(())
        for k in range(1, len(bridge.betas)):
            log_w -= bridge.step(x, k)
            x, accept = bridge.move(x, k, noise)
            accepted += accept
        return x, log_w, float(accepted) / (len(bridge.betas) - 1)

    def backward(self, bridge: Bridge, x: Tensor, noise: Noise) -> Tensor:
        """Chains from samples x of the model to the base: the log weights (n,) of 1 / Z."""
        log_w = x.new_zeros(len(x), dtype=torch.float64)
        for k in range(len(bridge.betas) - 1, 0, -1):
            x, _ = bridge.move(x, k, noise)
            log_w += bridge.step(x, k)
        return log_w

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        bound: Bound = self.bound
        with frozen(model):
            bridge = self.bridge(model, x, noise)
            ends, log_w, acceptance = self.forward(bridge, noise)
            forward = weighed(log_w)
            value, variance, collapsed = forward.log_mean, forward.variance, forward.collapsed
            found = {**forward.diagnostics, "acceptance": acceptance}
            if self.reverse:
                back = weighed(self.backward(bridge, self._samples(bridge, ends, log_w, noise), noise))
                gap = -back.log_mean - value
                found |= {"log_z_forward": value, "log_z_reverse": -back.log_mean, "log_z_gap": gap}
                found |= {"log_z_reverse_se": back.variance**0.5}
                if self.report == "reverse":
                    value, variance, collapsed = -back.log_mean, back.variance, back.collapsed
                    bound = "upper" if isinstance(model, DirectSampling) else "estimate"
                collapsed |= abs(gap) > self.APART * (forward.variance + back.variance) ** 0.5
        return Shared(bound, value, variance, collapsed, found)

    def _samples(self, bridge: Bridge, ends: Tensor, log_w: Tensor, noise: Noise) -> Tensor:
        """Samples of the model to go back from."""
        if isinstance(bridge.model, DirectSampling):
            with torch.no_grad():
                return bridge.model.sample(self.chains, noise=noise)
        x = ends[systematic(log_w, noise)]
        for _ in range(self.refresh):
            x, _ = bridge.move(x, len(bridge.betas) - 1, noise)
        return x


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
    betas: Annotated[int, Range(low=2)] = 200
    populations: Annotated[int, Range(low=2)] = 8
    threshold: Annotated[float, Range(above=0, high=1)] = 0.5

    def __post_init__(self) -> None:
        if self.chains % self.populations or self.chains == self.populations:
            raise ValueError(
                f"estimator.populations={self.populations}: a divisor of estimator.chains={self.chains} that leaves 2 "
                "chains or more to each"
            )

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        R, size = self.populations, self.chains // self.populations
        with frozen(model):
            bridge = self.bridge(model, x, noise)
            at = bridge.base.sample(self.chains, noise)
            log_w = at.new_zeros(R, size, dtype=torch.float64)
            log_z = log_w.new_zeros(R)
            accepted, resampled = at.new_zeros(()), 0.0
            for k in range(1, len(bridge.betas)):
                log_w -= bridge.step(at, k).view(R, size)
                uneven = ess(log_w) < self.threshold * size
                index = torch.arange(self.chains, device=at.device).view(R, size)
                for r in uneven.nonzero().flatten().tolist():
                    log_z[r] += log_w[r].logsumexp(0) - math.log(size)
                    index[r] = r * size + systematic(log_w[r], noise)
                    log_w[r] = 0.0
                    resampled += 1
                at, accept = bridge.move(at[index.flatten()], k, noise)
                accepted += accept
            log_z += log_w.logsumexp(1) - math.log(size)
        found = weighed(log_z)
        said = {"acceptance": float(accepted) / (len(bridge.betas) - 1), "resampled": resampled / R}
        said["effective_populations"] = found.ess
        return Shared(self.bound, found.log_mean, found.variance, found.collapsed, said)


def systematic(log_w: Tensor, noise: Noise) -> Tensor:
    """Indices (n,) by systematic resampling: one uniform number, n evenly spaced places."""
    n = len(log_w)
    u = (noise.rand(1).to(log_w) + torch.arange(n, device=log_w.device)) / n
    return torch.searchsorted(log_w.softmax(0).cumsum(0), u).clamp(max=n - 1)
