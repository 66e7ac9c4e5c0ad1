"""Bridge sampling: one log Z from weights of both directions, the estimate of least variance that they allow.

Forward draws w_i, i = 1..n, are weights dP_R / dP_F under P_F times Z; reverse draws v_j, j = 1..m, are the same ratio
under P_R: of points of two densities, or of annealed trajectories (Crooks). With r = log (n / m), log Z solves

    sum_i sigma(log w_i - log Z - r) = sum_j sigma(log Z + r - log v_j).

References:
    Bennett, "Efficient estimation of free energy differences from Monte Carlo data", 1976; Meng and Wong, "Simulating
    ratios of normalizing constants via a simple identity", 1996; Crooks, "Path-ensemble averages in systems driven far
    from equilibrium", 2000; Shirts, Bair, Hooker and Pande, "Equilibrium free energies from nonequilibrium measurements
    using maximum-likelihood methods", 2003.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bridged:
    """One log Z from two directions.

    Args:
        log_z: the root.
        variance: of it, by the delta method.
        overlap: of P_F and P_R, 1 where they are one, 0 where they share nothing: 2 sum sigma / harmonic mean of n, m.
        draws: how many forward and reverse draws, at least, hold the sums on their sides: Kish's number of the terms.
    """

    log_z: float
    variance: float
    overlap: float
    draws: float


def bridged(forward: Tensor, reverse: Tensor, ancestors: Tensor | None = None) -> Bridged:
    """Solve for log Z.

    The variance is that of the sums on both sides over their slope (a sandwich). Where reverse draws began at the ends
    of forward ones, each joins the terms of the forward draw that it comes from.

    Args:
        forward: log w (n,).
        reverse: log v (m,).
        ancestors: (m,) the forward draw that each reverse one began at; None: all draws are independent.
    """
    n, m = len(forward), len(reverse)
    ratio = math.log(n / m)
    low = float(torch.minimum(forward.min(), reverse.min())) - abs(ratio) - 1
    high = float(torch.maximum(forward.max(), reverse.max())) + abs(ratio) + 1
    for _ in range(100):  # the difference of the sums falls in log Z
        middle = (low + high) / 2
        at = middle + ratio
        if (forward - at).sigmoid().sum() > (at - reverse).sigmoid().sum():
            low = middle
        else:
            high = middle
    log_z = (low + high) / 2
    at = log_z + ratio
    f, g = (forward - at).sigmoid(), (at - reverse).sigmoid()
    slope = (f * (1 - f)).sum() + (g * (1 - g)).sum()
    terms = f - f.mean()
    others = g - g.mean()
    if ancestors is None:
        square = terms.square().sum() * n / (n - 1) + others.square().sum() * m / (m - 1)
    else:
        square = terms.index_add(0, ancestors, -others).square().sum() * n / (n - 1)
    overlap = float(f.sum()) * (1 / n + 1 / m)
    draws = min(float(t.sum().square() / t.square().sum().clamp(min=1e-300)) for t in (f, g))
    return Bridged(log_z, float(square / slope.square().clamp(min=1e-300)), overlap, draws)
