"""The contract of the group ``data``: named examples with a specification and fixed splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Noise
from gencli.core.spec import Batch, Spec
from gencli.data.box import Box
from gencli.data.task import Target, Task


class Split(ABC):
    """Examples of one split, in a fixed order.

    ``counts``: (N,) scored symbols of each row, of data that is measured per symbol (``Dataset.per``); None elsewhere.
    ``groups``: (N,) the number of the sequence that each row is of, where rows of one depend on each other; None: rows
    are independent. ``weights``: (N,) of each row in an average over the split; None: all count alike.
    """

    counts: Tensor | None = None
    groups: Tensor | None = None
    weights: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, index: Tensor) -> Batch:
        """Examples by position, in data space, on the device of the split."""

    def to(self, device: torch.device) -> Split:
        """The same split with its examples on a device, where it keeps them in memory; else itself."""
        return self

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Hash of the examples and labels in order: two records compare only if it is the same."""


@dataclass(frozen=True)
class Modes:
    """The modes of a distribution: equal, round and apart.

    centres: (K, D); deviation: the standard deviation of each coordinate within a mode.
    """

    centres: Tensor
    deviation: float


class Dataset(ABC):
    """Named examples with a specification and fixed splits.

    ``entropy``: H of the true distribution in nats where it is known, so that a record can show NLL - H.
    ``modes``: of the true distribution where they are known, so that samples can be counted on them.
    ``binarization``: the named protocol that made grey data binary, or None. ``train_on``: what training reads.
    ``unit``: (low, width) of integer data whose k stands for the interval low + width [k, k+1) of a real quantity.
    ``per``: what one coordinate is of data that is measured in nats per symbol: ``char``, ``byte`` or ``symbol``; rows
    are then windows, whose given part is not scored, ``entropy`` is a rate, and the model must be Autoregressive.
    None: data is measured in nats per example. ``typed``: paths as the user typed them, by the absolute ones.
    ``in_sample``: whether the test split is the training split, as where there is one observation; records say so.
    ``box``: outside of which real vectors have no density; preprocessing maps it onto R^D. None: there is no such box.
    ``task``: of data that a simulator made; ``target``: what of it is x; ``observations``: theta (K, D) and x (K, C) of
    what posteriors are asked about, where nobody says.
    ``follows``: of data in the order of time, whose y is the state before x, or several of which the latest comes last:
    so many rows further on is the row whose y is ``following(y, x)``, unless a trajectory ends in between. ``entropy``
    is then that of x given y. None elsewhere.
    """

    name: str
    spec: Spec
    entropy: float | None = None
    modes: Modes | None = None
    binarization: str | None = None
    train_on: str = "train"
    unit: tuple[float, float] | None = None
    per: Literal["char", "byte", "symbol"] | None = None
    typed: Mapping[str, str] = MappingProxyType({})
    in_sample: bool = False
    box: Box | None = None
    task: Task | None = None
    target: Target | None = None
    observations: tuple[Tensor, Tensor] | None = None
    follows: int | None = None

    def protocol(self) -> dict[str, object]:
        """What else a number on this data depends on; joins the protocol of its records."""
        return {}

    def schema(self) -> dict[str, Any]:
        """What was understood of the user's files and no option says: columns, classes, alphabet, scales; plain data.

        A run keeps it in data.json, and ``apply`` gives it to the same data set when the run is opened again, so that a
        new file is read as the training file was, and sampling needs no file at all.
        """
        return {}

    def apply(self, schema: Mapping[str, Any]) -> None:
        """Take the meaning of files from a run, before anything of a file is read; ``spec`` is that of the run then.

        Raises:
            UsageError: this data set keeps none, or the schema is damaged.
        """
        raise UsageError(f"data={self.name} keeps no schema, but the run has a data.json")

    def older(self) -> None:  # noqa: B027
        """Called in place of ``apply`` where the run is older than data.json: files are read as gencli did then."""

    def understood(self) -> list[str]:
        """What was understood of the user's files, a line each; said before training, and of a new file before eval."""
        return []

    def class_names(self) -> list[str] | None:
        """What the classes 0, 1, ... are called in the user's files; None where they have no names."""
        return None

    def names(self) -> list[str] | None:
        """What the coordinates of x are called in the user's files; None where they have no names."""
        if self.spec.kind != "vector":
            return None
        dtype = torch.long if self.spec.support.discrete else torch.float
        cells = self.to_rows(torch.zeros(1, *self.spec.shape, dtype=dtype))
        return [*cells] if cells is not None and len(cells) == self.spec.dim else None

    def context_names(self) -> list[str] | None:
        """What the class, or each coordinate of the context, is called in the user's files; None: it has no name."""
        return None

    def keep_float64(self, x: bool, y: bool) -> None:  # noqa: B027
        """Called when a run is opened: whether its x and contexts y are in float64, which a new file must be, too."""

    def whole(self) -> Split | None:
        """Every example of the user's file in its order, whatever split it is in; None where data is no file."""
        return None

    @abstractmethod
    def split(self, name: str) -> Split | None:
        """``train``, ``val`` or ``test``, read at the first call; None where this data has no such split."""

    def training(self) -> Split | None:
        """What the loop reads and ``augment`` finishes: other than split("train") where examples are drawn anew."""
        return self.split("train")

    def augment(self, x: Tensor, noise: Noise) -> Tensor:
        """Training only: rows of ``training`` -> examples in data space."""
        return x

    def encode(self, text: str) -> Tensor:
        """Text as symbols (T,) of this data, for a prompt.

        Raises:
            ValueError: this data is no text, or lacks a character.
        """
        raise ValueError("sampler.prompt needs data that is text")

    def to_text(self, x: Tensor) -> list[str] | None:
        """Examples of data space as text; None where data is none."""
        return None

    def to_rows(self, x: Tensor) -> dict[str, list[Any]] | None:
        """Examples (n, D) of data space as the columns of a table, name -> n cells: numbers, texts, truths or None.

        None is a missing cell. None instead of columns: this data is no table.
        """
        return None

    def from_rows(self, cells: Mapping[str, np.ndarray]) -> Tensor | None:
        """Examples (n, D) of data space from columns of a table by name, as ``to_rows`` gives them.

        Columns that are none of the data's are not read. None: this data is no table.

        Raises:
            UsageError: a column is missing, or a cell is none of the data.
        """
        return None

    def to_plane(self, x: Tensor) -> Tensor | None:
        """Examples of data space as points (n, 2) of the plane that they stand for; None where they stand for none."""
        return None

    def from_plane(self, points: Tensor) -> Tensor | None:
        """The examples (n, *) that stand for points (n, 2) of the plane, or are near; None: there are none."""
        return None

    def law(self) -> tuple[Tensor, Tensor] | None:
        """All examples that there are (S, *), and log p of each in nats (S,), -inf where it is none.

        None where they are too many, or their distribution is not known.
        """
        return None

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor | None:
        """log p(x given y) (B,) in nats of the distribution that data were drawn from; None: it is not known."""
        return None

    def following(self, y: Tensor, x: Tensor) -> Tensor:
        """The context (n, *) of the step after x, which came of the context y; see ``follows``."""
        return torch.cat([y.flatten(1)[:, self.spec.dim :], x.flatten(1).to(y)], 1).view(y.shape)

    def to_image(self, x: Tensor) -> Tensor | None:
        """Examples of data space as images (n, 1 or 3, H, W) in [0, 1]; None where there is nothing to look at."""
        return None
