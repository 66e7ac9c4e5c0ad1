"""The densities of the two-dimensional toys, in nats.

A toy is a curve or some points with noise, so p(x) is a mean of the noise's density over the places on the curve,

    p(x) = 1/M sum_m q(x - c_m),

with M places so close that the sum is the integral to many digits; checkerboard is uniform on its squares. That of
pinwheel, whose noise is turned by its own radius, is not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

PLACES = 512
"""M, on each curve."""

ROWS = 2000
"""Points at a time: ROWS x M distances are in memory."""


def _middles(n: int = PLACES) -> Tensor:
    """n numbers in [0, 1], the middles of equal intervals."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def _polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _normal(places: Tensor, deviation: float, shares: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """log of the mean of N(x; c_m, deviation^2 I), weighted by shares."""
    log_shares = torch.full((len(places),), -math.log(len(places)), dtype=torch.float64)
    log_shares = log_shares if shares is None else shares.double().log()
    constant = math.log(2 * math.pi * deviation**2)

    def log_p(x: Tensor) -> Tensor:
        return (log_shares - torch.cdist(x, places).square() / (2 * deviation**2)).logsumexp(1) - constant

    return log_p


def _circles(*radii: float) -> Tensor:
    return torch.cat([_polar(r, 2 * math.pi * _middles()) for r in radii])


def _moons() -> Tensor:
    arc = _polar(1.0, math.pi * _middles())
    return 2 * torch.cat([arc, torch.tensor([1.0, 0.5]) - arc]) + torch.tensor([-1.0, -0.2])


def _swissroll() -> Tensor:
    t = 1.5 * math.pi * (1 + 2 * _middles(2 * PLACES))
    return _polar(t, t) / 5


def _spirals(x: Tensor) -> Tensor:
    """Noise u / 6 + 0.1 e of each coordinate, u ~ U[0, 1], about the places of two arms that mirror each other."""
    t = 3 * math.pi * _middles(2 * PLACES).sqrt()
    start = torch.stack([-t * t.cos(), t * t.sin()], 1) / 3
    p = torch.zeros(len(x), dtype=torch.float64)
    for sign in (1.0, -1.0):
        high = (sign * x[:, None, :] - start) / 0.1
        low = high - 1 / 0.6
        left = high + low <= 0  # differences of small numbers, not of numbers near 1
        high, low = torch.where(left, high, -low), torch.where(left, low, -high)
        p += (6 * (torch.special.ndtr(high) - torch.special.ndtr(low))).prod(2).mean(1) / 2
    return p.log()


def _checkerboard(x: Tensor) -> Tensor:
    """Dark squares are those where floor(x_1 / 2) and floor(x_2 / 2) are both even or both odd."""
    dark = (x / 2).floor().sum(1) % 2 == 0
    there = dark & (x >= -4).all(1) & (x < 4).all(1)
    return x.new_full((len(x),), -math.log(32)).masked_fill(~there, -math.inf)


_EIGHT = _polar(4 / 1.414, torch.arange(8, dtype=torch.float64) * math.pi / 4)
_LINE = torch.arange(-2, 3, dtype=torch.float64) * 4 / 1.414

_LOG_DENSITIES: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "moons": lambda: _normal(_moons(), 0.2),
    "circles": lambda: _normal(_circles(3.0, 1.5), 0.24),
    "rings": lambda: _normal(_circles(3.0, 2.25, 1.5, 0.75), 0.08),
    "swissroll": lambda: _normal(_swissroll(), 0.2),
    "spirals": lambda: _spirals,
    "checkerboard": lambda: _checkerboard,
    "eight_gaussians": lambda: _normal(_EIGHT, 0.5 / 1.414),
    "twentyfive_gaussians": lambda: _normal(torch.cartesian_prod(_LINE, _LINE), 0.2 / 1.414),
    "two_gaussians": lambda: _normal(
        torch.tensor([[-4.0, 0.0], [4.0, 0.0]], dtype=torch.float64), 1.0, torch.tensor([0.2, 0.8])
    ),
}


def log_density(name: str, x: Tensor) -> Tensor | None:
    """log p(x) of a toy in nats: (B, 2) -> (B,) in fp64; None where it is not known."""
    if name not in _LOG_DENSITIES:
        return None
    log_p = _LOG_DENSITIES[name]()
    return torch.cat([log_p(some) for some in x.double().split(ROWS)])
