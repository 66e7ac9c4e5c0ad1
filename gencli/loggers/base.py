"""The contract of the group ``logger``: who else hears the numbers of a training run.

metrics.jsonl is no logger: it is the run's own record, which resuming and ``gencli.load`` read.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor


def pixels(image: Tensor) -> Any:
    """A picture (3, H, W) with values in [0, 1] as an array (H, W, 3) of bytes, which services take."""
    return image.mul(255).byte().permute(1, 2, 0).numpy()


class Logger(ABC):
    """Passes on what a run says; made once its folder is there, on the process that writes.

    Args:
        folder: the run folder; files go through ``gencli.core.files.inside``.
        start: the step that a resumed run goes on from: what was said of later ones is taken back. 0: a new run.
    """

    package: ClassVar[str] = ""
    """The package that it needs, which has the name of the extra of gencli that brings it; empty: none."""

    @classmethod
    def missing(cls) -> str:
        """What to do about a package that is not installed; empty: nothing is missing."""
        if not cls.package:
            return ""
        spec = importlib.util.find_spec(cls.package)
        there = spec is not None and spec.origin is not None  # a folder wandb/ of runs is no package
        return "" if there else f"the package {cls.package} is not installed: pip install 'gencli-nll[{cls.package}]'"

    def __init__(self, folder: Path, start: int = 0) -> None:
        self.folder, self.start = folder, start

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step, by name: ``train/loss``, ``val/nll``."""

    @abstractmethod
    def image(self, step: int, name: str, image: Tensor) -> None:
        """A picture (3, H, W) with values in [0, 1]."""

    @abstractmethod
    def text(self, name: str, text: str) -> None:
        """A text of several lines: the model's layers, the config."""

    def parameters(self, values: Mapping[str, bool | int | float | str]) -> None:  # noqa: B027 (not all have a place)
        """The config, a value for each dotted key, before training; see ``loggers.params``."""

    def result(self, step: int, record: Mapping[str, Any]) -> None:  # noqa: B027
        """The record of the held-out data after training, as its file has it."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left; nothing follows."""
