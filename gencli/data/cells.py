"""The probability that a toy of the plane gives each cell of a grid, by quadrature: what its quantisation has as law.

All toys but two are a mean on a curve and noise that is independent in x and y, so that with nodes s on the curve

    P[i, j] = sum_s w_s P(x in cell i | s) P(y in cell j | s),

a product of matrices; the cells themselves are integrated in closed form. A checkerboard is one without noise. The arms
of the pinwheel are normal on lines, whose crossings of the grid are found for each node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.special import ndtr

NODES = 1024
"""Of a curve. Noise is wider than their distance."""

LINES = 2000
"""Nodes on an arm of the pinwheel."""


def probabilities(toy: str, cells: int, reach: float) -> np.ndarray:
    """P[i, j] of x in cell i and y in cell j, of a grid of [-reach, reach]^2; the outer cells go on to infinity.

    Args:
        toy: its name in ``toys.GENERATORS``.
        cells: n, on a side.
        reach: half the side.

    Returns:
        (n, n) float64, sum 1.
    """
    edges = np.linspace(-reach, reach, cells + 1)
    edges[0], edges[-1] = -np.inf, np.inf
    return LAWS[toy](edges)


def entropy(p: np.ndarray) -> float:
    """H = -sum p ln p in nats."""
    positive = p[p > 0]
    return -float((positive * np.log(positive)).sum())


def _normal(mean: np.ndarray, std: float, edges: np.ndarray) -> np.ndarray:
    """P(cell | s), (S, n): normal."""
    return np.diff(ndtr((edges - mean[:, None]) / std))


def _blurred(low: np.ndarray, width: float, std: float, edges: np.ndarray) -> np.ndarray:
    """P(cell | s), (S, n): uniform on [low, low + width] plus normal noise."""

    def integral(z: np.ndarray) -> np.ndarray:  # of ndtr from -inf to z
        return z * ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)

    inner = edges[1:-1] - low[:, None]
    rises = std / width * (integral(inner / std) - integral((inner - width) / std))
    ends = np.zeros((len(low), 1))
    return np.diff(np.concatenate([ends, rises, ends + 1], 1))


@cache
def _along(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights of the uniform distribution on [low, high]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return low + (high - low) * (nodes + 1) / 2, weights / 2


def _around() -> tuple[np.ndarray, np.ndarray]:
    """Angles and their weights; on a circle equal steps converge as fast."""
    return 2 * math.pi * np.arange(NODES) / NODES, np.full(NODES, 1 / NODES)


def _joint(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (weights[:, None] * x).T @ y


def _curves(edges: np.ndarray, std: float, weights: np.ndarray, *means: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """P of curves in equal shares, with normal noise."""
    parts = [_joint(weights, _normal(x, std, edges), _normal(y, std, edges)) for x, y in means]
    return np.asarray(np.mean(parts, 0))


def _moons(edges: np.ndarray) -> np.ndarray:
    angle, weights = _along(0, math.pi)
    x, y = np.cos(angle), np.sin(angle)
    return _curves(edges, 0.2, weights, (2 * x - 1, 2 * y - 0.2), (2 * (1 - x) - 1, 2 * (0.5 - y) - 0.2))


def _circles(edges: np.ndarray) -> np.ndarray:
    angle, weights = _around()
    return _curves(edges, 0.24, weights, *((r * np.cos(angle), r * np.sin(angle)) for r in (3.0, 1.5)))


def _swissroll(edges: np.ndarray) -> np.ndarray:
    t, weights = _along(1.5 * math.pi, 4.5 * math.pi)
    return _curves(edges, 0.2, weights, (t * np.cos(t) / 5, t * np.sin(t) / 5))


def _eight_gaussians(edges: np.ndarray) -> np.ndarray:
    angle = 2 * math.pi * np.arange(8) / 8
    return _curves(edges, 0.5 / 1.414, np.full(8, 1 / 8), (4 / 1.414 * np.cos(angle), 4 / 1.414 * np.sin(angle)))


def _spirals(edges: np.ndarray) -> np.ndarray:
    v, weights = _along(0, 1)  # t = 3 pi v, of density 2 v
    t, weights, width = 3 * math.pi * v, 2 * v * weights, 1 / 6
    x, y = -t * np.cos(t) / 3, t * np.sin(t) / 3
    arms = [(x, y), (-x - width, -y - width)]
    parts = [_joint(weights, _blurred(a, width, 0.1, edges), _blurred(b, width, 0.1, edges)) for a, b in arms]
    return np.asarray(np.mean(parts, 0))


def _checkerboard(edges: np.ndarray) -> np.ndarray:
    squares = 2.0 * np.arange(-2, 3)
    inside = np.clip(edges[:, None], squares[:-1], squares[1:])
    share = np.diff(inside, axis=0) / 2  # of each square's side, (n, 4)
    dark = (np.add.outer(np.arange(4), np.arange(4)) % 2 == 0) / 8
    return share @ dark @ share.T


def _pinwheel(edges: np.ndarray) -> np.ndarray:
    n = len(edges) - 1
    inner = edges[1:-1]
    e = (np.arange(LINES) + 0.5) / LINES * 16 - 8
    weights = np.exp(-0.5 * e**2)
    weights /= 5 * weights.sum()
    r = 1 + 0.3 * e
    p = np.zeros(n * n)
    for arm in range(5):
        angle = 2 * math.pi * arm / 5 + 0.25 * np.exp(r)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        # x = 2 r cos + 0.2 t sin and y = -2 r sin + 0.2 t cos, t normal: where the line crosses the grid
        foot = 2 * r[:, None]
        t = np.sort(np.concatenate([(inner - foot * cos) / (0.2 * sin), (inner + foot * sin) / (0.2 * cos)], 1))
        t = np.concatenate([np.full((LINES, 1), -40.0), t.clip(-40, 40), np.full((LINES, 1), 40.0)], 1)
        mass = np.diff(ndtr(t)) * weights[:, None]
        middle = 0.1 * (t[:, 1:] + t[:, :-1])
        i = np.searchsorted(inner, foot * cos + middle * sin)
        j = np.searchsorted(inner, middle * cos - foot * sin)
        p += np.bincount((i * n + j).ravel(), mass.ravel(), n * n)
    return p.reshape(n, n)


LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # edges (n + 1,) of cells, the same in x and y -> P (n, n)
    "moons": _moons,
    "circles": _circles,
    "pinwheel": _pinwheel,
    "swissroll": _swissroll,
    "spirals": _spirals,
    "checkerboard": _checkerboard,
    "eight_gaussians": _eight_gaussians,
}
