"""Contexts that give x away: what is learned of such data has no limit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.data.statistics import ROWS, TOLERABLE, moved, spread

EXACT = 1e-6
"""Of a spread: what is nearer is equal, but for rounding in float32."""
MOST = 256
"""Numbers of a context from which a coordinate is worked out."""


def refuse_leaks(
    x: Tensor, y: Tensor, reals: bool, where: str, of_x: Callable[[int], str], of_y: Callable[[int], str]
) -> None:
    """Refuse training rows x (N, *) of which their context y (N, *) gives a coordinate away.

    Args:
        x: in data space, as they come.
        y: likewise.
        reals: whether x is reals.
        where: begins the message.
        of_x: what messages call a coordinate of x.
        of_y: what they call one of y.

    Raises:
        UsageError: it does.
    """
    pair = copied(x, y)
    at = determined(x, y) if reals and pair is None else None
    if pair is not None:
        given = f"{of_y(pair[1])} gives {of_x(pair[0])} of x away (a copy, but for shift and scale)"
    elif at is not None:
        given = f"the context gives {of_x(at)} of x away (a weighted sum of it)"
    else:
        return
    raise UsageError(f"{where}: {given}: no density has a limit there; leave one of them out")


def copied(x: Tensor, y: Tensor) -> tuple[int, int] | None:
    """A coordinate of rows x (N, *) that one of their context y (N, *) gives away, and which: y_c = a x_d + b.

    Up to a tolerable part of a spread, on at most ``ROWS`` rows; fewer than ten say nothing, and NaN, a missing value,
    has no say. None: there is no such pair.
    """
    if len(x) < 10:
        return None
    step = -(-len(x) // ROWS)
    x, y = x[::step].flatten(1).double(), y[::step].flatten(1).double()
    whole = ~x.isnan().any(0)
    pieces = [whole.nonzero().flatten(), *(~whole).nonzero()]
    for columns in pieces:
        there = ~x[:, columns].isnan().any(1)
        if len(columns) == 0 or int(there.sum()) < 10:
            continue
        u, v = _standard(x[there][:, columns]), _standard(y[there])
        for d, c in ((u.T @ v / len(u)).abs() > 1 - 1e-6).nonzero().tolist():
            a, b = v[:, c : c + 1], u[:, d : d + 1]
            if float(moved(a, b * (a * b).mean().sign())) < TOLERABLE:
                return int(columns[d]), c
    return None


def determined(x: Tensor, y: Tensor) -> int | None:
    """A coordinate of real rows x (N, *) that their context y (N, *) gives without noise: x_d = a . y + b.

    Up to what rounding leaves, on at most ``ROWS`` rows. Fewer than ten for each number of y say nothing, nor do
    missing values; a context of more than ``MOST`` numbers is not looked at. None: there is no such coordinate.
    """
    step = max(1, -(-len(x) // ROWS))
    x, y = x[::step].flatten(1).double(), y[::step].flatten(1).double()
    if y.shape[1] > MOST or len(x) < 10 * (y.shape[1] + 1) or x.isnan().any():
        return None
    u = torch.cat([_standard(y), torch.ones_like(y[:, :1])], 1)
    left = moved(x, u @ torch.linalg.lstsq(u, x, driver="gelsd").solution)
    found = ((left < EXACT) & (spread(x) > 0)).nonzero()
    return int(found[0]) if len(found) else None


def _standard(x: Tensor) -> Tensor:
    """Columns (N, D) of mean 0 and deviation 1; a constant one is 0."""
    away = x - x.mean(0)
    return away / away.square().mean(0).sqrt().clamp(min=torch.finfo(x.dtype).tiny)
