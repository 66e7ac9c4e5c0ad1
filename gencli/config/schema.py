"""Types of the configs' fixed keys, so that a wrong value is refused in one line; their values stand in the YAML files.

The types are stored under groups ``schema/...``, where a glob over a group's options does not see them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING, OmegaConf

from gencli.core import options
from gencli.core.errors import UsageError


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

    max_steps: int | None = 3000
    max_minutes: float | None = None
    batch_size: int = 128
    accumulate: int = 1
    eval_every: int = 200
    log_every: int = 50
    sample_every: int | None = None
    precision: Precision = Precision.auto
    compile: bool = False
    ema_decay: float = 0.998
    clip_norm: float | None = 1.0
    patience: int | None = None
    workers: int = 2
    eval_batch_size: int = 500
    eval_examples: int | None = None


@dataclass
class Optimizer:
    """Keys of every optimizer."""

    name: OptimizerName = MISSING  # type: ignore[valid-type]  # an Enum made by a call
    lr: float = MISSING
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.cosine
    warmup_steps: int = 0
    final_lr_fraction: float = 0.0


@dataclass
class Adam(Optimizer):
    """The Adam family."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])


@dataclass
class Momentum(Optimizer):
    """sgd and rmsprop."""

    momentum: float = 0.0


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
    n: int = MISSING
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
    n: int | None = None  # type: ignore[assignment]
    checkpoint: str = MISSING
    trainer: Any = None


@dataclass
class Sample(Common):
    """Keys of ``gencli sample``."""

    run: str = MISSING
    n: int = MISSING
    weights: Weights | None = None
    checkpoint: str = MISSING
    batch_size: int | None = None
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
    batch_size: int | None = None
    examples: int | None = None
    estimator: Any = None
    sampler: Any = None
    metrics: Any = None
    n: int | None = None


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
    fields = options.of_dataclass(kind)
    options.check(section, fields, group, f"{group} of a run")
    complete: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):
        value = section.get(entry.name, _default(entry))
        if value is MISSING:
            raise UsageError(f"{group}.{entry.name} is missing")
        number = isinstance(value, int) and not isinstance(value, bool)
        floats = number and fields.hints[entry.name] in (float, float | None)
        complete[entry.name] = float(value) if floats else value
    return complete


def _default(entry: dataclasses.Field) -> Any:
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return entry.default.name if isinstance(entry.default, Enum) else entry.default


_AT_LEAST = {
    ("n",): 0,
    ("batch_size",): 1,
    ("examples",): 1,
    ("trainer", "max_steps"): 1,
    ("trainer", "batch_size"): 1,
    ("trainer", "accumulate"): 1,
    ("trainer", "eval_every"): 1,
    ("trainer", "log_every"): 1,
    ("trainer", "sample_every"): 1,
    ("trainer", "patience"): 1,
    ("trainer", "workers"): 0,
    ("trainer", "eval_batch_size"): 1,
    ("trainer", "eval_examples"): 1,
    ("trainer", "ema_decay"): 0,
    ("trainer", "clip_norm"): 0,
    ("optimizer", "lr"): 0,
    ("optimizer", "weight_decay"): 0,
    ("optimizer", "warmup_steps"): 0,
    ("optimizer", "final_lr_fraction"): 0,
}


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values of the right type that make no sense.

    Raises:
        UsageError: names the key and what it may be.
    """
    for path, least in _AT_LEAST.items():
        value: Any = config
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and not value >= least:
            raise UsageError(f"{'.'.join(path)}={value}: at least {least}")

    trainer, optimizer = config.get("trainer"), config.get("optimizer")
    if isinstance(trainer, Mapping):
        if trainer["max_steps"] is None and trainer["max_minutes"] is None:
            raise UsageError("training has no end: set trainer.max_steps or trainer.max_minutes")
        if trainer["max_minutes"] is not None and trainer["max_minutes"] <= 0:
            raise UsageError(f"trainer.max_minutes={trainer['max_minutes']}: more than 0")
        if trainer["ema_decay"] >= 1:
            raise UsageError(f"trainer.ema_decay={trainer['ema_decay']}: below 1")
        if trainer["batch_size"] % trainer["accumulate"]:
            raise UsageError(
                f"trainer.batch_size={trainer['batch_size']} does not divide into "
                f"trainer.accumulate={trainer['accumulate']} micro-batches"
            )
    if isinstance(optimizer, Mapping) and optimizer.get("name") not in OptimizerName.__members__:
        raise UsageError(f"optimizer.name={optimizer.get('name')}: one of {', '.join(OptimizerName.__members__)}")
    betas = optimizer.get("betas") if isinstance(optimizer, Mapping) else None
    if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise UsageError(f"optimizer.betas={betas}: two numbers from 0 to below 1")
    if isinstance(optimizer, Mapping) and ("betas" in optimizer) != (optimizer_type(optimizer["name"]) is Adam):
        raise UsageError(
            f"optimizer.name={optimizer['name']}: these are not its options; choose the group's option instead"
        )
