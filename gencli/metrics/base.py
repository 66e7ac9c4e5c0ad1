"""The contract of the group ``metric``: how good a trained model is, beside its NLL.

A ``SampleMetric`` sees samples and held-out examples; a ``ModelMetric`` asks the model about these; an ``AnswerMetric``
sees what a question in place of the sampler answers about them. Distances between samples are those of examples *as
they are shown*, so that no coordinate counts by the unit that it happens to have:

- ``levels:K`` and ``binary``: x / (K - 1), in [0, 1]; ``unit``: as it is.
- ``categorical:K``: one-hot / sqrt(2), so that two different symbols are at distance 1.
- ``real``: each coordinate standardised by mean and deviation of the reference examples (never of the training split).
- columns of several kinds: each as above; one that may be missing has one more coordinate, 1 where it is and else 0,
  and lies at 0 in all others then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Purpose, stream
from gencli.core.spec import Batch, Spec, Support
from gencli.data.base import Dataset
from gencli.models.base import Model
from gencli.models.subject import Subject
from gencli.samplers.base import Answer


def scaled(x: Tensor, spec: Spec) -> Tensor:
    """Examples (n, *) of data space as float vectors (n, D'); reals stay as they are, float64 where they need it."""
    if not spec.support.columns:
        return _scaled(x, spec.support)
    return torch.cat([_scaled(x[:, d : d + 1], column) for d, column in enumerate(spec.support.columns)], 1)


def _scaled(x: Tensor, support: Support) -> Tensor:
    """Coordinates (n, *) of one support."""
    kind, levels = support.kind, support.levels
    if support.optional:
        missing = x.isnan()
        values = _scaled(x.nan_to_num(0.0), replace(support, optional=False))
        return torch.cat([values.masked_fill(missing, 0.0), missing.float()], 1)
    if kind == "categorical":
        assert levels is not None
        return F.one_hot(x.long(), levels).flatten(1).float() / 2**0.5
    x = x.flatten(1)
    return (x if x.dtype == torch.float64 else x.float()) / (levels - 1 if levels else 1)


@dataclass
class Samples:
    """Samples and the examples that they are compared with, in data space and on one device.

    Args:
        x: (n, *) samples.
        y: their labels or contexts, None for an unconditional model.
        reference: (m, *) held-out examples.
        dataset: where the reference comes from.
        seed: of everything random in a metric.
    """

    x: Tensor
    y: Tensor | None
    reference: Batch
    dataset: Dataset
    seed: int = 0

    @cached_property
    def shown(self) -> tuple[Tensor, Tensor]:
        """Samples (n, D') and reference (m, D') as they are shown."""
        spec = self.dataset.spec
        if spec.support.kind not in ("real", "mixed"):
            return scaled(self.x, spec).float(), scaled(self.reference.x, spec).float()
        x, reference = self.x.flatten(1), self.reference.x.flatten(1)
        exact = reference.cpu().double()
        mean, std = (exact.mean(0), exact.std(0)) if spec.alike else (exact.nanmean(0), _nanstd(exact))
        std = torch.where(std > 0, std, 1.0)  # a coordinate that is constant in the reference
        for d, column in enumerate(spec.support.columns):
            if column.kind != "real":
                mean[d], std[d] = 0.0, 1.0
        mean, std = mean.to(reference), std.to(reference)
        shown = [((rows - mean) / std).float().view(-1, *spec.shape) for rows in (x, reference)]
        return scaled(shown[0], spec), scaled(shown[1], spec)

    def generator(self, number: int) -> torch.Generator:
        """A generator on the CPU, for a metric's own draws of this number."""
        return torch.Generator().manual_seed(stream(self.seed, Purpose.METRICS, number))


def _nanstd(x: Tensor) -> Tensor:
    """Standard deviation of each column of x (n, D) over the values that are there; NaN of fewer than two."""
    squares, n = (x - x.nanmean(0)).square().nansum(0), (~x.isnan()).sum(0)
    return (squares / (n - 1)).sqrt()


def space(spec: Spec) -> str:
    """How ``shown`` scales data, for the record."""
    kind = spec.support.kind
    if kind == "mixed":
        return "; ".join(dict.fromkeys(f"{c.kind}: {space(Spec((1,), c))}" for c in spec.support.columns))
    if kind == "real":
        return "standardised by the reference examples"
    if kind == "categorical":
        return "one-hot / sqrt(2)"
    return "as it is" if kind == "unit" else "x / (K - 1)"


@dataclass
class Measured:
    """What a metric gives.

    Args:
        value: the number that runs are ranked by.
        se: its standard error over samples and reference; None: none is known.
        diagnostics: numbers that belong to it, the most telling first.
        facts: what else decides it, such as the hash of a network's weights; ``says``: what the value is, in words.
        drawn: samples that a ``ModelMetric`` drew; 0: it needed none.
        examples: that a ``ModelMetric`` asked about; None: all of the split.
    """

    value: float
    se: float | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    drawn: int = 0
    examples: int | None = None


class Metric(ABC):  # noqa: B024 (its heirs have a method each)
    """A number that says how good a trained model is: a frozen dataclass whose fields are its options.

    better: whether a ``lower`` or a ``higher`` value is better.
    needs: what it needs of data or model, in words, for ``gencli list metric``.
    example_keys: keys that an example of a command needs beside it.
    """

    better: ClassVar[str] = "lower"
    needs: ClassVar[str] = "any data"
    example_keys: ClassVar[str] = ""

    def check(self, dataset: Dataset, model: Model) -> None:  # noqa: B027
        """Refuse data, models and installations that this metric cannot serve, before anything is drawn.

        Raises:
            ValueError: says what is needed.
        """


class SampleMetric(Metric):
    """How far samples are from a reference."""

    @abstractmethod
    def measure(self, samples: Samples) -> Measured:
        """Compare samples with their reference.

        Raises:
            ValueError: there are too few of them, or a setting does not fit them.
        """


class ModelMetric(Metric):
    """What a model tells of held-out examples: by its likelihood, or by samples drawn for each of them."""

    @abstractmethod
    def measure(self, subject: Subject) -> Measured:
        """Ask a trained model about the examples of ``subject.split``.

        Raises:
            ValueError: there are too few of them, or a setting does not fit the model.
        """


class AnswerMetric(Metric):
    """How good an answer is that a question gives about held-out examples.

    ``question``: its option of the group ``sampler``, which the command chooses.
    """

    question: ClassVar[str]

    @abstractmethod
    def measure(self, answer: Answer) -> Measured:
        """Look at an answer about the first examples of a split.

        Raises:
            ValueError: it holds nothing that can be measured.
        """


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 for rows of a (n, D) and b (m, D): (n, m); differences where D is small, else by a product."""
    if a.shape[1] <= 16:  # exact even for near points, and as fast
        total = torch.zeros(len(a), len(b), device=a.device)
        for k in range(a.shape[1]):
            total += (a[:, k, None] - b[None, :, k]).square()
        return total
    centre = b.mean(0)  # far from 0 the squares would leave nothing of the differences
    a, b = a - centre, b - centre
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp(min=0)


ENTRIES = 2**21
"""Entries of a matrix of distances that are held at once."""


def row_blocks(rows: int, columns: int, device: torch.device) -> tuple[Tensor, ...]:
    """Row indices in blocks of at most ``ENTRIES`` entries."""
    return torch.arange(rows, device=device).split(max(1, ENTRIES // columns))
