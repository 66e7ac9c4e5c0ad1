"""The sections of a config that name no class: their keys, types, ranges and defaults, each said once.

``schema`` gives them to Hydra, ``stored`` checks those of a run by them, ``training`` reads them. The YAML files of the
groups repeat the defaults, which let a run of an older version resume.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from gencli.core import options
from gencli.core.errors import UsageError, quoted
from gencli.core.options import Auto, BelowOne, Count, Natural, NonNegative, Positive, Range, Seed

LEAST_SECONDS = 30.0
"""That validation and the final measurement may take each, however short training is."""

OPTIMIZERS = ("adamw", "adam", "adamax", "sgd", "rmsprop")
"""Classes of torch.optim, in lower case."""


@dataclass
class TrainerOptions:
    """Keys of the group ``trainer``.

    Training stops at whichever of ``max_steps``, ``max_minutes`` and ``max_epochs`` comes first. ``max_steps: auto`` is
    no bound where another is given, else ``auto_steps``. ``eval_examples: auto`` is as many as ``eval_minutes`` allows;
    ``eval_minutes: auto`` is as long as training took, and no bound where ``eval_examples`` is given.
    ``compile: auto`` times the first steps and compiles where the run is long enough for that to pay. It is no default,
    since of two equal commands it may choose otherwise, and their numbers round otherwise then.

    Raises:
        ValueError: training has no end, or a batch does not divide into micro-batches.
    """

    max_steps: Auto[Count] | None = "auto"
    auto_steps: Count = 3000
    max_minutes: Positive | None = None
    max_epochs: Annotated[float, Range(above=0, high=1e6)] | None = None
    batch_size: Auto[Count] = "auto"
    accumulate: Count = 1
    eval_every: Count = 200
    log_every: Count = 50
    sample_every: Count | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Auto[bool] = False
    cuda_graph: bool = True
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    ema_decay: BelowOne = 0.998
    clip_norm: NonNegative | None = 1.0
    patience: Count | None = None
    workers: Annotated[int, Range(low=0, high=1024)] = 2
    eval_batch_size: Count = 500
    eval_examples: Auto[Count] | None = "auto"
    eval_minutes: Auto[Positive] | None = "auto"

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_minutes is None and self.max_epochs is None:
            raise ValueError("training has no end: set trainer.max_steps or trainer.max_minutes")
        if self.batch_size != "auto" and self.batch_size % self.accumulate:
            raise ValueError(
                f"trainer.batch_size={self.batch_size} does not divide into "
                f"trainer.accumulate={self.accumulate} micro-batches"
            )

    @property
    def rows(self) -> int:
        """The batch size, once the data and the device have settled it (``training.batches``)."""
        assert self.batch_size != "auto"
        return self.batch_size

    def steps(self, per_epoch: float) -> int | None:
        """The number of steps that bounds training; None: none does.

        Args:
            per_epoch: steps in which every training example is seen once.
        """
        bounds = [math.ceil(self.max_epochs * per_epoch)] if self.max_epochs is not None else []
        if isinstance(self.max_steps, int):
            bounds.append(self.max_steps)
        elif self.max_steps == "auto" and self.max_minutes is None and self.max_epochs is None:
            bounds.append(self.auto_steps)
        return min(bounds, default=None)

    def eval_seconds(self, training: float) -> float | None:
        """The budget of all validations together, and of the final measurement; None: no bound.

        Args:
            training: seconds that training takes.
        """
        if self.eval_minutes == "auto":
            return max(LEAST_SECONDS, training) if self.eval_examples == "auto" else None
        return None if self.eval_minutes is None else 60 * float(self.eval_minutes)

    @property
    def most_examples(self) -> int | None:
        """How many examples are looked at, at most; None: all, or as many as time allows."""
        return self.eval_examples if isinstance(self.eval_examples, int) else None


@dataclass
class OptimizerOptions:
    """Keys of every optimizer."""

    name: Literal["adamw", "adam", "adamax", "sgd", "rmsprop"]
    lr: NonNegative
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: Natural = 0
    final_lr_fraction: NonNegative = 0.0


@dataclass
class AdamOptions(OptimizerOptions):
    """Keys of the Adam family."""

    betas: Annotated[list[BelowOne], Range(low=2, high=2)] = dataclasses.field(default_factory=lambda: [0.9, 0.999])


@dataclass
class MomentumOptions(OptimizerOptions):
    """Keys of sgd and rmsprop."""

    momentum: NonNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Keys ``sweep.*`` of ``gencli train -m``.

    Args:
        dir: folder of the sweep; None: outputs/sweeps/<date>_<time>, or that of an unfinished sweep of the same jobs.
        workers: jobs at a time; auto: one for each GPU, or as many as the cores can serve.
        on_fail: whether the other jobs go on when one has failed.
        memory: GiB that a job may take.
        minutes: wall-clock minutes that a job may take.
    """

    dir: str | None = None
    workers: Count | Literal["auto"] = "auto"
    on_fail: Literal["continue", "stop"] = "continue"
    memory: Positive | None = None
    minutes: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Keys ``search.*`` of ``gencli train -m``, by which a sweep becomes a search; ``search=NAME`` names the sampler.

    Args:
        sampler: proposes the next trial.
        trials: of the whole study, over all of its starts and processes.
        pruner: stops trials whose validations fall behind those of others.
        objectives: what is to be small: the held-out NLL of the validation split, the number of parameters, the
            seconds that drawing n samples takes.
        storage: URL of an Optuna storage, or a journal file *.log; None: SQLite within the folder of the sweep.
        study: its name within the storage; None: that of the keys, values and fixed overrides.
        params: YAML file with what is searched, besides what the command says.
        seed: of the sampler.

    Raises:
        ValueError: objectives are repeated, or the sampler or the pruner knows no more than one.
    """

    sampler: Literal["tpe", "cmaes", "gp", "grid", "random"] = "tpe"
    trials: Count = 30
    pruner: Literal["none", "median", "halving", "hyperband"] = "none"
    objectives: Annotated[list[Literal["nll", "parameters", "sampling_seconds"]], Range(low=1, high=3)] = (
        dataclasses.field(default_factory=lambda: ["nll"])
    )
    storage: str | None = None
    study: str | None = None
    params: str | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        told = f"search.objectives=[{','.join(self.objectives)}]"
        if len({*self.objectives}) < len(self.objectives):
            raise ValueError(f"{told}: each of them once")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError(f"search=cmaes: it takes one objective, and {told} are several; search=tpe takes them")
        if self.pruner != "none" and self.objectives != ["nll"]:
            raise ValueError(f"search.pruner={self.pruner}: validations tell the NLL alone, and {told}")


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """Keys ``style.*`` of ``gencli sample``: how every picture looks.

    Args:
        format: of figures; pages stay HTML.
        film: format of moving pictures; mp4 needs the extra ``video``.
        theme: dark ink on light paper, or light ink on dark.
        dpi: pixels an inch of a PNG.
        scale: of width and height; text keeps its size.
    """

    format: Literal["png", "svg", "pdf"] = "png"
    film: Literal["gif", "mp4"] = "gif"
    theme: Literal["light", "dark"] = "light"
    dpi: Annotated[int, Range(low=20, high=1200)] = 120
    scale: Annotated[float, Range(low=0.25, high=8)] = 1.0


PREPROCESSING = ("dequantization", "transform", "alpha", "flatten", "flip")
"""Keys of the section ``data`` that belong to the way into model space, not to the data set."""

PLACE = ("run_dir", "resume", "device", "threads", "logger", "trust", "trainer.workers", "data.root")
"""Keys, dotted, that say where and with whom a run computes, and change none of its numbers."""

NUMBERS: dict[str, Any] = {"seed": Seed | None, "n": Natural | None, "threads": Count | Literal["auto"]}
"""Keys of a run beside its sections."""


def optimizer_kind(name: object) -> type[OptimizerOptions]:
    """The type of an optimizer's section.

    Raises:
        UsageError: the name is none of ours.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"optimizer.name={quoted(name)}: one of {', '.join(OPTIMIZERS)}")
    return MomentumOptions if name in ("sgd", "rmsprop") else AdamOptions


def trainer(section: Mapping[str, Any]) -> TrainerOptions:
    """The section ``trainer``, checked; what it does not say is the default.

    Raises:
        UsageError: names the key whose value cannot be.
    """
    return _typed("trainer", section, TrainerOptions)


def optimizer(section: Mapping[str, Any]) -> OptimizerOptions:
    """The section ``optimizer``, checked; see ``trainer``."""
    return _typed("optimizer", section, optimizer_kind(section.get("name")))


def style(section: Mapping[str, Any]) -> StyleOptions:
    """The section ``style``, checked; see ``trainer``."""
    found: StyleOptions = _typed("style", section, StyleOptions)
    return found


def plain(group: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``trainer`` or ``optimizer`` as plain data, checked and complete."""
    return dataclasses.asdict(trainer(section) if group == "trainer" else optimizer(section))


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values of a config that cannot be.

    Raises:
        UsageError: names the key and what it may be.
    """
    for key, hint in NUMBERS.items():
        if key in config and not options.fits(config[key], hint):
            raise UsageError(f"{key}={quoted(config[key])}: {options.words(hint)} is needed")
    for group in ("trainer", "optimizer"):
        if isinstance(config.get(group), Mapping):
            plain(group, config[group])
    if isinstance(config.get("style"), Mapping):
        style(config["style"])
    for name, node in (config.get("logger") or {}).items():
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise UsageError(f"logger.{name}={quoted(node)}: a section with a _target_ is needed")


_declared = functools.cache(options.of_dataclass)  # whoever reads a thousand runs asks a thousand times


def _typed(group: str, section: Mapping[str, Any], kind: type[Any]) -> Any:
    declared = _declared(kind)  # type: ignore[arg-type]  # classes are hashable
    section = options.check(section, declared, group, f"{group}={section['name']}" if "name" in section else group)
    for name in sorted(declared.needed - {*section}):
        raise UsageError(f"{group}.{name} is missing")
    numbers = {key for key, hint in declared.hints.items() if options.fits(0.5, hint)}
    try:
        return kind(
            **{
                key: float(value) if key in numbers and isinstance(value, int) else value
                for key, value in section.items()
            }
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
