"""Initial value problems for a batch of rows, each with steps of its own: dx/dt = f(x, t).

Rows do not share their step sizes, so what comes out for a row does not depend on the rest of its batch. Nothing here
knows what is integrated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gencli.core.errors import RunFailed

Derivative = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (n, M), t (n,), rows (n,)) -> dx/dt (n, M); ``rows`` are the positions of these n rows in the whole batch."""

Method = Literal["euler", "heun", "rk4", "dopri5"]
METHODS = get_args(Method)
ORDER = {"euler": 1, "heun": 2, "rk4": 4, "dopri5": 5}

# Tableaux: nodes c, matrix a, weights b
_FIXED: dict[str, tuple[list[float], list[list[float]], list[float]]] = {
    "euler": ([0], [[]], [1]),
    "heun": ([0, 1], [[], [1]], [1 / 2, 1 / 2]),
    "rk4": ([0, 1 / 2, 1 / 2, 1], [[], [1 / 2], [0, 1 / 2], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
}
_C = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1]
_A = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
]
_E = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40]  # fifth minus fourth order


class SolverError(RunFailed):
    """A solve that needs more evaluations than it may have, or that is not as accurate as it has to be."""


@dataclass
class Solution:
    """x (B, M) at the end; nfe (B,) evaluations of f for each row."""

    x: Tensor
    nfe: Tensor


def fixed(f: Derivative, x: Tensor, grid: Tensor, method: str) -> Solution:
    """Runge-Kutta steps from time to time along ``grid`` (n + 1,): euler, heun or rk4."""
    nodes, matrix, weights = _FIXED[method]
    rows = torch.arange(len(x), device=x.device)
    for t, width, h in zip(grid[:-1], grid.diff(), grid.diff().to(x.dtype), strict=True):
        slopes: list[Tensor] = []
        for c, a in zip(nodes, matrix, strict=True):
            slopes.append(f(_combine(x, h, a, slopes), (t + c * width).expand(len(x)), rows))
        x = _combine(x, h, weights, slopes)
    nfe = torch.full((len(x),), len(nodes) * (len(grid) - 1), device=x.device)
    return Solution(x, nfe)


def dopri5(
    f: Derivative,
    x: Tensor,
    t0: float,
    t1: float,
    *,
    atol: float,
    rtol: float,
    max_nfe: int,
    integrals: int = 0,
    what: str = "max_nfe",
) -> Solution:
    """The adaptive method of Dormand and Prince from t0 to t1, forwards or backwards.

    A step is taken if the root mean square of error / (atol + rtol |x|) over the row is at most 1, and each of the
    integrals, the last columns of x, has by itself an error of at most its tolerance.

    Args:
        f: the derivative.
        x: (B, M) at t0.
        t0: start.
        t1: end.
        atol: absolute tolerance.
        rtol: relative tolerance.
        max_nfe: evaluations that a row may cost.
        integrals: number of columns that many others must not hide, such as nats beside many coordinates.
        what: the key that sets ``max_nfe``, for the message.

    Raises:
        SolverError: a row needs more than ``max_nfe`` evaluations.

    References:
        Dormand and Prince, "A family of embedded Runge-Kutta formulae", 1980. First step and control: Hairer, Norsett
        and Wanner, "Solving ordinary differential equations I", 1993.
    """
    B, whole = len(x), t1 - t0
    clock = torch.float32 if x.device.type == "mps" else torch.float64
    t = torch.full((B,), t0, dtype=clock, device=x.device)
    rows = torch.arange(B, device=x.device)
    if B == 0 or whole == 0:
        return Solution(x.clone(), torch.zeros_like(rows))
    x, nfe, k = x.clone(), torch.full_like(rows, 2), f(x, t, rows)
    h = _first_step(f, x, t, k, rows, whole, atol, rtol)
    while len(rows):
        if int(nfe[rows].max()) + 6 > max_nfe:
            raise _unfinished(k, t[rows], max_nfe, what)
        now, at, step = t[rows], x[rows], h[rows]
        last = step.abs() >= (t1 - now).abs()
        step = torch.where(last, t1 - now, step)
        to, error, after = _try(f, at, now, step, k, rows)
        nfe[rows] += 6
        norm = _norm(error / (atol + rtol * torch.maximum(at.abs(), to.abs())), integrals).to(clock)
        good = norm <= 1
        x[rows] = torch.where(good[:, None], to, at)
        t[rows] = torch.where(good, torch.where(last, t1, now + step), now)
        h[rows] = step * _growth(norm)
        k = torch.where(good[:, None], after, k)  # first same as last
        stays = ~(good & last)
        rows, k = rows[stays], k[stays]
    return Solution(x, nfe)


def _unfinished(k: Tensor, t: Tensor, max_nfe: int, what: str) -> SolverError:
    """Why rows with slopes k at times t are not at their end."""
    worst = int((~torch.isfinite(k)).any(1).sum())
    why = f"{worst} of them have a velocity that is not finite" if worst else f"at t={float(t.min()):.3g}"
    return SolverError(
        f"{len(t)} rows are not at their end after {max_nfe} evaluations ({why}): raise {what}, or loosen atol and rtol"
    )


def _try(f: Derivative, x: Tensor, t: Tensor, h: Tensor, k: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step from x (n, M), whose slope is k: where it leads, its error, and the slope there."""
    width = h.to(x.dtype)[:, None]
    slopes, to = [k], x
    for c, a in zip(_C[1:], _A[1:], strict=True):
        to = _combine(x, width, a, slopes)
        slopes.append(f(to, t + c * h, rows))
    return to, _combine(torch.zeros_like(x), width, _E, slopes), slopes[-1]


def _norm(share: Tensor, integrals: int) -> Tensor:
    """Root mean square of each row (n,), or the largest integral; infinite where it is no number."""
    squares = share.square()
    norm = squares[:, : squares.shape[1] - integrals].mean(1)
    if integrals:
        norm = torch.maximum(norm, squares[:, -integrals:].amax(1))
    return norm.sqrt().nan_to_num(nan=torch.inf)


def _growth(norm: Tensor) -> Tensor:
    """The next step's size over this one's: at most ten, and at most one after a refusal.

    The power is 1/5 because the error is of fifth order in the step.
    """
    factor = (0.9 * norm.clamp(min=1e-10) ** -0.2).clamp(0.2, 10.0)
    return torch.where(norm <= 1, factor, factor.clamp(max=1.0))


def _combine(x: Tensor, h: Tensor, weights: list[float], slopes: list[Tensor]) -> Tensor:
    """x + h sum_i w_i k_i."""
    used = [(w, k) for w, k in zip(weights, slopes, strict=True) if w]
    if not used:
        return x
    (w, k), *others = used
    total = k if w == 1 else w * k
    for w, k in others:
        total = torch.add(total, k, alpha=w)
    return x + h * total


def _first_step(
    f: Derivative, x: Tensor, t: Tensor, k: Tensor, rows: Tensor, whole: float, atol: float, rtol: float
) -> Tensor:
    """A first step (B,) from the sizes of x, x' and x''."""
    scale = atol + rtol * x.abs()

    def size(v: Tensor) -> Tensor:
        return (v / scale).square().mean(1).sqrt().to(t.dtype)

    d0, d1 = size(x), size(k)
    trial = torch.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1.clamp(min=1e-30)).clamp(max=abs(whole))
    sign = 1.0 if whole > 0 else -1.0
    ahead = f(x + (sign * trial).to(x.dtype)[:, None] * k, t + sign * trial, rows)
    d2 = size(ahead - k) / trial
    largest = torch.maximum(d1, d2)
    guess = torch.where(largest <= 1e-15, (1e-3 * trial).clamp(min=1e-6), (0.01 / largest.clamp(min=1e-30)) ** 0.2)
    return sign * torch.minimum(100 * trial, guess).nan_to_num(nan=1e-6).clamp(max=abs(whole))
