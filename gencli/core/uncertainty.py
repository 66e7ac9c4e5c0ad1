"""Standard errors of means over examples, or over the symbols of one sequence whose rows depend on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BLOCKS = 20
"""Of a sequence: 10 to 30 is where more blocks hardly narrow an interval, and longer ones depend less on each other
("Batch size effects in the analysis of simulation output", Schmeiser, 1982)."""
FEW = 10
"""Blocks of which fewer tell little: sums over rows that depend on each other."""
FEW_ROWS = 6
"""Independent rows of which fewer tell little: two errors cover the mean of 6 normal rows in 90 of 100 cases, and of 2
rows in 70 (t distribution)."""


@dataclass(frozen=True)
class StandardError:
    """The standard error of a mean.

    Args:
        value: None: one row tells none, nor do rows that are not finite. 0: no two rows differ.
        blocks: of consecutive rows, which were taken as independent; None: rows were.
        caveat: why the true error may be larger, in a few words; empty: nothing speaks for it.
    """

    value: float | None
    blocks: int | None = None
    caveat: str = ""


def combined(se_examples: float | None, se_shared: float | None) -> float | None:
    """The error of an NLL as it is shown everywhere, sqrt(se_examples^2 + se_shared^2); None: nothing is known of it.

    The spread over examples already holds the estimator's noise in each row, so that of ``se_estimator`` only the part
    that all rows share is added.
    """
    return None if se_examples is None else math.hypot(se_examples, se_shared or 0.0)


def standard_error(values: np.ndarray, counts: np.ndarray | None, groups: np.ndarray | None = None) -> StandardError:
    """Of sum_i values_i / n; of sum_i values_i / sum_i counts_i where rows are windows of a sequence, in order.

    Rows without counts are independent: s / sqrt(n). Windows of a sequence are not, so this takes the batch means of
    B blocks of consecutive rows: with residuals e_i = values_i - r counts_i of the ratio r, and E_b their sums over
    blocks, sqrt(B / (B - 1) sum_b E_b^2) / sum_i counts_i. Rows of known groups have these in place of blocks. Where
    neighbouring blocks, or groups, are seen to be correlated, the error is said to be too small.

    Args:
        values: (N,) nats of rows, or differences of them.
        counts: (N,) scored symbols of each row, or weights; None: rows are examples of weight 1.
        groups: (N,) the number of each row's group; None: rows are not grouped.
    """
    import numpy as np  # ``gencli compare`` reads records without it

    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return StandardError(None)
    if (values == values[0] if counts is None else values * counts[0] == values[0] * counts).all():
        return StandardError(0.0, caveat=f"no error: all {n:,} rows are equal")
    if counts is None and groups is None:
        caveat = f"error from {n} rows only" if n < FEW_ROWS else ""
        return StandardError(float(values.std(ddof=1) / math.sqrt(n)), caveat=caveat)
    if counts is None:
        counts = np.ones(n)
    residual = values - values.sum() / counts.sum() * counts
    if groups is None:
        blocks = max(2, min(BLOCKS, n // 2))
        sums = np.array([block.sum() for block in np.array_split(residual, blocks)])
    else:
        sums = np.bincount(np.unique(groups, return_inverse=True)[1], residual)
        blocks = len(sums)
        if blocks < 2:
            return StandardError(None)
    squares = float((sums**2).sum())
    caveat = ""
    if blocks < FEW:
        caveat = f"error from {blocks} blocks only"
    elif float((sums[1:] * sums[:-1]).sum()) > 2 / math.sqrt(blocks) * squares:
        caveat = "error too small: its blocks are correlated"
    return StandardError(math.sqrt(blocks / (blocks - 1) * squares) / float(counts.sum()), blocks, caveat)
