"""A trained model beside its data, in data space: what metrics measure, and what questions are put to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch, Bound
from gencli.data.base import Dataset, Split
from gencli.data.preprocess import Preprocess
from gencli.models.base import Model
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class Subject(ABC):
    """A trained model, its data, and the way between their spaces.

    Everything that is random is a function of (``seed``, number, row), whatever the batch size.

    Args:
        model: at its valid times.
        learned: which of its outputs are valid.
        dataset: what it was trained on, opened as the run keeps it.
        preprocess: data space <-> model space; ``preprocess.context`` for y.
        split: the examples that it is held against.
        device: where the model lies.
        seed: of everything random.
        batch_size: rows at a time.
    """

    model: Model
    learned: Learned
    dataset: Dataset
    preprocess: Preprocess
    split: Split
    device: torch.device
    seed: int
    batch_size: int

    @property
    @abstractmethod
    def bound(self) -> Bound:
        """What ``nll`` is to the true -log p(x given y)."""

    @abstractmethod
    def nll(self, batch: Batch) -> Tensor:
        """-log p(x given y) of each row in data space, (B,) nats on the CPU, by the estimator of the run.

        Raises:
            UsageError: the model has no estimator.
        """

    @abstractmethod
    def draw(self, n: int, y: Tensor | None = None, number: int = 0) -> Tensor:
        """n samples (n, *) in data units, by the sampler that the run was trained with.

        Args:
            n: how many.
            y: (n,) classes or (n, *) contexts in data space, one a sample; None: of an unconditional model.
            number: of the draw; other numbers have other noise.

        Raises:
            UsageError: the model has no sampler.
        """

    @abstractmethod
    def noise(self, rows: Tensor, number: int = 0) -> Noise:
        """Noise of rows (B,) by their names, other than that of ``draw``."""

    @abstractmethod
    def data(self, name: str) -> Dataset:
        """Another data set, by its option of the group ``data`` with its defaults.

        Raises:
            UsageError: there is none of this name.
        """
