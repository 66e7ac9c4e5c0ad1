"""The contract of the group ``picture``: what ``gencli sample picture=NAME`` draws of a run instead of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gencli.models.base import Model
from gencli.run.assembly import Parts


class Picture(ABC):
    """A way to look at a trained model; its options are constructor arguments.

    ``shown``: what ``make`` leaves for the terminal, anything that rich can print; None: nothing.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    shown: Any = None

    @abstractmethod
    def make(self, parts: Parts, n: int, seed: int) -> dict[str, bytes]:
        """Files by suffix (``.png``, ``.gif``, ``.html``, ``.npz``), made from n examples or samples.

        Raises:
            UsageError: the data or the model cannot be shown like this.
        """
