"""Which noise meets which example of a batch: the permutation of least transport cost, exactly.

The linear program min_p sum_i c_ip(i) has potentials u, v with u_i + v_j <= c_ij as its dual. A solver of shortest
augmenting paths searches the longer, the farther its potentials are from the best. Entropic transport has them
nearly, for a few products of a matrix and a vector; the solver then works on what they leave of the costs, which
changes no optimum: u and v add the same to every permutation.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEVELS = (0.04, 0.006)
"""Entropies, in units of the mean cost above the least of its row; each starts from the potentials of the last."""
_POWERS = (1.0, *[1.6] * 6, 1.0)
"""Over-relaxation of each of a level's iterations; the last one leaves columns that sum to 1."""
_LEAST, _MOST = 1e-18, 1e18
"""Of a scaling: a product of two and the sum of a row is still a number."""


def assignment(x: Tensor, eps: Tensor) -> Tensor:
    """The permutation p (B,) with the least sum of |x_i - eps_p(i)|^2, exactly; it is found on the host.

    References:
        Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", 2013; Thibault, Chizat, Dossal and
        Papadakis, "Overrelaxed Sinkhorn-Knopp algorithm for regularized optimal transport", 2021; Crouse, "On
        implementing 2D rectangular assignment algorithms", 2016 (scipy's solver).
    """
    from scipy.optimize import linear_sum_assignment

    a, b = (rows.detach().flatten(1).cpu().double() for rows in (x, eps))
    cost = a @ -b.T  # the squares are the same for all permutations
    cost -= cost.amin(1, keepdim=True)
    unit = float(cost.mean())
    if unit > 0:
        cost -= unit * _potential(cost.float().div_(unit)).double()
        cost -= cost.amin(1, keepdim=True)
        cost -= cost.amin(0, keepdim=True)
    _, order = linear_sum_assignment(cost.numpy())
    return torch.as_tensor(order, device=x.device)


def _potential(cost: Tensor) -> Tensor:
    """v (B,) of entropic transport between the rows and columns of a cost (B, B) >= 0, by Sinkhorn's iteration.

    At every level K <= 1, because the level before ends with columns that sum to 1; exponents stop before numbers that
    are slow.
    """
    u, v = torch.zeros(2, len(cost))
    for entropy in _LEVELS:
        K = (v - cost).add_(u[:, None]).mul_(1 / entropy).clamp_(-80, 0).exp_()
        left, right = torch.ones(2, len(cost))
        for power in _POWERS:
            left = _rescaled(left, K @ right, power)
            right = _rescaled(right, left @ K, power)
        u += entropy * left.log_()
        v += entropy * right.log_()
    return v


def _rescaled(scaling: Tensor, sums: Tensor, power: float) -> Tensor:
    """Scalings (B,) that bring the marginals scaling * sums to 1: at a power of 1 at once, above it beyond."""
    return (scaling * sums).pow_(-power).mul_(scaling).clamp_(_LEAST, _MOST)
