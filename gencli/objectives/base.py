"""The contract of the group ``objective``: what training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.spec import Batch, Spec
from gencli.models.base import ExactLikelihood, M, Partner
from gencli.models.trained import Learned


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
        static: whether a move is the same operations on the same shapes at every step, without anything of the host
            that changes (``Batch.progress``, a counter, a branch on a value); a CUDA graph of it can be replayed then.
        slower: parameters among them that learn at the rate ``slower_by`` times optimizer.lr.
        slower_by: that factor.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch, Noise], Loss]
    repeats: int = 1
    project: Callable[[], None] | None = None
    static: bool = False
    slower: Collection[nn.Parameter] = ()
    slower_by: float = 1.0


class Objective(nn.Module, Partner[M], ABC):
    """What training minimises. Critics, teachers and buffers are its own state.

    In order: ``bind`` whenever a run is built or opened; to train, ``tell`` and ``open`` before anything is written,
    ``start``, and ``turns``; then ``score``. All get the same model.

    score_name: what ``score`` measures: ``nll`` (nats a row in model space, or an upper bound of them, to which the
    caller adds the terms of preprocessing) or another name that is logged as it is. Lower is better. ``bind`` may
    change it.
    initial_examples: the most training examples that ``start`` wants to see; 0: it gets none.
    compiles: whether its losses were seen to gain by a compiled model, so that ``trainer.compile=auto`` may choose one:
    those of flows do (1.5); chains lose (0.8), and a VAE and flow matching by small networks stay as they are.
    shards: whether processes may share the parameters (``trainer.strategy=fsdp``): a loss then sees whole ones and must
    not write to them, and ``Turn.project`` sees parts and may not call a module.
    continuous: whether it moves x in R^D, which bits and levels do not bear; samplers and estimators say so too.
    """

    compiles: ClassVar[bool] = False
    shards: ClassVar[bool] = True
    continuous: ClassVar[bool] = False
    score_name: str = "nll"
    initial_examples: int = 0

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    def bind(self, model: M) -> Learned:
        """Check the options against the model, and build what depends on it, such as a critic that sees y as it does.

        Once, before weights are loaded, also where the run is only drawn from or measured. It changes nothing of the
        model and opens no other run.

        Returns:
            Which outputs of the model are valid once it is trained.

        Raises:
            ValueError: an option that this model cannot honour; names the key to change.
        """
        return Learned()

    def tell(self, density: ExactLikelihood | None) -> None:
        """Take the true density of the data in model space, where it is known; before ``open``."""

    def open(self, model: M) -> None:
        """Open the runs that only training needs, such as a teacher; before anything is written.

        So a bad teacher is refused without a trace, and a student outlives its teacher.

        Raises:
            ValueError: names the key to change.
        """

    def start(self, model: M, examples: Batch | None) -> None:
        """Set what training starts from, before step 0: noise densities, chains, a student's weights.

        A resumed run starts in the same way, and then loads its checkpoint over it.

        Args:
            model: with its own data-dependent start behind it.
            examples: ``initial_examples`` of the training split, in model space, or fewer; None where that is 0.
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


class Drift(ABC):
    """The drift b of a diffusion dX = b(X) dt + dW of one's own, in model space."""

    words: ClassVar[str] = "package.module:name of a class or function of yours that gives a Drift"

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """b(x), (B, *) -> (B, *)."""
