"""Every option of every group: what its class declares, what its YAML says, and that nothing else gets in.

The values that must be refused are made from the declarations, so an option that is declared is tested.
"""

import enum
import importlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import pytest

from gencli import interfaces
from gencli.cli.main import main
from gencli.config import schema
from gencli.config import sections as own
from gencli.config.locate import config_dir
from gencli.config.plain import read_yaml
from gencli.config.sections import PREPROCESSING
from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.options import Range
from gencli.data.base import Dataset
from gencli.data.preprocess import Preprocess
from gencli.data.task import Task
from gencli.kernels.base import Kernel
from gencli.loggers.base import Logger
from gencli.models.base import Model
from gencli.models.flows.maps import Map
from gencli.models.trained import TrainedRun
from gencli.nn.base import Network
from gencli.objectives.base import Drift, Objective
from gencli.run.build import Builder

GIVEN = {Network: 3, Model: 1, Objective: 1, Logger: 2}
"""Arguments that the owner of a part gives by position."""
PLACES = {"root", "download"}
"""Options of data that stand in train.yaml, or nowhere."""
DIFFERS = {
    # a model that is another one's class with other values
    "kernel/mala": {"leaps", "jitter", "target"},
    "model/ddpm": {"timesteps"},
    "model/glow": {"marginal"},
    "model/iaf": {"inverse"},
    "model/nsf_coupling": {"couplings", "steps"},
    "model/realnvp": {"marginal", "steps"},
    "objective/hinge": {"spectral_norm"},
    "sampler/gibbs_with_gradients": {"steps", "warmup"},  # a step changes one coordinate
    "sampler/tie_no_tie": {"steps", "warmup"},  # a step is a hundred proposals
    "sampler/mala": {"leaps", "steps", "target", "jitter"},
    # null has a meaning of its own in these
    "estimator/ais": {"base", "base.widen"},
    "estimator/bridge": {"base", "base.widen"},
    "estimator/importance": {"proposal", "proposal.kind", "proposal.widen"},
    "estimator/smc": {"base", "base.widen"},
    "model/vae": {"energy", "flow"},
    # null is what runs of before were trained with
    "model/ebm": {"bound"},
    "model/joint_ebm": {"bound"},
    # the parts of a network that stand in one section, each with a size of its own
    "net/auto": {"image.blocks", "image.width", "tiny.dropout", "tiny.hidden"},
    "net/energy": {"vector.hidden"},
    "net/pyramid": {"vector.activation"},
}
"""Values of a YAML that are not the default of the class."""


def no_run(path, trust):
    raise AssertionError("nothing is opened before the options have been checked")


BUILDER = Builder((), no_run)


class Section(typing.NamedTuple):
    """A section of our configs that names a class."""

    file: str
    key: str
    node: dict
    owner: type
    given: int

    @property
    def declared(self):
        return options.of_class(self.owner, self.given, vars(interfaces))

    def check(self, changes):
        kind = next((kind for kind in GIVEN if issubclass(self.owner, kind)), object)
        BUILDER.factory({**self.node, **changes}, kind, given=self.given, group=self.key)


def sections():
    """Every section with a class in our configs."""

    def walk(node, file, key):
        if not isinstance(node, dict):
            return
        if isinstance(node.get("_target_"), str):
            module, _, name = node["_target_"].rpartition(".")
            owner = getattr(importlib.import_module(module), name)
            given = next((number for kind, number in GIVEN.items() if issubclass(owner, kind)), 0)
            own = {k: v for k, v in node.items() if k != "defaults"}
            if issubclass(owner, Dataset):
                own = {k: v for k, v in own.items() if k not in PREPROCESSING}
            yield Section(file, key, own, owner, given)
        for name, value in node.items():
            yield from walk(value, file, f"{key}.{name}")

    for path in sorted(config_dir().glob("*/*.yaml")):
        file = f"{path.parent.name}/{path.stem}"
        yield from walk(read_yaml(path), file, path.parent.name)


SECTIONS = list(sections())
BY_CLASS = {section.owner: section for section in SECTIONS}
in_all = pytest.mark.parametrize("section", SECTIONS, ids=lambda s: f"{s.file}:{s.key}")


# --- what the YAMLs say ----------------------------------------------------------------------------------------------


def understood(hint):
    """Whether ``fits`` says something of a type."""
    inner = [kind for kind in typing.get_args(hint) if kind is not ...]
    known = (
        int,
        float,
        bool,
        str,
        type(None),
        Any,
        Map,
        TrainedRun,
        Kernel,
        Task,
        Drift,
    )  # no config can name a Map: a child gives it
    if hint in known or typing.get_origin(hint) in (Callable, Literal):
        return True
    if typing.get_origin(hint) is Annotated:
        return understood(inner[0])
    return bool(inner) and all(map(understood, inner))


@in_all
def test_every_option_is_declared(section):
    declared = section.declared
    assert declared.closed
    assert Any not in declared.hints.values()  # which is also what a type that cannot be resolved becomes
    assert all(map(understood, declared.hints.values())), declared.hints


@in_all
def test_a_yaml_has_the_options_of_its_class(section):
    file = read_yaml(config_dir() / f"{section.file}.yaml")
    chosen = {f"{key}" for entry in file.get("defaults", ()) for key in entry if isinstance(entry, dict)}
    elsewhere = {key.partition("@")[2] for key in chosen if key.startswith("/")}  # such as /net@net
    declared = {name for name, hint in section.declared.hints.items() if hint is not Map}
    assert set(section.node) - {"_target_"} - elsewhere == declared - PLACES - elsewhere
    built = {key for key, value in section.node.items() if isinstance(value, dict) and "_target_" in value}
    values = {key: value for key, value in section.node.items() if key not in built | {"_target_"}}
    options.check(values, section.declared, section.key, "it")


def differing(node, declared):
    """Options whose value is not the default of the class, those of a mapping one by one."""
    for key, value in node.items():
        if key == "_target_" or key not in declared.defaults:
            continue
        if key in declared.nested and value:
            inner = declared.nested[key]
            own = options.of_class(inner.owner, inner.given)
            yield from (f"{key}.{name}" for name in differing(value, own))
        elif plain(value) != plain(declared.defaults[key]):
            yield key


def plain(value):
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_a_value_that_is_not_the_default_of_its_class_is_listed():
    found = {}
    for section in SECTIONS:
        prefix = ".".join(section.key.split(".")[1:])
        prefix = "" if section.file.startswith("metric/") or not prefix else f"{prefix}."
        names = {f"{prefix}{name}" for name in differing(section.node, section.declared)}
        if names:
            found.setdefault(section.file, set()).update(names)
    assert found == DIFFERS


# --- what is refused -------------------------------------------------------------------------------------------------

POOL = ["abc", "", 0.5, -1.5, 7, -1, 10**30, True, [], ["x"], [{}], [[]], {}, {"a": 1}, math.inf, math.nan, None]


def outside(ranges):
    """Numbers just beyond ranges."""
    for r in ranges:
        yield from (end for end in (r.above, r.below) if end is not None)
        yield from (r.low - 1 for _ in [0] if r.low is not None)
        yield from (r.high + 1 for _ in [0] if r.high is not None)


def legal(value, hint):
    """What a declaration means, said a second time."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    number = type(value) in (int, float)
    if origin is Annotated:
        size = len(value) if isinstance(value, list) else value
        ranges = [r for r in inner[1:] if isinstance(r, Range)] if number or isinstance(value, list) else []
        return (
            legal(value, inner[0])
            and all(math.isfinite(size) and size not in outside([r]) for r in ranges)
            and (
                all(size >= (r.low if r.low is not None else size) for r in ranges)
                and all(size <= (r.high if r.high is not None else size) for r in ranges)
                and all(size > r.above for r in ranges if r.above is not None)
                and all(size < r.below for r in ranges if r.below is not None)
            )
        )
    if origin in (Union, types.UnionType):
        return any(legal(value, kind) for kind in inner)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list) and all(legal(item, inner[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict)
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return value in list(hint.__members__)
    if hint is int:
        return type(value) is int and abs(value) < 2**64
    if hint is float:
        return number and not math.isnan(value) and (type(value) is float or abs(value) < 2**64)
    return type(value) is hint if hint in (bool, str, type(None)) else False


def wrong(hint):
    """Values that a declaration does not admit."""

    def ranges(kind):
        yield from (extra for extra in getattr(kind, "__metadata__", ()) if isinstance(extra, Range))
        for inner in typing.get_args(kind):
            yield from ranges(inner)

    ends = [value for end in outside(ranges(hint)) for value in (end, [end])]
    return [value for value in [*POOL, *ends] if not legal(value, hint) and not lone(value, hint)]


def lone(value, hint):
    """Whether a value stands for a list of one."""
    return isinstance(value, str | int | float) and not legal(value, hint) and legal([value], hint)


def refused(check, key):
    """A value is refused in one short line that names the full key and says what is needed."""
    with pytest.raises(UsageError) as error:
        check()
    text = str(error.value)
    assert text.startswith(f"{key}="), text
    assert " is needed" in text
    assert "\n" not in text
    assert len(text) < 600


@pytest.mark.parametrize("section", BY_CLASS.values(), ids=lambda s: s.owner.__name__)
def test_wrong_values_are_refused(section):
    for name, hint in section.declared.hints.items():
        run = hint is TrainedRun or TrainedRun in typing.get_args(hint)
        for value in wrong(hint):
            if not (run and isinstance(value, str)):  # a path, which the opener follows
                refused(lambda: section.check({name: value}), f"{section.key}.{name}")  # noqa: B023
        if name in section.declared.nested:
            inner = section.declared.nested[name]
            for key, kind in options.of_class(inner.owner, inner.given).hints.items():
                for value in wrong(kind):
                    refused(lambda: section.check({name: {key: value}}), f"{section.key}.{name}.{key}")  # noqa: B023


def test_a_lone_value_where_a_list_is_declared_is_a_list_of_one():
    """No text is split into letters, whoever declares the list."""
    found = set()
    for section in BY_CLASS.values():
        for name, hint in section.declared.hints.items():
            for value in [value for value in POOL if lone(value, hint)]:
                checked = options.check({name: value}, section.declared, "", "")
                assert checked == {name: [value]}
                found.add(f"{section.file}:{name}")
    assert found >= {"data/csv:context", "model/made:hidden"}


def test_wrong_values_are_found_for_every_option_but_free_ones():
    found = {repr(value) for value in wrong(options.Count)}
    assert found >= {"'abc'", "''", "0", "-1", "0.5", "True", "inf", "nan", "None", "[]", "{}", repr(10**30)}
    assert found.isdisjoint({"7", "1"})
    assert [0] in wrong(Sequence[options.Count])
    assert {value for value in wrong(options.BelowOne) if type(value) is int} == {7, -1, 10**30, 1}
    for section in BY_CLASS.values():
        assert all(wrong(hint) for hint in section.declared.hints.values())


def test_wrong_ways_into_model_space_are_refused():
    hints = options.of_class(Preprocess).hints
    for name in PREPROCESSING:
        for value in wrong(hints[name]):
            check = lambda: options.check({name: value}, options.of_class(Preprocess), "data", "")  # noqa: B023, E731
            refused(check, f"data.{name}")


TYPED = [(group, option) for group in ("trainer", "optimizer") for option in (config_dir() / group).glob("*.yaml")]


@pytest.mark.parametrize(("group", "path"), TYPED, ids=lambda p: getattr(p, "stem", p))
def test_wrong_values_of_typed_sections_are_refused(group, path):
    section = read_yaml(path)
    section = own.plain(group, {key: value for key, value in section.items() if key != "defaults"})
    kind = own.TrainerOptions if group == "trainer" else own.optimizer_kind(section["name"])
    own.check_values({group: section})
    for name, hint in options.of_class(kind).hints.items():
        for value in wrong(hint):
            if name != "name":  # which says what the others are
                refused(lambda: own.check_values({group: {**section, name: value}}), f"{group}.{name}")  # noqa: B023


@pytest.mark.parametrize("verb", [schema.Train, schema.Resume, schema.Sample, schema.Eval])
def test_wrong_values_of_a_command_are_refused(verb):
    for name, hint in options.of_class(verb).hints.items():
        if hint is not Any and name != "trainer":
            for value in wrong(hint):
                refused(lambda: schema.check_values({name: value}, verb), name)  # noqa: B023


# --- through the command line ----------------------------------------------------------------------------------------

COMMANDS = [
    ("model=ebm sampler.steps=abc", "sampler.steps=abc: an integer"),
    ("model=vae estimator.k=-1", "estimator.k=-1: "),
    ("data=digits data.alpha=x", "data.alpha=x: a number above 0 and below 0.5 is needed"),
    ("data.which=moon", "Did you mean 'moons'"),
    ("data=digits data.transform=lgit", "Did you mean 'logit'"),
    (
        "model.net.vector.hidden=[0]",
        "model.net.vector.hidden=[0]: a list, each an integer of at least 1, or auto is needed",
    ),
    ("model.net.image.width=[]", "model.net.image.width=[]: an integer of at least 1 is needed"),
    ("+model.net.vector.depth=3", "model.net.vector.depth: MLP takes no such option"),
    ("model.couplings=1e30", "model.couplings=1e+30: an integer of at least 1 is needed"),
    ("model.couplings=-3", "model.couplings=-3: an integer of at least 1 is needed"),
    ("model.bound=.nan", "model.bound="),
    ("model=diffusion model.path.beta_max=inf", "model.path.beta_max=inf: a number above 0 is needed"),
    ("trainer.workers=1e30", "trainer.workers=1e30: "),
    ("trainer.workers=-1", "trainer.workers=-1: an integer from 0 to 1024 is needed"),
    ("trainer.cuda_graph=2", "trainer.cuda_graph=2: true or false is needed"),
    ("trainer.compile=2", "trainer.compile=2: true or false or auto is needed"),
    ("seed=100000000000000000000", "seed=100000000000000000000: an integer is needed"),
    ("n=-1", "n=-1: an integer of at least 0 is needed"),
    ("device=[cpu]", "device=[cpu]: "),
    ("device=abc", "device=abc is not to be had here"),
    ("model=cnf objective.max_nfe=inf", "objective.max_nfe=inf: an integer"),
    ("+sampler=[1]", "sampler"),
    ("metrics=[{}]", "metric"),
    ("sampler.classes={a:1}", "sampler.classes={'a': 1}: a list"),
    (f"sampler.classes={[*range(300)]}".replace(" ", ""), "sampler.classes=[0, 1, 2, 3, 4"),
    ("data.vall=3", "data.vall: there is no such key"),
]


@pytest.mark.parametrize(("command", "says"), COMMANDS, ids=lambda text: text[:40])
def test_a_wrong_command_ends_in_one_line(command, says, capsys, tmp_path):
    assert main(["train", "data=moons", "logger=none", *command.split(), f"run_dir={tmp_path}/run"]) == 2
    text = capsys.readouterr().err.strip()
    assert says in text
    assert len(text.splitlines()) == 1
    assert len(text) < 400
    assert not (tmp_path / "run").exists()
