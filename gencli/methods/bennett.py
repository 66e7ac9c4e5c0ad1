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
        overlap: of P_F and P_R, 1 where they are one and 0 where they share nothing: (1/n + 1/m) times either sum.
    """

    log_z: float
    variance: float
    overlap: float


def bridged(forward: Tensor, reverse: Tensor, ancestors: Tensor | None = None) -> Bridged:
    """Solve for log Z.

    The variance is that of the two sums over the square of the slope of their difference. Where reverse draws began at
    the ends of forward ones, the terms of a forward draw and of its heirs are one.

    Args:
        forward: log w (n,).
        reverse: log v (m,).
        ancestors: (m,) the forward draw that each reverse one began at; None: all draws are independent.
    """
    from scipy.optimize import brentq

    n, m = len(forward), len(reverse)
    ratio = math.log(n / m)

    def sides(log_z: float) -> tuple[Tensor, Tensor]:
        at = log_z + ratio
        return (forward - at).sigmoid(), (at - reverse).sigmoid()

    def difference(log_z: float) -> float:
        f, g = sides(log_z)
        return float(f.sum() - g.sum())

    low, high = torch.cat([forward, reverse]).aminmax()
    log_z = float(brentq(difference, float(low) - 1, float(high) + 1, xtol=1e-10))
    f, g = sides(log_z)
    slope = (f * (1 - f)).sum() + (g * (1 - g)).sum()
    up, down = f - f.mean(), g - g.mean()
    if ancestors is None:
        square = up.square().sum() * n / (n - 1) + down.square().sum() * m / (m - 1)
    else:
        square = up.index_add(0, ancestors, -down).square().sum() * n / (n - 1)
    overlap = min(1.0, float(f.sum()) * (1 / n + 1 / m))
    return Bridged(log_z, float(square / slope.square().clamp(min=1e-300)), overlap)
