"""Models that a run has trained: which of their outputs are valid, and runs as parts of others."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from gencli.core.spec import Spec
from gencli.models.base import M, Model, Unnormalized


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Which outputs of a model are valid after training with one objective: ``Objective.bind`` says it.

    Args:
        score: the score of a TimeField, and with it its noise and denoised mean. They are valid where each example met
            noise drawn independently of it.
        velocity: the velocity. Its flow draws samples and has a density.
        steps_of: the sampler that the model was distilled for, whose steps alone are valid; None: any sampler.
        timesteps: T, where only the T discrete times of ``TimeField.snap`` are valid; None: those of the model itself.
        target: what the model was fitted to in place of examples: a run whose energy it is, not yet opened, or ``data``
            for the known density of the data; None: to examples.
    """

    score: bool = True
    velocity: bool = True
    steps_of: str | None = None
    timesteps: int | None = None
    target: TrainedRun | Literal["data"] | None = None

    @property
    def limit(self) -> str:
        """What is not valid, as the beginning of a message that goes on with what asked for it."""
        if self.steps_of:
            return f"this model was distilled for sampler={self.steps_of}"
        return (
            "this model was trained for its velocity only (objective.coupling=optimal, reflow, flow_nll), so that its "
            "score and denoised mean are not valid"
        )

    def view(self, model: M) -> M:
        """The model at its valid times: a shallow copy with all parameters and buffers in common."""
        if self.timesteps is None:
            return model
        view = copy.copy(model)
        vars(view)["timesteps"] = self.timesteps
        return view


@dataclass(frozen=True)
class TrainedModel:
    """What a run gives: its model at its valid times, fixed, and which outputs of it are valid."""

    model: Model
    learned: Learned


class TrainedRun(ABC):
    """A run that another builds on: a teacher, the base that an energy tilts, noise. A config names its folder."""

    words: ClassVar[str] = "a run folder"

    @abstractmethod
    def open(self, spec: Spec) -> TrainedModel:
        """The run's model as it was at its best checkpoint.

        Args:
            spec: of the model that builds on it.

        Raises:
            UsageError: there is no such run, or its model is of another space.
        """

    @abstractmethod
    def density(self, spec: Spec) -> Model:
        """The run's model as a normalised density with samples of its own, in the same space.

        Raises:
            UsageError: as ``open``; or it has no density, no samples of its own, or is conditional.
        """

    def target(self, model: Model) -> Unnormalized:
        """The run's energy, in the space of another model, as what that one is fitted to.

        Args:
            model: what is fitted.

        Raises:
            UsageError: as ``open``.
            ValueError: its model has no energy, or is conditional where the other is not, or the other way round.
        """
        energy = self.open(model.spec).model
        if not isinstance(energy, Unnormalized):
            raise ValueError("the model of this run has neither an energy nor a likelihood")
        if energy.conditional != model.conditional:
            raise ValueError(f"the model of this run has model.conditional={str(energy.conditional).lower()}")
        return energy
