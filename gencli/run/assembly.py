"""Config -> objects, in the one legal order: data, preprocessing, model, objective, sampler, estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencli.config import compatibility, stored
from gencli.config.sections import PREPROCESSING
from gencli.core import options
from gencli.core.errors import RunFailed, UsageError
from gencli.core.files import named
from gencli.core.noise import seeded_global
from gencli.data.base import Dataset
from gencli.data.preprocess import Preprocess, Unreachable
from gencli.estimators.base import Estimator
from gencli.loggers.base import Logger
from gencli.models.base import Autoregressive, Model
from gencli.models.trained import Learned
from gencli.objectives.base import Objective
from gencli.run import checkpoint as checkpoints
from gencli.run.build import resolve
from gencli.run.device import resolve_device
from gencli.run.opened import builder
from gencli.samplers.base import Procedure, Question

PLACES = ("root", "path", "val_path", "test_path")
"""Options of data sets that say where files lie, which may change after training."""


def placed(data: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """The data section with absolute paths, so that a run finds its files from any folder.

    Returns:
        The section; and the paths that it changed as they were typed, by the absolute ones.

    Args:
        data: the section as it was typed.
        kept: that of the run which the command is about: what it says already stays as it is.

    Raises:
        UsageError: a value cannot be a path.
    """
    found, typed = dict(data), {}
    for key in PLACES:
        value = found.get(key)
        if isinstance(value, str) and value and "://" not in value and value != (kept or {}).get(key):
            found[key] = str(named(value, f"data.{key}=").absolute())
            if found[key] != value and found[key].isprintable():  # as keys of a config are
                typed[found[key]] = value
    return found, typed


@dataclass
class Parts:
    """What a config builds. The sampler or the estimator is None where a model has none.

    ``trust``: packages other than gencli whose classes it may name; ``run``: the folder whose weights were loaded.
    """

    device: torch.device
    dataset: Dataset
    preprocess: Preprocess
    model: Model
    objective: Objective[Any]
    sampler: Procedure[Any] | None
    estimator: Estimator[Any] | None
    learned: Learned = field(default_factory=Learned)
    weights: str = "raw"
    checkpoint: Path | None = None
    trust: Sequence[str] = ()
    run: Path | None = None

    @property
    def view(self) -> Model:
        """The model at the times that are valid once it is trained: what samplers draw from."""
        return self.learned.view(self.model)

    def protocol(self) -> dict[str, Any]:
        """What a number depends on besides the model: two records compare only if it is equal."""
        return {
            "data": self.dataset.name,
            **self.preprocess.protocol(),
            "binarization": self.dataset.binarization,
            "train_on": self.dataset.train_on,
            "context": self.dataset.spec.context_kind if self.model.conditional else None,
            **self.dataset.protocol(),
        }


def assemble(cfg: Mapping[str, Any], *, download: bool = True, schema: Mapping[str, Any] | None = None) -> Parts:
    """Build every part of a config, with fresh weights drawn from ``seed``; first every section is checked.

    Args:
        cfg: the config.
        download: whether missing data files may be fetched into ``data.root``.
        schema: what a run keeps of the meaning of its files (``Dataset.schema``), empty where it is older than that;
            None: it is worked out.

    Raises:
        UsageError: a part refuses its arguments or the data, in one line that names the key.
    """
    trust = cfg.get("trust") or []
    build = builder(trust)
    try:
        device = resolve_device(cfg["device"])
        way = {key: cfg["data"][key] for key in PREPROCESSING if key in cfg["data"]}
        make_dataset = data_factory(cfg["data"], trust, download=download, schema=schema)
        model_class = resolve(cfg["model"], Model, trust)
        make_model = build.factory(cfg["model"], Model, given=1)
        make_objective = build.factory(cfg["objective"], Objective, given=1)
        make_sampler = build.factory(cfg["sampler"], Procedure) if cfg.get("sampler") else None
        make_estimator = build.factory(cfg["estimator"], Estimator) if cfg.get("estimator") else None

        way = options.check(way, options.of_class(Preprocess), "data", "preprocessing")

        dataset = make_dataset()
        dataset.typed = cfg.get("typed") or {}
        if schema is None:  # runs of before this rule open
            refuse_layout(cfg, model_class, dataset)
        preprocess = _preprocess(cfg, model_class, dataset, way).to(device)
        with seeded_global(device, cfg["seed"]):
            model = make_model(preprocess.model_spec).to(device)
            objective = make_objective(preprocess.model_spec)
            check_capabilities("objective", objective, model)
            learned = objective.bind(model)
        objective.to(device)
        sampler = make_sampler() if make_sampler else None
        estimator = make_estimator() if make_estimator else None
    except (ValueError, ArithmeticError) as error:
        raise UsageError(str(error)) from error
    if dataset.per is not None and not (isinstance(model, Autoregressive) and model.natural):
        raise UsageError(
            f"model={cfg['choices'].get('model')} is not Autoregressive in the order of the data: "
            f"data={dataset.name} is scored {dataset.per} by {dataset.per}, given those before it; "
            f"{compatibility.others(cfg, dataset.spec.support.kind, 'sequence')}"
        )
    parts = Parts(device, dataset, preprocess, model, objective, sampler, estimator, learned, trust=trust)
    for group, part in (("sampler", sampler), ("estimator", estimator)):
        if part is not None:
            check_part(group, part, parts)
    return parts


def _preprocess(cfg: Mapping[str, Any], model: type[Model], dataset: Dataset, way: Mapping[str, Any]) -> Preprocess:
    """The way from data to a model, by its options ``way``.

    Raises:
        UsageError: there is none; names models for the data, and data for the model.
    """
    names = dataset.names(), dataset.context_names()
    try:
        return Preprocess(
            dataset.spec, model.supports, model.shapes, unit=dataset.unit, box=dataset.box, names=names, **way
        )
    except Unreachable as error:
        place = compatibility.layout(cfg["data"].get("_target_"))
        hint = compatibility.others(cfg, dataset.spec.support.kind, place)
        raise UsageError(f"{error}: {hint}") from error


def refuse_layout(cfg: Mapping[str, Any], model: type[Model], dataset: Dataset) -> None:
    """Refuse data whose coordinates are laid out in a way that means nothing to a model, as pixels do to n-grams.

    Raises:
        UsageError: names models for the data, and data for the model.
    """
    place = getattr(dataset, "layout", dataset.spec.kind)
    if model.layouts and place not in model.layouts:
        choices = cfg.get("choices") or {}
        raise UsageError(
            f"model={choices.get('model')} is of data laid out as {' or '.join(model.layouts)}; "
            f"data={choices.get('data')} is {place}: {compatibility.others(cfg, dataset.spec.support.kind, place)}"
        )


def data_factory(
    section: Mapping[str, Any], trust: Sequence[str], *, download: bool, schema: Mapping[str, Any] | None
) -> Callable[[], Dataset]:
    """What makes the data set of a section ``data``, whose options have been checked; arguments as for ``assemble``.

    Raises:
        UsageError: an option is wrong.
    """
    own = {key: value for key, value in section.items() if key not in PREPROCESSING}
    places = options.of_class(resolve(own, Dataset, trust)).hints
    if "root" not in places:
        own.pop("root", None)  # embedded data read no files
    if "download" in places and not download:
        own["download"] = False
    make = builder(trust).factory(own, Dataset)

    def made() -> Dataset:
        dataset: Dataset = make()
        if schema:
            dataset.apply(schema)
        elif schema is not None:
            dataset.older()
        return dataset

    return made


def check_capabilities(group: str, part: Objective[Any] | Procedure[Any] | Estimator[Any], model: Model) -> None:
    """Whether a model offers what a partner requires.

    Raises:
        UsageError: it lacks a capability, or its x, which is not real, would be moved continuously.
    """
    kind = type(part).__name__
    lacking = [c.__name__ for c in part.requires if not isinstance(model, c)]
    if lacking:  # the class gate, for classes whose source it could not follow
        raise UsageError(compatibility.refusal(group, kind, type(model).__name__, lacking))
    if part.continuous and not model.spec.support.continuous:
        raise UsageError(f"{group}: {kind} moves x continuously; this model's x is {model.spec.support}")


def refuse_unused_context(parts: Parts) -> None:
    """Refuse a context vector of which the model would not be told; classes serve metrics and pictures, too.

    Raises:
        UsageError: names the keys to change.
    """
    context = parts.dataset.spec.context_dim
    if context and not parts.model.conditional:
        raise UsageError(
            f"data.context: this model would not be told the data's context of {context} numbers: "
            "model.conditional=true, or data without a context"
        )


def refuse_question(parts: Parts) -> None:
    """Refuse to train with a question for sampler, whose answers are no samples of the model.

    Raises:
        UsageError: says how it is asked.
    """
    if isinstance(parts.sampler, Question):
        name = parts.sampler.option
        raise UsageError(f"sampler={name} asks a trained model: gencli sample run=RUN sampler={name}")


def check_part(group: str, part: Procedure[Any] | Estimator[Any], parts: Parts) -> None:
    """Whether a sampler or estimator can serve the model of a run, as it is trained, on its data.

    Raises:
        UsageError: the model lacks a capability or a valid output, an option cannot be honoured, or an estimator cannot
            score windows whose beginning is given.
    """
    dataset = parts.dataset
    check_capabilities(group, part, parts.model)
    try:
        part.check(parts.view, parts.learned)
    except (ValueError, ArithmeticError) as error:
        raise UsageError(str(error)) from error
    if dataset.per is not None and isinstance(part, Estimator) and not part.scores_given:
        raise UsageError(
            f"estimator: {type(part).__name__}{part.variant} cannot score windows whose beginning is given, as "
            f"data={dataset.name} needs; estimator=exact can"
        )


def restore(
    cfg: Mapping[str, Any], run: Path, device: str, weights: str | None, which: str, *, download: bool = True
) -> Parts:
    """Build the parts of a run on a device and load a checkpoint into them; see ``assemble`` and ``load_weights``."""
    parts = assemble({**cfg, "device": device}, download=download, schema=stored.schema(run))
    load_weights(parts, run, weights, which)
    return parts


def load_weights(parts: Parts, run: Path, weights: str | None, which: str) -> None:
    """Load a checkpoint's weights, statistics and state into parts, and set them to evaluation.

    Args:
        parts: as the run's config builds them.
        run: the run folder.
        weights: ``ema`` or ``raw``; None: the EMA where there is one.
        which: ``best``, ``last``, ``previous`` or a path; ``best`` is ``last`` in a run without validation.

    Raises:
        UsageError: no such checkpoint or weights.
        RunFailed: the checkpoint is damaged or does not fit the config.
    """
    path, weights, tensors = chosen_weights(run, weights, which)
    try:
        parts.model.load_state_dict(checkpoints.under("ema" if weights == "ema" else "model", tensors))
        parts.preprocess.load_state_dict(checkpoints.under("preprocess", tensors))
        parts.objective.load_state_dict(checkpoints.under("objective", tensors))
    except RuntimeError as error:
        raise RunFailed(f"{path} does not fit the run's config.yaml: {str(error).splitlines()[-1].strip()}") from error
    if parts.preprocess.precise or parts.preprocess.precise_context:
        parts.dataset.keep_float64(parts.preprocess.precise, parts.preprocess.precise_context)
    parts.model.eval()
    parts.preprocess.eval()
    parts.weights, parts.checkpoint, parts.run = weights, path, run


def chosen_weights(run: Path, weights: str | None, which: str) -> tuple[Path, str, dict[str, Tensor]]:
    """The file of a checkpoint, which weights of it are meant, and its tensors; see ``load_weights``."""
    if which == "best" and not (run / "checkpoints" / "best.safetensors").exists():
        which = "last"
    path = checkpoints.path_of(run, which)
    tensors, _ = checkpoints.read(path)
    kept = "ema" if any(name.startswith("ema/") for name in tensors) else "raw"
    weights = weights or kept
    if weights == "ema" and kept == "raw":
        raise UsageError("weights=ema: this run kept none (trainer.ema_decay=0); take weights=raw")
    return path, weights, tensors


def loggers(cfg: Mapping[str, Any]) -> list[Callable[..., Logger]]:
    """What makes the loggers of the section ``logger``, each of which has been checked.

    Raises:
        UsageError: a section describes no logger, or its package is not installed.
    """
    build = builder(cfg.get("trust") or [])
    found = []
    for name, node in (cfg["logger"] or {}).items():
        found.append(build.factory(node, Logger, given=2, group=f"logger.{name}"))
        if missing := resolve(node, Logger, build.trust, f"logger.{name}").missing():
            raise UsageError(f"logger={name}: {missing}")
    return found
