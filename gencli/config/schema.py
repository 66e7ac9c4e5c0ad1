"""Types of the configs' fixed keys as Hydra is given them; their values stand in the YAML files.

The types are stored under groups ``schema/...``, where a glob over a group's options does not see them.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING, OmegaConf

from gencli.config import sections
from gencli.core import options
from gencli.core.options import Count, Natural, Positive


class Weights(Enum):
    """Averaged weights or the last ones."""

    ema = "ema"
    raw = "raw"


def _for_hydra(kind: type) -> type:
    """A section's type in the words that OmegaConf knows: without ranges, choices as an Enum, no default as ???."""
    entries: list[tuple[str, Any, Any]] = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        default: Any = field(default=entry.default)
        if entry.default_factory is not dataclasses.MISSING:
            default = field(default_factory=entry.default_factory)
        elif entry.default is dataclasses.MISSING:
            default = field(default=MISSING)
        entries.append((entry.name, _plain_type(hints[entry.name], entry.name), default))
    return dataclasses.make_dataclass(kind.__name__, entries)


def _plain_type(hint: Any, name: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _plain_type(inner[0], name)
    if origin is typing.Literal:
        # by name alone: OmegaConf takes a value for its member too, and of a plain list 2 would be the second
        return Enum(name, {choice: choice for choice in inner})
    if origin in (typing.Union, types.UnionType):
        # OmegaConf knows no choices within a union; ``sections`` refuses other words
        kinds = [str if typing.get_origin(each) is typing.Literal else _plain_type(each, name) for each in inner]
        return typing.Union[tuple([*kinds, int] if {float, str} <= {*kinds} else kinds)]  # noqa: UP007 (made of a tuple)
    if hint is bool:
        return typing.Union[bool, str]  # noqa: UP007 (alone OmegaConf makes one of any number); ``sections`` refuses words
    if origin is list:
        return list[_plain_type(inner[0], name)]  # type: ignore[misc]
    return hint


TrainerKeys = _for_hydra(sections.TrainerOptions)
StyleKeys = _for_hydra(sections.StyleOptions)


@dataclass
class Common:
    """Keys of every verb, and the groups."""

    seed: int = MISSING
    device: str = MISSING
    threads: int | str = "auto"
    trust: list[str] = field(default_factory=list)
    model: Any = None
    data: Any = None


@dataclass
class Train(Common):
    """Keys of ``gencli train``."""

    run_dir: str | None = None
    resume: str | None = None
    init_from: str | None = None
    n: Natural = MISSING
    objective: Any = None
    sampler: Any = None
    estimator: Any = None
    optimizer: Any = None
    logger: Any = None
    trainer: Any = field(default_factory=TrainerKeys)


@dataclass
class Resume(Train):
    """Keys of ``gencli train resume=RUN``; None: the run's own."""

    seed: int | None = None  # type: ignore[assignment]
    device: str | None = None  # type: ignore[assignment]
    n: Natural | None = None  # type: ignore[assignment]
    checkpoint: str = MISSING
    trainer: Any = None


@dataclass
class InitFrom(Train):
    """Keys of ``gencli train init_from=RUN``: sections are the run's own until the command says otherwise."""

    weights: Weights | None = None
    checkpoint: str = MISSING
    trainer: Any = None


@dataclass
class Sample(Common):
    """Keys of ``gencli sample``."""

    run: str = MISSING
    n: Natural | None = None
    weights: Weights | None = None
    checkpoint: str = MISSING
    batch_size: Count | None = None
    context: str | None = None
    name: str | None = None
    format: Any = None
    style: Any = field(default_factory=StyleKeys)
    sampler: Any = None
    picture: Any = None


@dataclass
class Eval(Common):
    """Keys of ``gencli eval``."""

    run: str = MISSING
    split: str = MISSING
    weights: Weights | None = None
    checkpoint: str = MISSING
    batch_size: Count | None = None
    examples: Count | None = None
    minutes: Positive | None = None
    scores: str | None = None
    estimator: Any = None
    sampler: Any = None
    metrics: Any = None
    n: Natural | None = None


_SETTINGS = {
    "job": {"name": "gencli", "chdir": False},
    "run": {"dir": "."},  # gencli makes its own folders, after every check has passed
    "output_subdir": None,
    "sweep": {"dir": "outputs/sweeps/${now:%Y-%m-%d_%H-%M-%S}", "subdir": "${hydra.job.num}"},
}


OF_RUN = {
    "resume": ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger"),
    "init_from": ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger"),
    "sample": ("model", "data", "sampler"),
    "eval": ("model", "data", "estimator", "sampler"),
}
"""Sections that a command takes from its run. Hydra sees them empty and open: what it collects there are the changes
that the command line asks for, and ``compose`` makes them in the run's own section."""


@functools.cache
def register() -> None:
    """Store the types in Hydra's ConfigStore, once."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance().store
    for name, groups in OF_RUN.items():
        node = {group: OmegaConf.create({}, flags={"struct": False}) for group in groups}
        store(group="schema/of_run", name=name, node=node)
    for name, kind in {"train": Train, "resume": Resume, "init_from": InitFrom, "sample": Sample, "eval": Eval}.items():
        store(group="schema/verb", name=name, node=kind)
    store(group="schema/optimizer", name="adam", node=_for_hydra(sections.AdamOptions))
    store(group="schema/optimizer", name="momentum", node=_for_hydra(sections.MomentumOptions))
    store(group="schema/settings", name="gencli", node=_SETTINGS)


def check_values(config: Mapping[str, Any], verb: type) -> None:
    """Refuse values beside the sections that a command cannot have.

    Args:
        config: plain data.
        verb: the type of its keys.

    Raises:
        UsageError: names the key and what it may be.
    """
    declared = options.of_dataclass(verb)
    own = {key: value for key, value in config.items() if key in declared.hints and key not in ("trainer", "style")}
    options.check(own, declared, "", "this command")
