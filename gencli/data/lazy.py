"""What all data sets share: splits are read when they are first asked for, and images are shown as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.files import named
from gencli.core.spec import Spec
from gencli.data.base import Dataset, Split
from gencli.data.root import data_root, user_path
from gencli.data.split import SPLITS, TensorSplit
from gencli.data.statistics import needs_float64, overflows


class Lazy(Dataset):
    """A data set that reads each of its splits once, when it is asked for.

    ``load`` gives real x and contexts y in float64 where the source has it. What the training split does not need in
    that precision is float32 in all splits.
    """

    def __init__(self) -> None:
        self._splits: dict[str, Split | None] = {}
        self._precise: tuple[bool, bool] | None = None  # whether x and y stay in float64; None: not decided yet

    def keep_float64(self, x: bool, y: bool) -> None:
        self._precise = (x, y)

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
        kept = TensorSplit(
            split.x if keep_x else narrow(split.x), split.y if split.y is None or keep_y else narrow(split.y)
        )
        kept.groups, kept.weights = split.groups, split.weights
        return kept

    def to_image(self, x: Tensor) -> Tensor | None:
        """Images of 1 or 3 channels in [0, 1]; None for vectors."""
        if self.spec.kind != "image" or self.spec.shape[0] not in (1, 3):
            return None
        levels = self.spec.support.levels
        x = x.float()
        return (x / (levels - 1) if levels else x).clamp(0, 1)


def narrow(t: Tensor) -> Tensor:
    """The same in float32, where it is in float64.

    Raises:
        ValueError: a value is beyond it.
    """
    if t.dtype != torch.float64:
        return t
    if overflows(t):
        raise ValueError("a value is beyond float32 (3.4e38), in which the training split is kept")
    return t.float()


class UserFiles(Lazy):
    """Data of the user's files, which are opened when a split or, without a schema, the specification is asked for.

    Args:
        path: ``data.path``.
        what: what is expected there, for messages.
        further: of the class that comes next.

    Attributes:
        kept: whether the schema is that of a run.
        old: whether the files are those of a run that is older than schemas.
    """

    def __init__(self, path: str | None, what: str, **further: Any) -> None:
        super().__init__(**further)
        if not path:
            raise UsageError(f"data.path is needed: {what}")
        self.path, self.what = named(path, "data.path="), what
        self.name = self.path.stem
        self.kept, self.old = False, False

    @abstractmethod
    def understand(self) -> dict[str, Any]:
        """Read the schema from the files; see ``Dataset.schema``."""

    @abstractmethod
    def specify(self, schema: Mapping[str, Any]) -> Spec:
        """The specification that a schema gives.

        Raises:
            LookupError, TypeError, ValueError: the schema is damaged.
        """

    def opened(self) -> None:
        """Refuse a path at which nothing lies."""
        user_path(str(self.path), self.what, typed=self.typed)

    @cached_property
    def meaning(self) -> Mapping[str, Any]:
        """The schema: that of the run, or of the files."""
        return self.understand()

    def schema(self) -> dict[str, Any]:
        return dict(self.meaning)

    def apply(self, schema: Mapping[str, Any]) -> None:
        try:
            self.spec = self.specify(schema)
        except (LookupError, TypeError, ValueError) as error:
            raise UsageError(f"data.json does not fit the run's data: {quoted(repr(error), 200)}") from error
        self.meaning, self.kept = schema, True

    def older(self) -> None:
        self.old = True

    @cached_property
    def spec(self) -> Spec:  # type: ignore[override]
        return self.specify(self.meaning)


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names of files, keys or classes for a message.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2)
        ('a, b, c', 'a, b and 1 more')
    """
    text = ", ".join(quoted(name) for name in names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most:,} more"


def distinct(names: Iterable[object], key: str) -> list[str]:
    """Names that a key lists, as texts.

    Raises:
        ValueError: one stands there twice.
    """
    found = [str(name) for name in names]
    for name, times in Counter(found).items():
        if times > 1:
            raise ValueError(f"{key} names {quoted(name)} twice")
    return found


def counted(sizes: Mapping[str, int]) -> str:
    """Examples of each split, for a message.

    Example:
        >>> counted({"train": 1000, "val": 0, "test": 50})
        '1,000 train, no val, 50 test'
    """
    return ", ".join(f"{n:,} {name}" if n else f"no {name}" for name, n in sizes.items())


def names_of(schema: Mapping[str, Any]) -> list[str] | None:
    """The classes of a schema.

    Raises:
        LookupError, ValueError: the schema is damaged.
    """
    names = schema["classes"]
    if names is None:
        return None
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("classes are names")
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return list(names)


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
