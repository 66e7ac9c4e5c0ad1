"""What is measured on training rows before anything is trained on them: what float32 would lose, and what repeats.

A coordinate's spread is the smaller of its deviation and of IQR / 1.349, so that a few values far away do not hide what
float32 does to all others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.spec import Batch
from gencli.data.base import Split

ROWS = 10_000
"""The most training rows on which any of this is measured, evenly spaced."""
NEGLIGIBLE = 1e-4
"""Of a spread: data stay in float64 where float32 would move a value further."""
TOLERABLE = 1e-3
"""Of a spread: further than this no value may be moved on its way to the model."""


def some_rows(split: Split) -> Batch:
    """At most ``ROWS`` rows, evenly spaced, on the CPU."""
    batch = split.gather(torch.arange(0, len(split), -(-len(split) // ROWS)))
    return Batch(batch.x.cpu(), None if batch.y is None else batch.y.cpu())


def spread(x: Tensor) -> Tensor:
    """The spread (D,) of rows (N, D) in float64; 0 of a constant coordinate. NaN, a missing value, has no say."""
    if x.isnan().any():
        there = [column[~column.isnan()][:, None] for column in x.T]
        return torch.cat([spread(column) if len(column) else column.new_zeros(1) for column in there])
    deviation = x.std(0, correction=0)
    ordered = x.sort(0).values
    quartiles = (ordered[3 * (len(x) - 1) // 4] - ordered[(len(x) - 1) // 4]) / 1.349
    return torch.where(quartiles > 0, torch.minimum(deviation, quartiles), deviation)


def moved(x: Tensor, other: Tensor) -> Tensor:
    """How far rounding took rows x (N, D), in float64, to the other ones: at most, in spreads of each coordinate (D,).

    A constant coordinate is not moved: nothing depends on where it is.
    """
    error, scale = (other.double() - x).abs().nan_to_num(0.0, torch.inf).amax(0), spread(x)
    return torch.where((error > 0) & (scale > 0), error / scale, torch.zeros_like(error))


def needs_float64(x: Tensor) -> bool:
    """Whether float32 would overflow, or move a value (N, *) by more than a negligible part of its spread."""
    if x.dtype != torch.float64 or len(x) == 0:
        return False
    if bool((x.float().isinf() & x.isfinite()).any()):
        return True
    rows = x[:: -(-len(x) // ROWS)].flatten(1)
    return bool((moved(rows, rows.float()) > NEGLIGIBLE).any())
