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
    for t, h in zip(grid[:-1], grid.diff(), strict=True):
        slopes: list[Tensor] = []
        for c, a in zip(nodes, matrix, strict=True):
            at = _combine(x, h.to(x.dtype), a, slopes)
            slopes.append(f(at, (t + c * h).expand(len(x)), rows))
        x = _combine(x, h.to(x.dtype), weights, slopes)
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
    nfe = torch.zeros(B, dtype=torch.long, device=x.device)
    rows = torch.arange(B, device=x.device)
    x = x.clone()
    if B == 0 or whole == 0:
        return Solution(x, nfe)
    k = f(x, t, rows)
    h = _first_step(f, x, t, k, rows, whole, atol, rtol)
    nfe += 2
    while len(rows):
        if int(nfe[rows].max()) + 6 > max_nfe:
            worst = int((~torch.isfinite(k)).any(1).sum())
            why = f"{worst} of them have a velocity that is not finite" if worst else f"at t={float(t[rows].min()):.3g}"
            raise SolverError(
                f"{len(rows)} rows are not at their end after {max_nfe} evaluations ({why}): raise {what}, or "
                "loosen atol and rtol"
            )
        now, at, step = t[rows], x[rows], h[rows]
        last = step.abs() >= (t1 - now).abs()
        step = torch.where(last, t1 - now, step)
        width = step.to(x.dtype)[:, None]
        slopes = [k]
        for c, a in zip(_C[1:], _A[1:], strict=True):
            to = _combine(at, width, a, slopes)
            slopes.append(f(to, now + c * step, rows))
        nfe[rows] += 6
        error = _combine(torch.zeros_like(at), width, _E, slopes)
        share = (error / (atol + rtol * torch.maximum(at.abs(), to.abs()))).square()
        norm = share[:, : x.shape[1] - integrals].mean(1)
        if integrals:
            norm = torch.maximum(norm, share[:, -integrals:].amax(1))
        norm = norm.sqrt().to(clock).nan_to_num(nan=torch.inf)
        good = norm <= 1
        # Growth at most tenfold, and none right after a refusal; 1/5 because the error is of fifth order in the step
        factor = (0.9 * norm.clamp(min=1e-10) ** -0.2).clamp(0.2, 10.0)
        x[rows] = torch.where(good[:, None], to, at)
        t[rows] = torch.where(good, torch.where(last, t1, now + step), now)
        h[rows] = step * torch.where(good, factor, factor.clamp(max=1.0))
        k = torch.where(good[:, None], slopes[-1], k)  # first same as last
        stays = ~(good & last)
        rows, k = rows[stays], k[stays]
    return Solution(x, nfe)


def _combine(x: Tensor, h: Tensor, weights: list[float], slopes: list[Tensor]) -> Tensor:
    """x + h sum_i w_i k_i."""
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return x + h * torch.stack(terms).sum(0) if terms else x


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
