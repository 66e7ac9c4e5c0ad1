"""What a section may hold is what the constructor of its class declares."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

import pytest

from gencli.config import sections
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.models.base import Model

Colour = Enum("Colour", ["red", "blue"])

FITS = [
    (int, [0, -3], [True, 1.0, "1", None, [1]]),
    (float, [0.5, 1, float("inf")], [True, "1", None]),
    (bool, [True, False], [0, 1, "true", None]),
    (str, ["", "a"], [1, None, ["a"]]),
    (int | None, [None, 2], ["", 2.5]),
    (Literal["a", 1], ["a", 1], ["b", True, 1.0]),
    (Sequence[int], [[], [1, 2]], ["12", [1, "2"], 1, {"0": 1}]),
    (list[str | int] | None, [None, ["a", 1]], [[None], "a"]),
    (tuple[float, ...], [[0.5, 1]], [[None], 1]),
    (tuple[int, str], [[1, "a"]], [[1], ["a", 1]]),
    (Sequence[Sequence[int]], [[[1], []]], [[1]]),
    (Mapping[str, int], [{}, {"a": 1}], [[], {"a": "b"}]),
    (Callable[[int], int], [len], [None, 1, "len", {"_target_": "x"}]),
    (int, [2**64 - 1, -(2**63)], [2**64, -(2**63) - 1, 10**400]),  # what a file of a run can hold
    (Annotated[int | Literal["all"], options.Range(low=1)], [1, "all"], [0, "none"]),
    (Colour, ["red"], ["green", 1, ["red"], {}, None]),
    (Any, [None, 1, {}], []),
    (Model, [], [None, 1, "gencli.models", {}]),
]


@pytest.mark.parametrize(("hint", "right", "wrong"), FITS, ids=str)
def test_fits(hint, right, wrong):
    for value in right:
        assert options.fits(value, hint), value
    for value in wrong:
        assert not options.fits(value, hint), value
    assert options.words(hint)


class Parent:
    def __init__(self, spec, maps: int, width: int = 3, *, deep: bool = False) -> None: ...


class Child(Parent):
    def __init__(self, spec, bins: float, **structure: Any) -> None:
        super().__init__(spec, 2, **structure)


class Free:
    def __init__(self, spec, **options: Any) -> None: ...


@dataclasses.dataclass(frozen=True)
class Record:
    a: int
    b: options.Positive = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Longer(Record):
    c: str = ""


class Written(Longer):
    def __init__(self, d: bool = False, **rest: Any) -> None:
        super().__init__(2, **rest)


class Closed(Record):
    def __init__(self, e: int) -> None:
        super().__init__(e)


def test_options_of_a_dataclass_are_its_fields_unless_a_child_has_a_constructor():
    own = options.of_class(Longer)
    assert (own.hints, own.needed, own.closed) == ({"a": int, "b": options.Positive, "c": str}, {"a"}, True)
    handed_on = options.of_class(Written)
    assert {*handed_on.hints} == {"a", "b", "c", "d"}
    assert (handed_on.needed, handed_on.closed) == (frozenset(), True)
    closed = options.of_class(Closed)
    assert (closed.hints, closed.needed, closed.closed) == ({"e": int}, {"e"}, True)


def test_options_of_parents_are_those_of_the_child_that_hands_them_on():
    own = options.of_class(Child, given=1)
    assert own.hints == {"bins": float, "maps": int, "width": int, "deep": bool}
    assert (own.needed, own.closed) == ({"bins"}, True)
    assert options.of_class(Parent, given=1).needed == {"maps"}
    assert not options.of_class(Free, given=1).closed
    options.check({"anything": 1}, options.of_class(Free, given=1), "model", "Free")
    with pytest.raises(UsageError, match=r"model\.wdth: Child takes no such option\. Did you mean 'width'"):
        options.check({"wdth": 1}, own, "model", "Child")
    with pytest.raises(UsageError, match=r"model\.deep=1: true or false is needed"):
        options.check({"deep": 1}, own, "model", "Child")


def test_sections_of_a_run_are_completed_by_the_defaults():
    trainer = sections.plain("trainer", {"max_steps": 7, "clip_norm": 1})
    assert (trainer["max_steps"], trainer["clip_norm"], trainer["precision"]) == (7, 1.0, "auto")
    assert isinstance(trainer["clip_norm"], float)
    assert sections.plain("optimizer", {"name": "sgd", "lr": 1})["schedule"] == "cosine"
    for section, says in [({}, "optimizer.name=None: one of adamw"), ({"name": "sgd"}, "optimizer.lr is missing")]:
        with pytest.raises(UsageError, match=says):
            sections.plain("optimizer", section)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranged:
    steps: options.Count = 3
    share: options.BelowOne | None = None
    sizes: Annotated[list[options.Count], options.Range(low=1)] = dataclasses.field(default_factory=lambda: [1])


class Heir(Ranged):
    def __init__(self, extra: int, **rest: Any) -> None:
        super().__init__(**rest)


class Hermit(Ranged):
    def __init__(self, classes: list[int] | None = None) -> None:
        super().__init__(steps=2)


def test_a_child_of_a_dataclass_may_have_a_constructor_of_its_own():
    heir = options.of_class(Heir)
    assert set(heir.hints) == {"extra", "steps", "share", "sizes"}
    assert (heir.needed, heir.closed, heir.defaults["steps"]) == ({"extra"}, True, 3)
    assert set(options.of_class(Hermit).hints) == {"classes"}


class Outer:
    inner = Ranged

    def __init__(self, part: Annotated[Mapping[str, Any], options.OptionsOf("inner")] | None = None) -> None: ...


def test_a_mapping_of_options_is_checked_like_a_section_of_its_own():
    fields = options.of_class(Outer)
    options.check({"part": {"steps": 2}}, fields, "net", "Outer")
    options.check({"part": None}, fields, "net", "Outer")
    for value, says in (
        ({"steps": 0}, r"net\.part\.steps=0: an integer"),
        ({"step": 1}, r"net\.part\.step: Ranged takes"),
    ):
        with pytest.raises(UsageError, match=says):
            options.check({"part": value}, fields, "net", "Outer")


def test_a_near_choice_is_suggested():
    fields = options.Options({"grid": Literal["uniform", "karras"] | None}, frozenset(), True, {}, {})
    with pytest.raises(UsageError, match=r"is needed\. Did you mean 'uniform'\?$"):
        options.check({"grid": "unifrm"}, fields, "sampler", "it")
    with pytest.raises(UsageError, match=r"one of uniform, karras or null is needed$"):
        options.check({"grid": 5}, fields, "sampler", "it")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("steps", 0, "kernel.steps=0: an integer of at least 1 is needed"),
        ("steps", "abc", "kernel.steps=abc: an integer of at least 1 is needed"),
        ("share", 1.0, "kernel.share=1.0: a number of at least 0 and below 1 or null is needed"),
        ("share", math.inf, "kernel.share=inf: a number"),
        (
            "sizes",
            [],
            "kernel.sizes=[]: a list of at least 1, each an integer of at least 1, is needed",
        ),
        ("sizes", [0], "kernel.sizes=[0]: a list"),
        ("stepz", 1, "kernel.stepz: it takes no such option. Did you mean 'steps'?"),
    ],
)
def test_ranges_are_declared_with_the_types(key, value, says):
    fields = options.of_class(Ranged)
    options.check({"steps": 1, "share": 0.5, "sizes": [4]}, fields, "kernel", "it")
    with pytest.raises(UsageError) as error:
        options.check({key: value}, fields, "kernel", "it")
    assert says in str(error.value)
