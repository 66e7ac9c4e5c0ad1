"""The contract of the group ``picture``: what ``gencli sample picture=NAME`` draws of a run instead of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from gencli.models.base import Model
from gencli.run.assembly import Parts


@dataclass(frozen=True)
class Drawn:
    """What a picture is.

    Args:
        files: by suffix: ``.png``, ``.gif``, ``.html``, ``.npz``.
        terminal: anything that rich can print; None: nothing.
    """

    files: dict[str, bytes]
    terminal: Any = None


class Picture(ABC):
    """A way to look at a trained model: a frozen dataclass whose fields are its options.

    ``layouts``: of the data that it shows, as models name them; none named: of any.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    layouts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        """The picture, made from n examples or samples.

        Raises:
            UsageError: the data or the model cannot be shown like this.
        """
