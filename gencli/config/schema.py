"""Types of the configs' fixed keys, so that a wrong value is refused in one line; their values stand in the YAML files.

The types are stored under groups ``schema/...``, where a glob over a group's options does not see them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, get_type_hints

from omegaconf import MISSING, OmegaConf

from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.options import BelowOne, Count, Natural, NonNegative, Positive, Range


class Precision(Enum):
    """Number format of the networks; auto: bf16 where the device has it, else fp32."""

    auto = 0
    fp32 = 1
    bf16 = 2
    fp16 = 3


class Schedule(Enum):
    """Learning rate after the warm-up."""

    constant = 0
    cosine = 1


class Weights(Enum):
    """Averaged weights or the last ones."""

    ema = 0
    raw = 1


OptimizerName = Enum("OptimizerName", ["adamw", "adam", "adamax", "sgd", "rmsprop"])
"""Classes of torch.optim, in lower case."""


@dataclass
class Trainer:
    """Keys of the group ``trainer``; the defaults let a run of an older version resume, default.yaml says the same."""

    max_steps: Count | None = 3000
    max_minutes: Positive | None = None
    batch_size: Count = 128
    accumulate: Count = 1
    eval_every: Count = 200
    log_every: Count = 50
    sample_every: Count | None = None
    precision: Precision = Precision.auto
    compile: bool = False
    ema_decay: BelowOne = 0.998
    clip_norm: NonNegative | None = 1.0
    patience: Count | None = None
    workers: Annotated[int, Range(low=0, high=1024)] = 2
    eval_batch_size: Count = 500
    eval_examples: Count | None = None


@dataclass
class Optimizer:
    """Keys of every optimizer."""

    name: OptimizerName = MISSING  # type: ignore[valid-type]  # an Enum made by a call
    lr: NonNegative = MISSING
    weight_decay: NonNegative = 0.0
    schedule: Schedule = Schedule.cosine
    warmup_steps: Natural = 0
    final_lr_fraction: NonNegative = 0.0


@dataclass
class Adam(Optimizer):
    """The Adam family."""

    betas: Annotated[list[BelowOne], Range(low=2, high=2)] = field(default_factory=lambda: [0.9, 0.999])


@dataclass
class Momentum(Optimizer):
    """sgd and rmsprop."""

    momentum: NonNegative = 0.0


@dataclass
class Logger:
    """Keys of the group ``logger``."""

    tensorboard: bool = True


@dataclass
class Common:
    """Keys of every verb, and the groups."""

    seed: int = MISSING
    device: str = MISSING
    trust: list[str] = field(default_factory=list)
    model: Any = None
    data: Any = None


@dataclass
class Train(Common):
    """Keys of ``gencli train``."""

    run_dir: str | None = None
    resume: str | None = None
    n: Natural = MISSING
    objective: Any = None
    sampler: Any = None
    estimator: Any = None
    optimizer: Any = None
    logger: Any = None
    trainer: Trainer = field(default_factory=Trainer)


@dataclass
class Resume(Train):
    """Keys of ``gencli train resume=RUN``; None: the run's own."""

    seed: int | None = None  # type: ignore[assignment]
    device: str | None = None  # type: ignore[assignment]
    n: Natural | None = None  # type: ignore[assignment]
    checkpoint: str = MISSING
    trainer: Any = None


@dataclass
class Sample(Common):
    """Keys of ``gencli sample``."""

    run: str = MISSING
    n: Natural = MISSING
    weights: Weights | None = None
    checkpoint: str = MISSING
    batch_size: Count | None = None
    name: str | None = None
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
    "sample": ("model", "data", "sampler"),
    "eval": ("model", "data", "estimator", "sampler"),
}
"""Sections that a command takes from its run. Hydra sees them empty and open: what it collects there are the changes
that the command line asks for, and ``compose`` makes them in the run's own section."""


def register() -> None:
    """Store the types in Hydra's ConfigStore."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance().store
    for name, groups in OF_RUN.items():
        node = {group: OmegaConf.create({}, flags={"struct": False}) for group in groups}
        store(group="schema/of_run", name=name, node=node)
    for name, kind in {"train": Train, "resume": Resume, "sample": Sample, "eval": Eval}.items():
        store(group="schema/verb", name=name, node=kind)
    store(group="schema/optimizer", name="adam", node=Adam)
    store(group="schema/optimizer", name="momentum", node=Momentum)
    store(group="schema/settings", name="gencli", node=_SETTINGS)


def optimizer_type(name: object) -> type[Optimizer] | None:
    """The type of a run's optimizer section; None where its name is none of ours."""
    if name in ("sgd", "rmsprop"):
        return Momentum
    return Adam if isinstance(name, str) and name in OptimizerName.__members__ else None


def typed(group: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``trainer``, ``optimizer`` or ``logger`` of a run, complete: what it does not say is the default.

    Raises:
        UsageError: names the key that is not there, or whose value is of the wrong type.
    """
    kind: type | None = {"trainer": Trainer, "logger": Logger}.get(group)
    if group == "optimizer":
        kind = optimizer_type(section.get("name"))
        if kind is None:
            raise UsageError(f"optimizer.name={section.get('name')}: one of {', '.join(OptimizerName.__members__)}")
    assert kind is not None
    options.check(section, options.of_dataclass(kind), group, f"{group} of a run")
    types = get_type_hints(kind)
    complete: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):
        value = section.get(entry.name, _default(entry))
        if value is MISSING:
            raise UsageError(f"{group}.{entry.name} is missing")
        whole = isinstance(value, int) and types[entry.name] in (float, float | None)
        complete[entry.name] = float(value) if whole else value
    return complete


def _default(entry: dataclasses.Field) -> Any:
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return entry.default.name if isinstance(entry.default, Enum) else entry.default


def check_values(config: Mapping[str, Any], verb: type = Train) -> None:
    """Refuse values that the types above do not hold, and those that do not go together.

    Args:
        config: plain data, as a command or a run has it.
        verb: the type of its keys.

    Raises:
        UsageError: names the key and what it may be.
    """
    top = options.of_dataclass(verb)
    own = {key: value for key, value in config.items() if key in top.hints and key != "trainer"}
    options.check(own, top, "", "this command")

    trainer, optimizer = config.get("trainer"), config.get("optimizer")
    if isinstance(trainer, Mapping):
        options.check(trainer, options.of_dataclass(Trainer), "trainer", "the trainer")
        if trainer["max_steps"] is None and trainer["max_minutes"] is None:
            raise UsageError("training has no end: set trainer.max_steps or trainer.max_minutes")
        if trainer["batch_size"] % trainer["accumulate"]:
            raise UsageError(
                f"trainer.batch_size={trainer['batch_size']} does not divide into "
                f"trainer.accumulate={trainer['accumulate']} micro-batches"
            )
    if isinstance(optimizer, Mapping):
        kind = optimizer_type(name := optimizer.get("name"))
        if kind is None:
            raise UsageError(f"optimizer.name={name}: one of {', '.join(OptimizerName.__members__)}")
        if ("betas" in optimizer) != (kind is Adam):
            raise UsageError(f"optimizer.name={name}: these are not its options; choose the group's option instead")
        options.check(optimizer, options.of_dataclass(kind), "optimizer", str(name))
