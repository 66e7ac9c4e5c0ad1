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
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union

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
        if self.low is not None and self.low == self.high:
            return f"of {self.low}"
        if self.low is not None and self.high is not None:
            return f"from {self.low} to {self.high}"
        ends = ((self.low, "of at least"), (self.high, "of at most"), (self.above, "above"), (self.below, "below"))
        return " and ".join(f"{words} {end}" for end, words in ends if end is not None) or "that is finite"


@dataclasses.dataclass(frozen=True)
class OptionsOf:
    """Of a mapping: it holds the options of a class.

    Args:
        owner: the class, or the name of the class attribute of the mapping's own owner that holds it.
        given: positional arguments of that class that no option gives.
    """

    owner: type | str
    given: int = 0


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
Finite = Annotated[float, Range()]
Seed = Annotated[int, Range(low=0, high=2**32 - 1)]
"""Of a generator; numpy's takes no others."""

T = TypeVar("T")
Auto: TypeAlias = T | Literal["auto"]
"""A value, or ``auto``: what suits the shape of the data, by ``core/sizes.py``."""

_SCALARS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What a constructor takes by name.

    Args:
        hints: the type of each option; Any where none is declared.
        needed: options without a default.
        closed: whether there are no others (no ``**options`` that ends nowhere).
        defaults: the values of options that are not given.
        nested: options that are mappings of another class's options.
    """

    hints: Mapping[str, Any]
    needed: frozenset[str]
    closed: bool
    defaults: Mapping[str, Any]
    nested: Mapping[str, OptionsOf]


def of_class(owner: type, given: int = 0, names: Mapping[str, Any] | None = None) -> Options:
    """The options of a class, without the first ``given`` positional ones; ``**options`` are those of its parents.

    Args:
        owner: the class.
        given: arguments that its builder gives by position.
        names: for types that the class's module imports for type checkers only.
    """
    hints: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    needed: set[str] = set()
    passes_on = False
    for ancestor in owner.__mro__:
        init = vars(ancestor).get("__init__")
        if init is None:
            continue
        if ancestor.__module__.partition(".")[0] in ("builtins", "torch"):
            break
        if "__dataclass_fields__" in vars(ancestor):  # the constructor was made from the fields
            own = of_dataclass(ancestor, names)
            hints, defaults = {**own.hints, **hints}, {**own.defaults, **defaults}
            needed |= set() if passes_on else own.needed
            passes_on = False
            break
        types_ = _hints(init, names)
        parameters = list(inspect.signature(init).parameters.values())[1:]
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:given]
        for parameter in parameters:
            by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if by_name and parameter.name not in positional and parameter.name not in hints:
                hints[parameter.name] = types_.get(parameter.name, Any)
                if parameter.default is not parameter.empty:
                    defaults[parameter.name] = parameter.default
                elif not passes_on:
                    needed.add(parameter.name)
        passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not passes_on:
            break
    return Options(hints, frozenset(needed), not passes_on, defaults, _nested(owner, hints))


def of_dataclass(kind: type, names: Mapping[str, Any] | None = None) -> Options:
    """The fields of a dataclass that its constructor takes; ``names`` as for ``of_class``."""
    types_ = _hints(kind, names)
    fields = [entry for entry in dataclasses.fields(kind) if entry.init]
    hints = {entry.name: types_.get(entry.name, Any) for entry in fields}
    missing = dataclasses.MISSING
    defaults: dict[str, Any] = {}
    for entry in fields:
        if entry.default_factory is not missing:
            defaults[entry.name] = entry.default_factory()
        elif entry.default is not missing:
            defaults[entry.name] = entry.default
    return Options(hints, frozenset(hints.keys() - defaults.keys()), True, defaults, _nested(kind, hints))


def _nested(owner: type, hints: Mapping[str, Any]) -> dict[str, OptionsOf]:
    """The options that are mappings of another class's options; that class is looked up."""
    found = {}
    for name, hint in hints.items():
        for extra in (extra for kind in (hint, *typing.get_args(hint)) for extra in getattr(kind, "__metadata__", ())):
            if isinstance(extra, OptionsOf):
                kind = getattr(owner, extra.owner) if isinstance(extra.owner, str) else extra.owner
                found[name] = OptionsOf(kind, extra.given)
    return found


def check(section: Mapping[str, Any], options: Options, where: str, what: str) -> dict[str, Any]:
    """Refuse keys that are not declared, and plain values of another type.

    Args:
        section: the values; those that are callable have been built from sections of their own.
        options: what is declared.
        where: the section's full key.
        what: the class, for the message.

    Returns:
        The values; a lone one where a list is declared is a list of one: ``hidden=16`` means ``hidden=[16]``.

    Raises:
        UsageError: names the full key and what it may be.
    """
    prefix = f"{where}." if where else ""
    checked = dict(section)
    for key, value in section.items():
        if key not in options.hints:
            if options.closed:
                raise UsageError(f"{prefix}{key}: {what} takes no such option. {near(key, options.hints)}".rstrip())
            continue
        if not fits(value, hint := options.hints[key]):
            if not _is_lone(value, hint):
                known = [name for name in choices(hint) if isinstance(name, str)]
                close = near(value, known) if isinstance(value, str) else ""
                meant = f". {close}" if close.startswith("Did") else ""
                raise UsageError(f"{prefix}{key}={quoted(value)}: {words(hint)} is needed{meant}")
            checked[key] = [value]
        if key in options.nested and isinstance(value, Mapping):
            owner = options.nested[key].owner
            assert isinstance(owner, type)
            inner = of_class(owner, options.nested[key].given)
            checked[key] = check(value, inner, f"{prefix}{key}", owner.__name__)
    return checked


def _is_lone(value: Any, hint: Any) -> bool:
    """Whether it is a text or number that a list of the declared type may hold."""
    return isinstance(value, str | int | float) and fits([value], hint)


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
        ranges = [r for r in inner[1:] if isinstance(r, Range) and isinstance(size, int | float)]
        return fits(value, inner[0]) and all(r.holds(size) for r in ranges)
    if origin in (Union, types.UnionType):
        return any(fits(value, kind) for kind in inner)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if hint is None or hint is type(None):
        return value is None
    if origin is Callable or hint is Callable:
        return callable(value)
    if hint is float:
        return (isinstance(value, float) and value == value) or _is_integer(value)  # NaN is none
    if hint is int:
        return _is_integer(value)
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
    owner = origin or hint  # Kernel, of Kernel[Any]
    if inspect.isclass(owner) and owner.__module__.partition(".")[0] == "gencli":
        return isinstance(value, owner)
    return True


def _is_integer(value: Any) -> bool:
    """Whether it is an integer that a file of a run and every generator can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64


def choices(hint: Any) -> list[Any]:
    """The values that a type lists."""
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return list(hint.__members__)
    return [choice for kind in typing.get_args(hint) for choice in choices(kind)]


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
        if kind.startswith("a list,") and ranges:
            return kind.replace("a list,", f"a list {ranges},", 1)
        return f"{kind} {ranges}".rstrip()
    if origin in (Union, types.UnionType):
        return " or ".join(words(kind) for kind in inner)
    if origin is Literal:
        return ("one of " if len(inner) > 1 else "") + ", ".join(map(str, inner))
    if hint is None or hint is type(None):
        return "null"
    if origin is Callable or hint is Callable:
        return "a section with a _target_"
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(hint.__members__)
    if origin in (list, tuple, Sequence):
        return f"a list, each {words(inner[0]).rstrip(',')},"
    if origin in (dict, Mapping):
        return "a mapping"
    return _SCALARS.get(hint) or str(getattr(origin or hint, "words", None) or getattr(hint, "__name__", hint))


def _hints(owner: Any, names: Mapping[str, Any] | None) -> dict[str, Any]:
    """Types of a constructor's arguments or of fields; none where their module does not show them (a user's own)."""
    try:
        return typing.get_type_hints(owner, localns=dict(names or {}), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
