"""Integers as float64, which holds all of them up to 2^53 and beyond only some."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gencli.core.errors import UsageError

HELD = 2**53

ADVICE = "rescale, or take differences"
"""What makes integers small that are not held."""

_DIGITS = re.compile(r"[+-]?\d+")


def rounded(x: np.ndarray) -> int | None:
    """The position, of x made flat, of the first integer that float64 does not hold; None: it holds all.

    Example:
        >>> rounded(np.array([2**53, 2**60, 2**53 + 1])), rounded(np.array([0.1]))
        (2, None)
    """
    if x.dtype.kind not in "iu" or x.size == 0 or (x.min() >= -HELD and x.max() <= HELD):
        return None
    near = x.astype(np.float64)
    inside = near < 2.0 ** (64 if x.dtype.kind == "u" else 63)  # beyond, numpy does not say what the cast back gives
    wrong = np.flatnonzero(np.where(inside, near, 0).astype(x.dtype) != x)
    return int(wrong[0]) if len(wrong) else None


def rounded_text(cells: Sequence[str] | np.ndarray, values: np.ndarray) -> int | None:
    """The position of the first cell that is an integer, and its value in float64 another; None: there is none.

    Args:
        cells: texts.
        values: (N,) what they are in float64, all finite.

    Example:
        >>> rounded_text(["1e300", "9007199254740993"], np.array([1e300, 2.0**53]))
        1
    """
    for row in np.flatnonzero(np.abs(values) >= HELD).tolist():
        if _DIGITS.fullmatch(cells[row]) and int(cells[row]) != int(values[row]):
            return int(row)
    return None


def require_held(x: np.ndarray, where: str) -> None:
    """Refuse integers that would be rounded in silence.

    Raises:
        UsageError: float64 does not hold one of them.
    """
    row = rounded(x)
    if row is not None:
        value = int(x.flat[row])
        raise UsageError(
            f"{where} holds the integer {value}, which float64 would round to {int(float(value))}: {ADVICE}"
        )
