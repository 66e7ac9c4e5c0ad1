"""What all data sets share: splits are read when they are first asked for, and images are shown as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.data.base import Dataset, Split
from gencli.data.root import data_root
from gencli.data.split import SPLITS, TensorSplit
from gencli.data.statistics import needs_float64


class Lazy(Dataset):
    """A data set that reads each of its splits once, when it is asked for.

    ``load`` gives real x and contexts y in float64 where the source has it. What the training split does not need in
    that precision is float32 in all splits.
    """

    def __init__(self) -> None:
        self._splits: dict[str, Split | None] = {}
        self._precise: tuple[bool, bool] | None = None  # whether x and y stay in float64; None: not decided yet

    def schema(self) -> dict[str, Any]:
        return {"float64": list(self._precise)} if self._precise and any(self._precise) else {}

    def apply(self, schema: Mapping[str, Any]) -> None:
        kept = schema.get("float64", [False, False])
        if not isinstance(kept, list) or [type(flag) for flag in kept] != [bool, bool]:
            raise UsageError(f"data={self.name}: data.json is damaged: float64={quoted(kept)}")
        self._precise = (kept[0], kept[1])

    @abstractmethod
    def load(self, name: str) -> Split | None:
        """Read a split: ``train``, ``val`` or ``test``."""

    def split(self, name: str) -> Split | None:
        if name not in SPLITS:
            return None
        if name not in self._splits:
            try:
                self._splits[name] = self.in_precision(self.load(name), name)
            except (OSError, EOFError, ValueError, MemoryError) as error:
                reason = quoted(str(error) or type(error).__name__, 200)
                raise UsageError(f"data={self.name}: its split {name} cannot be read: {reason}") from error
        return self._splits[name]

    def in_precision(self, split: Split | None, name: str) -> Split | None:
        """A split as it is kept: x and y that came in float64 stay so only where the training split needs it.

        Raises:
            ValueError: float32 cannot hold a value.
        """
        if not isinstance(split, TensorSplit) or torch.float64 not in (
            split.x.dtype,
            split.y is not None and split.y.dtype,
        ):
            return split
        if self._precise is None and name != "train":
            self.split("train")
        if self._precise is None:  # this is the training split, or there is none
            self._precise = needs_float64(split.x), split.y is not None and needs_float64(split.y)
        keep_x, keep_y = self._precise
        return TensorSplit(
            split.x if keep_x else _narrow(split.x), split.y if split.y is None or keep_y else _narrow(split.y)
        )

    def to_image(self, x: Tensor) -> Tensor | None:
        """Images of 1 or 3 channels in [0, 1]; None for vectors."""
        if self.spec.kind != "image" or self.spec.shape[0] not in (1, 3):
            return None
        levels = self.spec.support.levels
        x = x.float()
        return (x / (levels - 1) if levels else x).clamp(0, 1)


def _narrow(t: Tensor) -> Tensor:
    if t.dtype != torch.float64:
        return t
    narrow = t.float()
    if bool((narrow.isinf() & t.isfinite()).any()):
        raise ValueError("a value is beyond float32 (3.4e38), in which the training split is kept")
    return narrow


class OfficialSplits(Lazy):
    """Labelled images with an official training and test part; validation is the end of the training part.

    Args:
        root: the folder of data files.
        download: whether missing files may be fetched into it.
        validation: number of validation images, the last ones of the training part; 0: there is no such split.
    """

    def __init__(self, root: str | None, download: bool, validation: int) -> None:
        super().__init__()
        self.root, self.download, self.validation = data_root(root), download, validation
        self.train_on = "train" if validation else "train+val"

    @abstractmethod
    def read(self, part: str) -> tuple[Tensor, Tensor]:
        """Images x (N, C, H, W) and labels y (N,) of the part ``train`` or ``test``."""

    def load(self, name: str) -> Split | None:
        if name == "val" and not self.validation:
            return None
        x, y = self.read("test" if name == "test" else "train")
        first = len(x) - self.validation
        rows = {"train": slice(0, first), "val": slice(first, None), "test": slice(None)}[name]
        return TensorSplit(x[rows], y[rows])
