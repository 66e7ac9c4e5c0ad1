"""The contracts of the group ``sampler``: ways to draw from a model, and questions that its samples answer.

A ``Sampler`` draws x in model space. A ``Question`` asks a trained model about data, in data space: what an image was
before it was damaged, which parameters an observation came from, where a state goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Given
from gencli.models.base import M, Partner
from gencli.models.subject import Subject
from gencli.models.trained import Learned


@dataclass(frozen=True)
class Samples:
    """What a sampler drew.

    Args:
        x: (n, *) in model space.
        diagnostics: what the draw says of itself, such as the acceptance and R-hat of chains, or the network
            evaluations (``nfe``) that a sample cost; one sampler gives the same keys at every call.
    """

    x: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Procedure(Partner[M], ABC):
    """What the group ``sampler`` offers: a sampler or a question; its options are its fields.

    What it can complete or draw for it says by fields of its own: ``given`` (what is kept of held-out examples: a
    region of images, ``regions.REGIONS``, or a list of a vector's coordinates), ``prompt`` (the text to go on from),
    ``length`` (symbols to draw of sequences that may be longer or shorter than the model's window), ``classes``,
    ``context``. ``caveat``: what is to be said of completions that are not draws of p(rest | given).
    """

    continuous: ClassVar[bool] = False
    caveat: ClassVar[str] = ""
    # no annotations, so that these are fields of those classes only that declare them
    given = None  # type: str | list[int] | None
    prompt = None  # type: str | None
    length = None  # type: int | None
    classes = None  # type: list[int | str] | None
    context = None  # type: list[float | list[float]] | None

    def check(self, model: M, learned: Learned) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """


@dataclass(frozen=True)
class Sampler(Procedure[M]):
    """A way to draw from a model.

    Args:
        classes: numbers or names of those to draw from a conditional model, dealt in turn; None: all of them.
        context: a vector to draw for from a conditional model, or vectors, dealt in turn; None: those of examples.
    """

    classes: Annotated[list[int | str], Range(low=1)] | None = None
    context: Annotated[list[float | list[float]], Range(low=1)] | None = None

    @abstractmethod
    def sample(self, model: M, n: int, y: Tensor | None, noise: Noise, given: Given | None = None) -> Samples:
        """Draw n samples in model space.

        Args:
            model: what to draw from.
            n: their number.
            y: the context of each, or None.
            noise: all randomness.
            given: what to complete; only where the sampler was asked to.
        """


@dataclass(frozen=True)
class Answer:
    """What a trained model answers, in data units.

    Args:
        arrays: by name, the first with the n asked-for rows: what was observed, the truth where it is known, draws.
        diagnostics: numbers about all rows, each standard error beside its own as ``<name>_se``.
        notes: sentences that belong to them.
    """

    arrays: dict[str, Tensor]
    diagnostics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question(Procedure[M]):
    """A question about data that a trained model answers; ``gencli sample`` asks it, training does not.

    ``option``: its name in the group ``sampler``. ``picture``: the option of the group ``picture`` that shows its
    answer; None: it has the same name. ``usual_n``: rows, where nobody says.
    """

    option: ClassVar[str]
    picture: ClassVar[str | None] = None
    usual_n: ClassVar[int] = 8

    @abstractmethod
    def answer(self, subject: Subject, n: int) -> Answer:
        """Ask about n rows, such as the first n examples of ``subject.split``.

        Raises:
            ValueError: names the key that does not fit these data.
        """
