"""Minima of energies by the spectral gradient method: gradient steps whose lengths the last step tells.

x <- x - a g with a = s's / s'r of the last step s and the change r of the gradient (Barzilai and Borwein, "Two-point
step size gradient methods", 1988), made safe by a search that lets the energy rise for a while (Raydan, "The Barzilai
and Borwein gradient method for the large scale unconstrained minimization problem", 1997). Rows do not depend on each
other, as those of a quasi-Newton method of a library would, which sees one function of them all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.tensors import rows
from gencli.kernels.base import Of, slope

_MEMORY = 10  # energies before, of which a new one may be as high as the highest
_SLACK = 1e-6  # of an energy in float32
_FLAT = 1e-5  # the norm of a gradient at which a row has arrived


def minimise(energy: Of, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """A local minimum of E near each x (n, *), by so many evaluations at most.

    Returns:
        the lowest points that were met, and the norm of their gradients (n,), which tells how far off a minimum is.
    """
    e, g = slope(energy, x)
    e = torch.nan_to_num(e, nan=torch.inf)
    best, best_e, best_g = x, e, g
    size = 0.1 / g.flatten(1).norm(dim=1).clamp(min=1e-12)
    recent = e[None].expand(_MEMORY, -1)
    for _ in range(steps):
        moving = g.flatten(1).norm(dim=1) > _FLAT
        if not bool(moving.any()):
            break
        to = x - rows(size, x) * g
        e_to, g_to = slope(energy, to)
        allowed = recent.amax(0) - 1e-4 * size * g.square().flatten(1).sum(1)
        taken = moving & (e_to <= allowed + _SLACK * (1 + e.abs()))  # False where e_to is NaN
        wide = rows(taken, x)
        s, r = (to - x).flatten(1), (g_to - g).flatten(1)
        curvature = (s * r).sum(1) / s.square().sum(1).clamp(min=1e-30)
        length = torch.where(curvature > 0, 1 / curvature.clamp(min=1e-8), 10 * size).clamp(1e-8, 1e4)
        size = torch.where(taken, length, size / 4)
        x, g, e = torch.where(wide, to, x), torch.where(wide, g_to, g), torch.where(taken, e_to, e)
        recent = torch.cat([recent[1:], e[None]])
        # of energies that rounding cannot tell apart, the flattest
        slack = _SLACK * (1 + best_e.abs())
        flatter = g.flatten(1).norm(dim=1) < best_g.flatten(1).norm(dim=1)
        better = (e < best_e - slack) | ((e <= best_e + slack) & flatter)
        best, best_g = torch.where(rows(better, x), x, best), torch.where(rows(better, x), g, best_g)
        best_e = torch.minimum(e, best_e)
    return best, best_g.flatten(1).norm(dim=1)
