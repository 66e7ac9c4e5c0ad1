"""What all data sets share: splits are read when they are first asked for, and images are shown as they are."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.data.base import Dataset, Split
from gencli.data.root import data_root
from gencli.data.split import SPLITS, TensorSplit


class Lazy(Dataset):
    """A data set that reads each of its splits once, when it is asked for."""

    def __init__(self) -> None:
        self._splits: dict[str, Split | None] = {}

    @abstractmethod
    def load(self, name: str) -> Split | None:
        """Read a split: ``train``, ``val`` or ``test``."""

    def split(self, name: str) -> Split | None:
        if name not in SPLITS:
            return None
        if name not in self._splits:
            try:
                self._splits[name] = self.load(name)
            except (OSError, EOFError, ValueError, MemoryError) as error:
                reason = quoted(str(error) or type(error).__name__, 200)
                raise UsageError(f"data={self.name}: its split {name} cannot be read: {reason}") from error
        return self._splits[name]

    def to_image(self, x: Tensor) -> Tensor | None:
        """Images of 1 or 3 channels in [0, 1]; None for vectors."""
        if self.spec.kind != "image" or self.spec.shape[0] not in (1, 3):
            return None
        levels = self.spec.support.levels
        x = x.float()
        return (x / (levels - 1) if levels else x).clamp(0, 1)


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
