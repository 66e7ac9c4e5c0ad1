"""The contract of the group ``objective``: what training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.spec import Batch, Spec
from gencli.models.base import M, Partner


@dataclass
class Loss:
    """value: the scalar to minimise; logs: scalars to log, as detached tensors."""

    value: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Turn:
    """One player's move within a training step.

    Args:
        name: names its optimizer and its loss in the logs.
        parameters: what this turn's optimizer moves.
        loss: a batch and noise -> Loss.
        repeats: moves a step, each on a batch of its own.
        project: called after each move: puts the parameters back into the set that they may not leave.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch, Noise], Loss]
    repeats: int = 1
    project: Callable[[], None] | None = None


class Objective(nn.Module, Partner[M], ABC):
    """What training minimises. Critics, teachers and buffers are its own state.

    score_name: what ``score`` measures: ``nll`` (nats a row in model space, or an upper bound of them, to which the
    caller adds the terms of preprocessing) or another name that is logged as it is. Lower is better.
    initial_examples: the most training examples that ``initialize`` wants to see; 0: it is not called.
    continuous: whether it moves x in R^D, which bits and levels do not bear; samplers and estimators say so too.
    """

    continuous: ClassVar[bool] = False
    score_name: ClassVar[str] = "nll"
    initial_examples: int = 0

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    def attach(self, model: M) -> None:
        """Build what depends on the model, such as a critic that sees y where the model does; once, after both."""

    def check(self, model: M) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    def open(self, model: M) -> None:
        """Open what only training needs, such as a teacher's run; after ``check``, before anything is written.

        Raises:
            ValueError: names the key to change.
        """

    def initialize(self, model: M, x: Tensor, y: Tensor | None = None) -> None:
        """Set the objective's own state (noise distributions, buffers) from training examples, once before step 0.

        A student takes its teacher's weights here.
        """

    def advice(self) -> str:
        """What to change when a loss was not finite, for the message that ends the run."""
        return "Try a smaller optimizer.lr, a longer optimizer.warmup_steps or a smaller trainer.clip_norm"

    @abstractmethod
    def turns(self, model: M) -> list[Turn]:
        """The players, in order."""

    @abstractmethod
    def score(self, model: M, batch: Batch, noise: Noise) -> Tensor:
        """The validation score of each row: (B,)."""
