"""Posteriors of linear inverse problems with a model for prior.

The model has u, whose density is p(u) = exp(-E(u)) / Z, and v = values(u) are data. Of z = A v(u) + sigma n with
n ~ N(0, I) the posterior is

    -log p(u | z) = E(u) + |z - A v(u)|^2 / (2 sigma^2) + constant.

It needs no log-determinant, because p(u) is the density of u itself. The MAP estimate is where that is greatest:
densities of v and of u are not greatest at the same place, and that of v behind a logit rises without limit towards the
ends of its range. All of it is in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gencli.core.noise import Ahead, Noise
from gencli.core.tensors import rows
from gencli.kernels.base import Kernel, require_finite
from gencli.kernels.diagnostics import effective_draws, split_r_hat
from gencli.kernels.energy import Energy, Of
from gencli.methods import spectral
from gencli.methods.operators import Operator

SEARCH = 300
"""Evaluations of a search for a minimum."""
HEATS = 20
"""Weights of the likelihood on the way of chains from the prior to the posterior."""


@dataclass(frozen=True)
class Observation:
    """z = A v(u) + sigma n, of n rows.

    Args:
        operator: A.
        z: (n, m).
        sigma: deviation of the noise.
        values: model space -> data, differentiable.
    """

    operator: Operator
    z: Tensor
    sigma: float
    values: Callable[[Tensor], Tensor]

    def misfit(self, u: Tensor) -> Tensor:
        """|z - A v(u)|^2 / (2 sigma^2) of k replicas of each row side by side, u (n k, *): (n k,) nats."""
        away = self.z.repeat_interleave(len(u) // len(self.z), 0) - self.operator(self.values(u))
        return (away.square().sum(1) / (2 * self.sigma**2)).to(u)

    def repeated(self, k: int) -> Observation:
        """Each row k times, side by side."""
        return Observation(self.operator, self.z.repeat_interleave(k, 0), self.sigma, self.values)

    def rows(self, some: slice) -> Observation:
        """Some of the rows."""
        return Observation(self.operator, self.z[some], self.sigma, self.values)


def likeliest(prior: Of, observed: Observation, starts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """argmin over u of E(u) + misfit(u): the MAP estimate, the lowest minimum near some starts.

    Args:
        prior: E(u) in nats.
        observed: z.
        starts: u (n, *) where to begin.

    Returns:
        u (n, *), and the norm of the gradient that is left there (n,).
    """

    def energy(u: Tensor) -> Tensor:
        return prior(u) + observed.misfit(u)

    best, slope = spectral.minimise(energy, starts[0], SEARCH)
    for start in starts[1:]:
        other, other_slope = spectral.minimise(energy, start, SEARCH)
        lower = energy(other) < energy(best)
        best, slope = torch.where(rows(lower, best), other, best), torch.where(lower, other_slope, slope)
    return best, slope


@dataclass(frozen=True)
class Chains:
    """What chains on a posterior have found.

    Args:
        draws: (n, k, *) in model space.
        diagnostics: ``acceptance`` and the like; ``r_hat`` of the row whose chains differ most, ``ess`` of the least.
    """

    draws: Tensor
    diagnostics: dict[str, float]


def walk(
    prior: Of,
    observed: Observation,
    start: Tensor,
    noise: Noise,
    *,
    kernel: Kernel[Any],
    each: int,
    draws: int,
    warmup: int,
    steps: int,
) -> Chains:
    """Chains on p(u | z), several side by side for each row of z.

    They start from the prior. In the first half of the warm-up the likelihood's weight rises to 1 as the third power,
    so that they find the modes that matter; ``retarget`` then gives all chains the same step size. In the second half
    the weight is 1 and each adapts alone.

    Args:
        prior: E of n x each rows.
        observed: z of n rows.
        start: (n each, *), the chains of a row side by side.
        noise: of n x each rows.
        kernel: the transition.
        each: chains a row.
        draws: kept of each row, evenly over its chains and their steps.
        warmup: steps before those that are kept.
        steps: from which they are kept.

    Raises:
        RunFailed: a chain went to infinity.
    """
    ahead, energy = Ahead(noise), Energy(lambda u: prior(u) + observed.misfit(u))
    state, heats = kernel.init(energy, start), min(HEATS, warmup // 2)
    for k in range(heats):
        warm = Energy(partial(_tempered, prior, observed.misfit, ((k + 1) / heats) ** 3))
        state = kernel.retarget(warm, state.x, state) if k else kernel.init(warm, start)
        for _ in range(warmup // 2 // heats):
            state, info = kernel.step(warm, state, ahead)
            state = kernel.adapt(state, info)
    state = kernel.retarget(energy, state.x, state) if heats else state
    for _ in range(warmup - warmup // 2):
        state, info = kernel.step(energy, state, ahead)
        state = kernel.adapt(state, info)
    state = kernel.settle(state)

    per_chain = -(-draws // each)
    at = {round((i + 1) * steps / per_chain) - 1 for i in range(per_chain)}
    kept, trace, norms = [], [], []
    totals: dict[str, Tensor] = {}
    for k in range(steps):
        state, info = kernel.step(energy, state, ahead)
        trace.append(info.energy)
        norms.append(torch.linalg.vector_norm(info.x.flatten(1), dim=1))
        for name, rate in info.rates.items():
            totals[name] = totals[name] + rate if name in totals else rate
        if k in at:
            kept.append(info.x)
    require_finite(state.x, torch.stack(norms).amax(1), f"sampler.kernel={kernel}")
    energies = torch.stack(trace, 1).unflatten(0, (-1, each))
    said = {name: float(total.mean()) / steps for name, total in totals.items()} | kernel.summary(state)
    said["r_hat"] = max(split_r_hat(one) for one in energies)
    said["ess"] = min(effective_draws(one) for one in energies)
    found = torch.stack(kept, 1).unflatten(0, (-1, each)).flatten(1, 2)
    return Chains(found[:, :draws], said)


def _tempered(prior: Of, misfit: Of, weight: float, u: Tensor) -> Tensor:
    return prior(u) + weight * misfit(u)
