"""What a section may hold is what the constructor of its class declares."""

import dataclasses
import importlib
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
import yaml

from gencli import interfaces
from gencli.config import schema
from gencli.config.locate import config_dir
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.data.base import Dataset
from gencli.data.preprocess import Preprocess
from gencli.kernels.base import Kernel
from gencli.models.base import Model, TrainedRun
from gencli.models.flows.maps import Map
from gencli.nn.base import Network
from gencli.objectives.base import Objective

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
    assert options.of_class(Longer) == options.Options(
        {"a": int, "b": options.Positive, "c": str}, frozenset({"a"}), True
    )
    handed_on = options.of_class(Written)
    assert {*handed_on.hints} == {"a", "b", "c", "d"}
    assert (handed_on.needed, handed_on.closed) == (frozenset(), True)
    assert options.of_class(Closed) == options.Options({"e": int}, frozenset({"e"}), True)


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


def sections():
    """(file, key, section) of every section with a class in our configs."""

    def walk(node, key):
        if isinstance(node, dict):
            if isinstance(node.get("_target_"), str):
                yield key, node
            for name, value in node.items():
                yield from walk(value, f"{key}.{name}")

    for file in sorted(config_dir().glob("*/*.yaml")):
        for key, node in walk(yaml.safe_load(file.read_text()), file.parent.name):
            yield pytest.param(node, id=f"{file.parent.name}/{file.stem}:{key}")


KNOWN = (int, float, bool, str, type(None), Any, Map)  # no config can name a Map: parents get it from their children
GIVEN = {Network: 3, Model: 1, Objective: 1}


def understood(hint):
    """Whether ``fits`` says something of a type."""
    if typing.get_origin(hint) is Annotated:
        return understood(typing.get_args(hint)[0])
    inner = [kind for kind in typing.get_args(hint) if kind is not ...]
    if hint in (*KNOWN, Kernel, TrainedRun) or typing.get_origin(hint) in (Callable, Literal):
        return True
    return bool(inner) and all(map(understood, inner))


@pytest.mark.parametrize("node", sections())
def test_every_value_of_our_configs_is_of_a_declared_type(node):
    module, _, name = node["_target_"].rpartition(".")
    owner = getattr(importlib.import_module(module), name)
    given = next((number for kind, number in GIVEN.items() if issubclass(owner, kind)), 0)
    fields = options.of_class(owner, given, vars(interfaces))
    assert fields.closed
    assert Any not in fields.hints.values()  # which is also what a type that cannot be resolved becomes
    assert all(map(understood, fields.hints.values())), fields.hints
    hints = {**(options.of_class(Preprocess).hints if issubclass(owner, Dataset) else {}), **fields.hints}
    for key, value in node.items():
        section = isinstance(value, dict) and "_target_" in value
        if key not in ("_target_", "defaults") and value != "???" and not section:
            assert key in hints
            run = TrainedRun in typing.get_args(hints[key]) and isinstance(value, str)  # the builder makes it one
            assert run or options.fits(value, hints[key]), key


def test_sections_of_a_run_are_completed_by_the_defaults():
    trainer = schema.typed("trainer", {"max_steps": 7, "clip_norm": 1})
    assert (trainer["max_steps"], trainer["clip_norm"], trainer["precision"]) == (7, 1.0, "auto")
    assert isinstance(trainer["clip_norm"], float)
    assert schema.typed("optimizer", {"name": "sgd", "lr": 1})["schedule"] == "cosine"
    for section, says in [({}, "optimizer.name=None: one of adamw"), ({"name": "sgd"}, "optimizer.lr is missing")]:
        with pytest.raises(UsageError, match=says):
            schema.typed("optimizer", section)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranged:
    steps: options.Count = 3
    share: options.BelowOne | None = None
    sizes: Annotated[list[options.Count], options.Range(low=1)] = dataclasses.field(default_factory=lambda: [1])


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
            "kernel.sizes=[]: a list, of each entry an integer of at least 1, of at least 1 of them",
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
