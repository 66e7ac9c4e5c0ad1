"""What a run asks of a picture, which is made in a room above it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gencli.models.base import Model
from gencli.run.assembly import Parts


class Drawing(ABC):
    """What ``Run.picture`` can show: every picture is one.

    ``requires``: the capabilities that the model must offer.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()

    @abstractmethod
    def show(self, parts: Parts, n: int, seed: int) -> Any:
        """A matplotlib figure where the picture is one, else an image of PIL, else a page or a text.

        Raises:
            UsageError: the data or the model cannot be shown like this.
        """
