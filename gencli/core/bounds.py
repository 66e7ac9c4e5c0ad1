"""What a number is to the NLL: the signs and words of bounds, and of the errors beside them, for all that print one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gencli.core.uncertainty import combined

SIGNS = {"exact": "=", "upper": "<=", "lower": ">=", "estimate": "~"}
WORDS = {"exact": "exact", "upper": "upper bound", "lower": "lower bound", "estimate": "estimate"}
ORDER = ("exact", "upper", "estimate", "lower")
"""What is taken first where there are several: that which bounds the NLL from above."""


def error_of(se_examples: float | None, se_shared: float | None, limits: Collection[str] | None) -> str:
    """The standard error behind a value, in its unit: `` ± 0.615``, `` ± 0.615 at least``; empty: it is not known.

    Args:
        se_examples: of the mean over examples.
        se_shared: of what all examples share.
        limits: names of errors that are lower limits, as ``se_lower_limits`` of a record.
    """
    se = combined(se_examples, se_shared)
    return "" if se is None else f" ± {se:.3f}{' at least' if 'se_shared' in (limits or ()) else ''}"


def words_of(bound: str, limits: Collection[str] | None, flags: Sequence[object] | None) -> str:
    """The bound in words, and what should make one doubt: ``upper bound; 50 of 300 examples at random``.

    Args:
        bound: exact, upper, lower or estimate.
        limits: see ``error_of``; there are some where importance weights have collapsed.
        flags: of the record.
    """
    collapsed = ", importance weights collapsed" if limits else ""
    return "; ".join([WORDS[bound] + collapsed, *map(str, flags or ())])
