"""Measuring a run on one split, and keeping its records: what the held-out NLL and metrics on samples share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from gencli.core import distributed
from gencli.core.errors import UsageError
from gencli.core.files import inside, write_json, write_whole
from gencli.data.base import Split
from gencli.data.split import SPLITS
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts
from gencli.run.record import Record
from gencli.run.reporter import Reporter

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured, on what, and where the records go.

    Args:
        parts: with the checkpoint's weights.
        run: the run folder.
        split: ``train``, ``val``, ``test``, or ``all`` of a file.
        seed: of everything random.
        batch_size: rows at a time.
        world: this process among its peers.
        reporter: told the progress.
    """

    parts: Parts
    run: Path
    split: str
    seed: int
    batch_size: int
    world: distributed.World = field(default_factory=distributed.World)
    reporter: Reporter = field(default_factory=lambda: Reporter(quiet=True))

    @cached_property
    def examples(self) -> Split:
        """The split.

        Raises:
            UsageError: the data has none of this name.
        """
        if self.split not in (*SPLITS, "all"):
            raise UsageError(f"split={self.split}: train, val, test or all")
        dataset = self.parts.dataset
        split = dataset.whole() if self.split == "all" else dataset.split(self.split)
        if split is None:
            raise UsageError(f"split={self.split}: data={self.parts.dataset.name} has none")
        if self.parts.model.conditional and len(split) and split.gather(torch.arange(1)).y is None:
            raise UsageError(f"split={self.split}: the model is conditional, but these examples have no labels")
        return split

    def facts(self, split: Split) -> dict[str, Any]:
        """Fields of any record of these examples, which may be some of the split."""
        file = self.parts.checkpoint
        return {
            "split": self.split,
            "split_sha256": split.sha256,
            "weights": self.parts.weights,
            "checkpoint": file.stem if file else None,
            "checkpoint_sha256": checkpoints.file_sha256(file) if file else None,
            "seed": self.seed,
        }


class Quantity(ABC, Generic[R]):
    """Something that can be measured: the NLL by an estimator, some metrics on samples."""

    @abstractmethod
    def records(self, at: Measurement) -> Iterator[tuple[R, bytes | None]]:
        """The records, one after the other, each with the arrays (npz) that are kept beside it.

        Raises:
            UsageError: it cannot be measured there.
        """


def measure(at: Measurement, quantity: Quantity[R]) -> Iterator[R]:
    """Measure, and write eval/<split>-<name>.json for each record before it is given.

    Raises:
        UsageError: there is no such split, or the quantity cannot be measured on it.
    """
    for record, arrays in quantity.records(at):
        if at.world.main:
            stem = f"{record.split}-{record.name}"
            if arrays is not None:
                write_whole(inside(at.run, "eval", f"{stem}.npz"), arrays)
            write_json(inside(at.run, "eval", f"{stem}.json"), record.plain())
        yield record
