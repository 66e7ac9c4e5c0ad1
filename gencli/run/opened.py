"""A trained run inside another: the base that an energy tilts, noise, where annealing starts, a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencli.config import stored
from gencli.config.locate import find_run
from gencli.core.errors import UsageError, quoted
from gencli.core.noise import Noise, alone
from gencli.core.spec import Spec
from gencli.data.preprocess import Preprocess
from gencli.models.base import DirectSampling, ExactLikelihood, Model, TimeField
from gencli.models.trained import Learned, TrainedModel, TrainedRun
from gencli.objectives.base import Objective
from gencli.run import checkpoint as checkpoints
from gencli.run.build import Builder

DEEPEST = 8
"""Runs within runs: a base of a base of a base ..."""

_opening: ContextVar[tuple[Path, ...]] = ContextVar("opening", default=())


@dataclass(frozen=True)
class NamedRun(TrainedRun):
    """The run in a folder, opened when it is asked for; see ``opened``.

    Args:
        path: the run folder.
        trust: packages other than gencli whose classes its config may name.
    """

    path: str
    trust: Sequence[str] = ()

    def open(self, spec: Spec) -> TrainedModel:
        return opened(spec, self.path, self.trust)

    def density(self, spec: Spec) -> Trained:
        try:
            return Trained(spec, self.open(spec).model)
        except ValueError as error:
            raise UsageError(f"run={quoted(self.path, 200)}: {error}") from error


def builder(trust: Sequence[str]) -> Builder:
    """What builds the components of a config, runs that it names included."""
    return Builder(trust, NamedRun)


@alone
def opened(spec: Spec, path: str, trust: Sequence[str] = ()) -> TrainedModel:
    """The model of a run as it was at its best checkpoint (EMA weights if it has them), fixed, and what of it is valid.

    Args:
        spec: of the model that uses it. Any model in its space will do; one of other data is merely far away.
        path: the run folder.
        trust: packages other than gencli whose classes its config may name.

    Raises:
        UsageError: there is no such run, its config is no plain data, it is made of itself, or its model is of another
            space.
    """
    folder = find_run(path).resolve()
    outer = _opening.get()
    if folder in outer or len(outer) >= DEEPEST:
        raise UsageError(f"the run {folder} is made of {'itself' if folder in outer else 'too many others'}")
    token = _opening.set((*outer, folder))
    try:
        config = stored.config(folder)
        build = builder(trust)
        model = build.component(config["model"], Model, spec)
        tensors = _best(folder)
        try:
            model.load_state_dict(checkpoints.under("ema", tensors) or checkpoints.under("model", tensors))
        except RuntimeError as error:
            raise UsageError(f"{folder}: the model of this run is not of the shape {spec.shape}") from error
        learned = Learned()
        if isinstance(model, TimeField):
            learned = build.component(config["objective"], Objective, spec).bind(model)
    except ValueError as error:
        raise UsageError(f"{folder}: {error}") from error
    finally:
        _opening.reset(token)
    return TrainedModel(learned.view(model.eval().requires_grad_(False)), learned)


def refuse_other_contexts(sections: Any, model: Model, preprocess: Preprocess) -> None:
    """Refuse a teacher that was told the context on another scale than its student is.

    Args:
        sections: of the config, with the absolute paths of the runs that they name.
        model: the student.
        preprocess: fitted to its training split.

    Raises:
        UsageError: a teacher's training data were others, or it is from before contexts were standardised.
    """
    if not (model.conditional and preprocess.spec.context):
        return
    own = preprocess.state_dict()
    for folder in _named(sections):
        theirs = checkpoints.under("preprocess", _best(folder))
        for name in ("context_mean", "context_std"):
            if name not in theirs or not torch.allclose(theirs[name].double(), own[name].cpu().double(), rtol=1e-4):
                raise UsageError(f"the run {quoted(folder, 200)} was told its context on another scale: train it anew")


def refuse_other_scale(objective: Mapping[str, Any], preprocess: Preprocess) -> None:
    """Refuse a target whose data were standardised by other numbers: its energy would be read on another scale.

    Args:
        objective: the section of the config.
        preprocess: fitted to the training split.

    Raises:
        UsageError: mean or deviation differ by more than a thousandth of the deviation.
    """
    target = objective.get("target")
    if preprocess.transform != "standardize" or not isinstance(target, str) or not stored.names_run("target", target):
        return
    theirs = checkpoints.under("preprocess", _best(Path(target)))
    mean, std = preprocess.mean.cpu().double(), preprocess.std.cpu().double()
    away = (theirs["mean"].double() - mean).abs().maximum((theirs["std"].double() - std).abs())
    if bool((away > 1e-3 * std).any()):
        raise UsageError(
            f"objective.target: the data of the run {quoted(target, 200)} were standardised by another mean and "
            "deviation; take the same data, or data.transform=none for both"
        )


def _named(node: Any) -> list[Path]:
    """The folders of runs that sections of a config name."""
    if isinstance(node, list):
        return [folder for item in node for folder in _named(item)]
    if not isinstance(node, Mapping):
        return []
    own = [Path(value) for key, value in node.items() if stored.names_run(key, value)]
    return own + _named(list(node.values()))


def _best(folder: Path) -> dict[str, Tensor]:
    """The tensors of a run's best checkpoint, of its last where there is none."""
    best = folder / "checkpoints" / "best.safetensors"
    return checkpoints.read(best if best.exists() else checkpoints.path_of(folder, "last"))[0]


class Trained(ExactLikelihood, DirectSampling):
    """The model of a run as a density in model space.

    Args:
        spec: of the model that uses it.
        model: that of ``opened``. No config can name one: only ``NamedRun`` makes this class.

    Raises:
        ValueError: the model has no density or no samples of its own, or is conditional.
    """

    supports = ("real", "unit", "binary", "levels", "categorical")
    shapes = ("vector", "image")

    def __init__(self, spec: Spec, model: Model) -> None:
        super().__init__(spec)
        if not isinstance(model, Model):
            raise ValueError("a model is needed")
        if not isinstance(model, ExactLikelihood) or not isinstance(model, DirectSampling):
            raise ValueError("its model has no exact density with samples of its own")
        if model.conditional:
            raise ValueError("its model is conditional")
        self.model = model

    def train(self, mode: bool = True) -> Trained:
        """Stays in evaluation mode: it is no part of what is trained."""
        return super().train(False)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.model.log_prob(x)

    @property
    def passes(self) -> int:
        assert isinstance(self.model, DirectSampling)
        return self.model.passes

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.model.sample(n, noise=noise, temperature=temperature)
