"""Which noise meets which example of a batch: the permutation of least transport cost, exactly.

The linear program min_p sum_i c_ip(i) has potentials u, v with u_i + v_j <= c_ij as its dual. A solver of shortest
augmenting paths searches the longer, the farther its potentials are from the best. Entropic transport has them
nearly, for a few products of a matrix and a vector; the solver then works on what they leave of the costs, which
changes no optimum: u and v add the same to every permutation.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEVELS = (0.2, 0.03, 0.005)
"""Entropies, in units of the mean cost above the least of its row; each starts from the potentials of the last."""
_ROUNDS = 10


def assignment(x: Tensor, eps: Tensor) -> Tensor:
    """The permutation p (B,) with the least sum of |x_i - eps_p(i)|^2, exactly; it is found on the host.

    References:
        Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", 2013; Crouse, "On implementing 2D
        rectangular assignment algorithms", 2016 (scipy's solver).
    """
    from scipy.optimize import linear_sum_assignment

    a, b = (rows.detach().flatten(1).cpu().double() for rows in (x, eps))
    cost = -(a @ b.T)  # the squares are the same for all permutations
    cost -= cost.amin(1, keepdim=True)
    unit = float(cost.mean())
    if unit > 0:
        cost -= unit * _potential((cost / unit).float()).double()
        cost -= cost.amin(1, keepdim=True)
    _, order = linear_sum_assignment(cost.numpy())
    return torch.as_tensor(order, device=x.device)


def _potential(cost: Tensor) -> Tensor:
    """v (B,) of entropic transport between the rows and columns of a cost (B, B) >= 0, by Sinkhorn's iteration.

    At every level K <= 1, because each iteration ends with columns that sum to 1; exponents stop before numbers that
    are slow, and sums before those that are zero.
    """
    u, v = torch.zeros(2, len(cost))
    for entropy in _LEVELS:
        K = (v - cost).add_(u[:, None]).mul_(1 / entropy).clamp_(min=-80).exp_()
        right = torch.ones(len(cost))
        for _ in range(_ROUNDS):
            left = (K @ right).clamp_(min=1e-30).reciprocal_()
            right = (left @ K).clamp_(min=1e-30).reciprocal_()
        u += entropy * left.log_()
        v += entropy * right.log_()
    return v
