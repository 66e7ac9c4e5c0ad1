"""The contract of the group ``sampler``: a way to draw from a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Given
from gencli.models.base import M, Partner


class Sampler(Partner[M], ABC):
    """A way to draw from a model; its options are constructor arguments.

    ``given`` and ``prompt`` are attributes of samplers that can complete what is partly given: what is kept of held-out
    examples, a region of images (``sampling.REGIONS``) or a list of a vector's coordinates, or the text to go on from.
    ``caveat``: what is to be said of completions that are not draws of p(rest | given). ``length``: symbols to draw of
    sequences that may be longer or shorter than the model's window.
    ``diagnostics``: what the last call of ``sample`` says of itself, such as a chain's acceptance and R-hat, or the
    network evaluations (``nfe``) that a sample cost; the same keys at every call.

    Args:
        classes: labels to draw from a conditional model, dealt in turn; None: all of them.
    """

    continuous: ClassVar[bool] = False
    given: str | list[int] | None = None
    caveat: ClassVar[str] = ""
    prompt: str | None = None
    length: int | None = None

    def __init__(self, classes: list[int] | None = None) -> None:
        if classes is not None and (
            not isinstance(classes, list) or not classes or not all(isinstance(c, int) for c in classes)
        ):
            raise ValueError(f"sampler.classes={classes}: a list of labels, such as [3,5]")
        self.classes = classes
        self.diagnostics: dict[str, float] = {}

    def check(self, model: M) -> None:
        """Refuse options that this model cannot honour.

        Raises:
            ValueError: names the key to change.
        """

    @abstractmethod
    def sample(self, model: M, n: int, y: Tensor | None, noise: Noise, given: Given | None = None) -> Tensor:
        """n samples (n, *) in model space; given: what to complete, only where the sampler was asked to."""
