"""The Ising model on the square lattice where it is solved: without a field, with one coupling.

E(x) = -K sum_<ij> s_i s_j with s = -1 or 1 and every bond counted once, K in nats. The critical coupling of the
infinite lattice is K_c = log(1 + sqrt 2) / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CRITICAL = math.log(1 + math.sqrt(2)) / 2
"""K_c = 0.4406868."""


def kaufman(K: Tensor, height: int, width: int) -> Tensor:
    """log Z of the torus of H x W sites, in nats; twice differentiable in K.

        Z = 1/2 (2 sinh 2K)^(HW/2) (prod_r 2 cosh(W g_(2r+1) / 2) + prod_r 2 sinh(W g_(2r+1) / 2)
                                    + prod_r 2 cosh(W g_(2r) / 2) + prod_r 2 sinh(W g_(2r) / 2)),    r = 0 .. H-1,
        cosh g_l = cosh 2K coth 2K - cos(pi l / H),    g_0 = 2K + log tanh K,

    in log space. g_0 changes its sign at K_c, so its sinh is a factor and no exponent. A side of 1 has no bonds, where
    the formula has one of each site with itself; a side of 2 has double bonds.

    Args:
        K: () float64.
        height: H.
        width: W.

    Raises:
        ValueError: K < 0 on a torus with an odd side, which is frustrated; even ones have the Z of -K.

    References:
        Kaufman, "Crystal statistics II: partition function evaluated by spinor analysis", 1949.
    """
    if float(K.detach()) < 0:
        if any(side % 2 and side > 1 for side in (height, width)):
            raise ValueError("K < 0 on a torus with an odd side")
        return kaufman(-K, height, width)
    if float(K.detach()) < 1e-6:  # Z = 2^HW cosh(K)^E up to closed loops, the shortest of which has two bonds
        bonds = height * width * ((height > 1) + (width > 1))
        double = sum(other for side, other in ((height, width), (width, height)) if side == 2)
        return height * width * math.log(2) + 0.5 * (bonds + 2 * double) * K.square()
    turns = math.pi / height * torch.arange(1, 2 * height, dtype=K.dtype)
    g = ((2 * K).cosh() / (2 * K).tanh() - turns.cos()).acosh()
    g_0 = 2 * K + K.tanh().log()
    odd, even = 0.5 * width * g[0::2], 0.5 * width * g[1::2]

    def log_cosh(a: Tensor) -> Tensor:
        """log 2 cosh a of a >= 0."""
        return a + torch.log1p((-2 * a).exp())

    def log_sinh(a: Tensor) -> Tensor:
        return a + torch.log(-torch.expm1(-2 * a))

    half = 0.5 * width * g_0
    level = half.detach().abs()  # taken out of the terms of g_0
    logs = torch.stack(
        [
            log_cosh(odd).sum(),
            log_sinh(odd).sum(),
            log_cosh(even).sum() + level,
            log_sinh(even).sum() + level,
        ]
    )
    up, down = (half - level).exp(), (-half - level).exp()
    one = torch.ones_like(up)
    top = logs.detach().max()
    total = top + (torch.stack([one, one, up + down, up - down]) * (logs - top).exp()).sum().log()
    own = width * (height == 1) + height * (width == 1)  # bonds of a site with itself
    return total - math.log(2) + 0.5 * height * width * (2 * (2 * K).sinh()).log() - own * K


def torus(K: float, height: int, width: int) -> tuple[float, float, float]:
    """log Z, energy per site -1/N d log Z / dK in units of the coupling, and specific heat K^2/N d^2 log Z / dK^2."""
    with torch.enable_grad():
        at = torch.tensor(K, dtype=torch.float64, requires_grad=True)
        log_z = kaufman(at, height, width)
        (first,) = torch.autograd.grad(log_z, at, create_graph=True)
        (second,) = torch.autograd.grad(first, at)
    sites = height * width
    return float(log_z.detach()), -float(first.detach()) / sites, K**2 * float(second) / sites


def magnetisation(K: Tensor) -> Tensor:
    """m = (1 - sinh(2K)^-4)^(1/8) of the infinite lattice above K_c, else 0 (Yang, 1952)."""
    return (1 - (2 * K).sinh().pow(-4)).clamp(min=0).pow(1 / 8) * (K > CRITICAL)
