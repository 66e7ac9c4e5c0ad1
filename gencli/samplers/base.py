"""The contract of the group ``sampler``: a way to draw from a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Given
from gencli.models.base import M, Partner
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
class Sampler(Partner[M], ABC):
    """A way to draw from a model; its options are its fields.

    Samplers that can complete what is partly given have fields ``given`` (what is kept of held-out examples: a region
    of images, ``sampling.REGIONS``, or a list of a vector's coordinates), ``prompt`` (the text to go on from) or
    ``length`` (symbols to draw of sequences that may be longer or shorter than the model's window).
    ``caveat``: what is to be said of completions that are not draws of p(rest | given).

    Args:
        classes: numbers or names of those to draw from a conditional model, dealt in turn; None: all of them.
        context: a vector to draw for from a conditional model, or vectors, dealt in turn; None: those of examples.
    """

    continuous: ClassVar[bool] = False
    caveat: ClassVar[str] = ""
    # no annotations, so that these are fields of those samplers only that declare them
    given = None  # type: str | list[int] | None
    prompt = None  # type: str | None
    length = None  # type: int | None

    classes: Annotated[list[int | str], Range(low=1)] | None = None
    context: Annotated[list[float | list[float]], Range(low=1)] | None = None

    def check(self, model: M, learned: Learned) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

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
