"""What a search may try: intervals and choices, in the grammar of Hydra's overrides or in a YAML file.

::

    optimizer.lr=interval(1e-4,1e-2)             a number, uniform
    optimizer.lr=tag(log,interval(1e-4,1e-2))    uniform in its logarithm
    model.transforms=int(interval(2,8))          an integer, both ends included
    model.transforms=range(2,9,2)                2, 4, 6, 8
    model=maf,realnvp                            one of these
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from gencli.config.plain import read_yaml
from gencli.core.errors import UsageError, quoted
from gencli.core.files import named


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included; integers if both are.

    Args:
        key: of the override.
        low: the least.
        high: the greatest.
        step: between two of them; None: all numbers between.
        log: whether the logarithm is uniform.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def ends(self) -> tuple[float, ...]:
        """Values that the others lie between."""
        return (self.low, self.high)

    @property
    def whole(self) -> bool:
        """Whether its values are integers."""
        return isinstance(self.low, int)

    @property
    def listed(self) -> list[float] | None:
        """All values, if they can be counted."""
        if self.step is None:
            return None
        return [self.low + k * self.step for k in range(round((self.high - self.low) / self.step) + 1)]

    def holds(self, value: object) -> bool:
        """Whether it is one of its values."""
        return isinstance(value, int if self.whole else float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """Some values, without an order.

    Args:
        key: of the override.
        values: as texts of Hydra's grammar.
    """

    key: str
    values: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """All of them."""
        return self.values

    @property
    def listed(self) -> list[str]:
        """All of them."""
        return [*self.values]

    def holds(self, value: object) -> bool:
        """Whether it is one of them."""
        return value in self.values


Space = Interval | Choices


def space(override: Override) -> Space:
    """What an override lets a search choose from.

    Raises:
        UsageError: there is nothing to choose from, or it has no logarithm.
    """
    key, value, text = override.get_key_element(), override.value(), override.input_line
    if override.key_or_group == "seed":
        raise UsageError(f"{text}: a search does not choose a seed; give one, and train the chosen one with others")
    tags: set[str] = getattr(value, "tags", set())
    if tags - {"log"}:
        raise UsageError(f"{text}: tag(log, interval(...)) is the one tag of a search")
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return _interval(Interval(key, value.start, value.end, log="log" in tags), str(text))
    if isinstance(value, RangeSweep):
        values = sorted(value.range())
        if not values:
            raise UsageError(f"{text}: there is nothing in this range")
        step = abs(value.step)
        if "log" in tags and step != 1:
            raise UsageError(f"{text}: a range in logarithms has the step 1")
        return _interval(
            Interval(key, values[0], values[-1], None if "log" in tags else step, "log" in tags), str(text)
        )
    if tags:
        raise UsageError(f"{text}: choices have no logarithm")
    return Choices(key, tuple(dict.fromkeys(override.sweep_string_iterator())))


def _interval(found: Interval, text: str) -> Interval:
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low <= found.high):
        raise UsageError(f"{text}: an interval goes from a finite number to a greater one")
    if found.log and found.low <= 0:
        raise UsageError(f"{text}: logarithms need numbers above 0")
    return found


def from_file(text: str) -> list[str]:
    """The overrides of a YAML file, a mapping from keys to texts of Hydra's grammar or to lists of values.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    file = named(text, "search.params=")
    if not file.is_file():
        raise UsageError(f"search.params={quoted(text)}: there is no such file")
    found = read_yaml(file)
    if not isinstance(found, Mapping) or not found:
        raise UsageError(f"search.params={quoted(text)}: a mapping from keys to what may be tried is needed")
    return [
        f"{key}={_in_grammar(value, f'search.params={quoted(file)}: {quoted(key)}')}" for key, value in found.items()
    ]


def _in_grammar(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not value or not all(isinstance(v, str | int | float | None) for v in value):
        raise UsageError(f"{where}: a text such as interval(1e-4,1e-2), or a list of values, is needed")
    return (
        f"choice({','.join('null' if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in value)})"
    )


def words(spaces: Sequence[Space]) -> list[dict[str, Any]]:
    """Spaces as plain data, in an order of their own."""
    plain = [
        {**vars(one), "values": list(one.values)} if isinstance(one, Choices) else dict(vars(one)) for one in spaces
    ]
    return sorted(plain, key=lambda one: str(one["key"]))
