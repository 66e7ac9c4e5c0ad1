"""Values against what their owner declares: what a section of a config may hold.

A section is plain data. Which keys it may have, of which types and in which range, is said once: by the annotations of
the constructor or of the dataclass that the section names. Nothing else is handed on, and no constructor checks again
what an annotation says::

    def __init__(self, spec: Spec, *, steps: Count = 100, step: Positive = 0.1) -> None:
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

from gencli.core.errors import UsageError, near, quoted


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers from ``low`` to ``high``, or above one and below the other; of a list, its length.

    Args:
        low: the least.
        high: the greatest.
        above: all values are greater.
        below: all values are less.

    Example:
        >>> Range(low=0, below=1).holds(1.0)
        False
        >>> f"a number {Range(low=0, below=1)}"
        'a number of at least 0 and below 1'
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        return (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"from {self.low} to {self.high}"
        ends = ((self.low, "of at least"), (self.high, "of at most"), (self.above, "above"), (self.below, "below"))
        return " and ".join(f"{words} {end}" for end, words in ends if end is not None)


Count = Annotated[int, Range(low=1)]
Natural = Annotated[int, Range(low=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1)]
"""A share or probability, both ends included."""
ProperFraction = Annotated[float, Range(above=0, below=1)]
"""A share or probability, without its ends."""
BelowOne = Annotated[float, Range(low=0, below=1)]
"""A rate of dropping or forgetting: at 1 nothing would be left."""

_SCALARS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What a constructor takes by name.

    Args:
        hints: the type of each option; Any where none is declared.
        needed: options without a default.
        closed: whether there are no others (no ``**options`` that ends nowhere).
    """

    hints: Mapping[str, Any]
    needed: frozenset[str]
    closed: bool


def of_class(owner: type, given: int = 0, names: Mapping[str, Any] | None = None) -> Options:
    """The options of a class, without the first ``given`` positional ones; ``**options`` are those of its parents.

    Args:
        owner: the class.
        given: arguments that its builder gives by position.
        names: for types that the class's module imports for type checkers only.
    """
    hints: dict[str, Any] = {}
    needed: set[str] = set()
    passes_on = False
    for ancestor in owner.__mro__:
        init = vars(ancestor).get("__init__")
        if init is None:
            continue
        if ancestor.__module__.partition(".")[0] in ("builtins", "torch"):
            break
        if "__dataclass_fields__" in vars(ancestor):  # the constructor was made from the fields
            fields = of_dataclass(ancestor, names)
            hints = {**fields.hints, **hints}
            needed |= frozenset() if passes_on else fields.needed
            passes_on = False
            break
        types_ = _hints(init, names)
        parameters = list(inspect.signature(init).parameters.values())[1:]
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:given]
        for parameter in parameters:
            by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if by_name and parameter.name not in positional and parameter.name not in hints:
                hints[parameter.name] = types_.get(parameter.name, Any)
                if parameter.default is parameter.empty and not passes_on:
                    needed.add(parameter.name)
        passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not passes_on:
            break
    return Options(hints, frozenset(needed), closed=not passes_on)


def of_dataclass(kind: type, names: Mapping[str, Any] | None = None) -> Options:
    """The fields of a dataclass that its constructor takes; ``names`` as for ``of_class``."""
    hints = _hints(kind, names)
    fields = [entry for entry in dataclasses.fields(kind) if entry.init]
    missing = dataclasses.MISSING
    needed = {entry.name for entry in fields if entry.default is missing and entry.default_factory is missing}
    return Options({entry.name: hints.get(entry.name, Any) for entry in fields}, frozenset(needed), closed=True)


def check(section: Mapping[str, Any], options: Options, where: str, what: str) -> None:
    """Refuse keys that are not declared, and plain values of another type.

    Args:
        section: the values; those that are callable have been built from sections of their own.
        options: what is declared.
        where: the section's full key.
        what: the class, for the message.

    Raises:
        UsageError: names the full key and what it may be.
    """
    for key, value in section.items():
        if key not in options.hints:
            if options.closed:
                raise UsageError(f"{where}.{key}: {what} takes no such option. {near(key, options.hints)}".rstrip())
            continue
        if not fits(value, options.hints[key]):
            raise UsageError(f"{where}.{key}={quoted(value)}: {words(options.hints[key])} is needed")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a type. An integer is a number too; true is neither.

    Nothing plain is an object of gencli. Types that a user's class declares and that are none of these fit all values.

    Example:
        >>> fits(3, Count), fits(0, Count), fits(True, Count), fits(3, float)
        (True, False, False, True)
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        size = len(value) if isinstance(value, list | tuple) else value
        return fits(value, inner[0]) and all(size is None or r.holds(size) for r in inner[1:] if isinstance(r, Range))
    if origin in (Union, types.UnionType):
        return any(fits(value, kind) for kind in inner)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if hint is None or hint is type(None):
        return value is None
    if origin is Callable or hint is Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN is none
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return isinstance(value, str) and value in hint.__members__
    if origin is tuple and inner[-1:] != (...,):
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(fits(item, inner[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if inspect.isclass(hint) and hint.__module__.partition(".")[0] == "gencli":
        return isinstance(value, hint)
    return True


def words(hint: Any) -> str:
    """A type as people say it.

    Example:
        >>> words(Count | None)
        'an integer of at least 1 or null'
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        ranges = " and ".join(str(extra) for extra in inner[1:] if isinstance(extra, Range))
        kind = words(inner[0])
        return f"{kind} {ranges} of them" if kind.startswith("a list") and ranges else f"{kind} {ranges}".rstrip()
    if origin in (Union, types.UnionType):
        return " or ".join(words(kind) for kind in inner)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if hint is None or hint is type(None):
        return "null"
    if origin is Callable or hint is Callable:
        return "a section with a _target_"
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(hint.__members__)
    if origin in (list, tuple, Sequence):
        return f"a list, of each entry {words(inner[0])},"
    if origin in (dict, Mapping):
        return "a mapping"
    return _SCALARS.get(hint) or str(getattr(hint, "words", None) or getattr(hint, "__name__", hint))


def _hints(owner: Any, names: Mapping[str, Any] | None) -> dict[str, Any]:
    """Types of a constructor's arguments or of fields; none where their module does not show them (a user's own)."""
    try:
        return typing.get_type_hints(owner, localns=dict(names or {}), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
