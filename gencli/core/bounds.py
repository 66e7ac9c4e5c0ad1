"""What a number is to the NLL: the signs and words of bounds, and of the errors beside them, for all that print one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gencli.core.uncertainty import combined

SIGNS = {"exact": "=", "upper": "<=", "lower": ">=", "estimate": "~"}
WORDS = {"exact": "exact", "upper": "upper bound", "lower": "lower bound", "estimate": "estimate"}
ORDER = ("exact", "upper", "estimate", "lower")
"""What is taken first where there are several: that which bounds the NLL from above."""


def nats(value: float, sign: str = "", digits: int = 3) -> str:
    """A number of nats in so many decimals; of one beyond all NLLs its size.

    Example:
        >>> nats(84.2351), nats(1.2e60), nats(0.5, "+", 2)
        ('84.235', '1.200e+60', '+0.50')
    """
    return f"{value:{sign}.{digits}f}" if abs(value) < 1e9 else f"{value:{sign}.3e}"


def at_least(limits: Collection[str] | None) -> bool:
    """Whether the error behind a value is a lower limit: it holds those over examples and of what they share alone.

    Args:
        limits: names of errors that are lower limits, as ``se_lower_limits`` of a record.
    """
    return not {"se_examples", "se_shared"}.isdisjoint(limits or ())


def error_of(se_examples: float | None, se_shared: float | None, limits: Collection[str] | None) -> str:
    """The standard error behind a value, in its unit: `` ± 0.615``, `` ± 0.615 at least``; empty: it is not known.

    Args:
        se_examples: of the mean over examples.
        se_shared: of what all examples share.
        limits: see ``at_least``.
    """
    se = combined(se_examples, se_shared)
    return "" if se is None else f" ± {nats(se)}{' at least' if at_least(limits) else ''}"


def words_of(bound: str, limits: Collection[str] | None, flags: Sequence[object] | None) -> str:
    """The bound in words, and what should make one doubt: ``upper bound; 50 of 300 examples at random``.

    Args:
        bound: exact, upper, lower or estimate.
        limits: see ``at_least``; there are some where importance weights have collapsed.
        flags: of the record.
    """
    collapsed = ", importance weights collapsed" if limits else ""
    return "; ".join([WORDS[bound] + collapsed, *map(str, flags or ())])
