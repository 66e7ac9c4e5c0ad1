"""Measuring a run on one split, and keeping its records: what the held-out NLL and metrics on samples share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from gencli.config import stored
from gencli.core import distributed, seals
from gencli.core.errors import UsageError
from gencli.core.files import inside, write_sealed, write_whole
from gencli.data.base import Split
from gencli.data.split import SPLITS
from gencli.run import checkpoint as checkpoints
from gencli.run import naming
from gencli.run.assembly import Parts
from gencli.run.record import Record
from gencli.run.reporter import Reporter

R = TypeVar("R", bound=Record)

MOST_CLASSES = 1000
"""Whose names a record tells; those of more are in data.json."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured, on what, and where the records go.

    Args:
        parts: with the checkpoint's weights.
        run: the run folder.
        config: what was asked for, with choices of options; of a run itself, its own config.
        trained: the run's own config.
        split: ``train``, ``val``, ``test``, or ``all`` of a file.
        seed: of everything random.
        batch_size: rows at a time.
        world: this process among its peers.
        reporter: told the progress.
        own: it is the run's own, at the end of its training, whose record is named by split and estimator alone.
    """

    parts: Parts
    run: Path
    config: Mapping[str, Any]
    trained: Mapping[str, Any]
    split: str
    seed: int
    batch_size: int
    world: distributed.World = field(default_factory=distributed.World)
    reporter: Reporter = field(default_factory=lambda: Reporter(quiet=True))
    own: bool = False

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

    @property
    def differing(self) -> list[str]:
        """How weights, checkpoint and seed differ from those of the run's own measurement."""
        found = naming.state(self.parts.weights, self.parts.checkpoint, self.run, self.trained)
        return found + ([f"seed={self.seed}"] if self.seed else [])

    def facts(self, split: Split) -> dict[str, Any]:
        """Fields of any record of these examples, which may be some of the split."""
        file, names = self.parts.checkpoint, self.parts.dataset.class_names()
        return {
            "split": self.split,
            "split_sha256": split.sha256,
            "weights": self.parts.weights,
            "classes": names if names and self.parts.model.conditional and len(names) <= MOST_CLASSES else None,
            "checkpoint": file.stem if file else None,
            "checkpoint_sha256": checkpoints.file_sha256(file) if file else None,
            "seed": self.seed,
        }


class Quantity(ABC, Generic[R]):
    """Something that can be measured: the NLL by an estimator, some metrics on samples."""

    @abstractmethod
    def records(self, at: Measurement) -> Iterator[tuple[R, bytes | None, list[str]]]:
        """The records, one after the other, each with the arrays (npz) that are kept beside it, and how it differs.

        What differs from the run's own measurement of this name, settings and numbers of examples, joins the file's.

        Raises:
            UsageError: it cannot be measured there.
        """


def measure(at: Measurement, quantity: Quantity[R]) -> Iterator[tuple[R, Path]]:
    """Measure, and write eval/<split>-<name>[-<what differs>].json for each record before it is given with its path.

    Raises:
        UsageError: there is no such split, or the quantity cannot be measured on it.
    """
    for record, arrays, differing in quantity.records(at):
        stem = naming.joined(record.split, record.name, differing=[*differing, *at.differing])
        if not at.own and _other_data(at, stem, record):
            stem = naming.joined(stem, differing=[_data_file(at.config).stem, record.split_sha256[:8]])
        if at.world.main:
            if arrays is not None:
                write_whole(inside(at.run, "eval", f"{stem}.npz"), arrays)
            scores = None if arrays is None else seals.sha256(arrays)
            file = inside(at.run, "eval", f"{stem}.json")
            write_sealed(file, record.plain(), run=stored.identity(at.run), scores=scores)
        yield record, at.run / "eval" / f"{stem}.json"


def _other_data(at: Measurement, stem: str, record: Record) -> bool:
    """Whether this was measured on other examples than the run's record of this name, or than its data file."""
    try:
        known = stored.record(at.run / "eval" / f"{stem}.json")
    except UsageError:  # there is none, or it is damaged
        return _data_file(at.config) != _data_file(at.trained)
    data = (known.get("protocol") or {}).get("data")
    return known.get("split_sha256") != record.split_sha256 or data != record.protocol["data"]


def _data_file(config: Mapping[str, Any]) -> Path:
    """Where the user's data lie; of other data, their name."""
    return Path(config["data"].get("path") or config["choices"]["data"]).expanduser().absolute()
