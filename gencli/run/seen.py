"""How many of the examples that are measured are among those that the weights were trained on.

They are where a file of the user's deals its splits itself and some rows stand in two, where a file has grown or was
split anew, or where a run began with the weights of one that had another split (``init_from``). Examples are told
apart by their values. Equal ones are no sign of anything where the rows of the data repeat: what counts is more of them
than the repeats among training rows explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gencli.config import stored
from gencli.core.errors import UsageError
from gencli.data.base import Dataset, Split
from gencli.data.split import row_hashes
from gencli.run.assembly import data_factory
from gencli.run.measure import Measurement

DEEPEST = 8
"""Runs that began with a run that began with a run ..."""
BY_CHANCE = 4.0
"""Standard deviations above what repeats explain."""


@dataclass(frozen=True)
class Seen:
    """The examples of a split that the weights were trained on.

    Args:
        count: how many; None: it is not known, because what the weights were trained on is not there any more.
        total: examples of the split.
    """

    count: int | None
    total: int

    @property
    def flag(self) -> str | None:
        """What a record says of it; None: nothing."""
        if self.count is None:
            return "not known whether the weights were trained on some of these examples"
        return f"the weights were trained on {self.count:,} of {self.total:,} examples" if self.count else None

    def told(self, split: str, weights: str = "the weights") -> str | None:
        """A line for people; None: there is nothing to say.

        Args:
            split: of the examples.
            weights: what was trained.
        """
        examples = "examples" if split == "all" else f"{split} examples"
        if self.count is None:
            return f"what {weights} were trained on is not there any more: some {examples} may be among it"
        if not self.count:
            return None
        return (
            f"{self.count:,} of {self.total:,} {examples} are equal to examples that {weights} were trained on: "
            "their NLL is not that of new ones"
        )

    @classmethod
    def of(cls, split: Split, trainings: Sequence[Split | None]) -> Seen:
        """Count the examples of a split among those of training splits; None is one that is gone."""
        seen = np.zeros(len(split), dtype=bool)
        for training in trainings:
            if training is not None and len(training) and len(split):
                seen |= _among(split, training)
        count = int(seen.sum())
        return cls(None if not count and None in trainings else count, len(split))


def _among(split: Split, training: Split) -> np.ndarray:
    """Which examples (N,) of a split are equal to training rows; none, if these repeat so often among themselves."""
    first = [each.gather(torch.arange(1)) for each in (split, training)]
    labels = all(batch.y is not None for batch in first)
    types = [(batch.x.dtype, batch.y.dtype if labels and batch.y is not None else None) for batch in first]
    asked, known = (row_hashes(each, labels=labels, narrow=types[0] != types[1]).numpy() for each in (split, training))
    rows, copies = np.unique(known, return_counts=True)
    found = np.isin(asked, rows)
    # a new example equals a training row about as often as a training row equals another one
    n, share = len(asked), float(copies[copies > 1].sum()) / len(known)
    deviation = math.sqrt(n * share * (1 - share) * (1 + n / len(known)))
    return found & (found.sum() > n * share + BY_CHANCE * deviation)


def by_origin(
    origin: Path, dataset: Dataset, data: Mapping[str, Any], names: Sequence[str], trust: Sequence[str]
) -> dict[str, Seen]:
    """How many examples of a new run's splits the weights that it begins with were trained on, by split.

    Args:
        origin: the run whose weights the new one begins with.
        dataset: of the new run.
        data: its section of the config.
        names: of the splits that may be opened.
        trust: packages whose classes a config may name.
    """
    splits = {name: split for name in names if (split := dataset.split(name)) is not None}
    runs = [run for run in lineage(origin) if not _same_training(run, dataset, data)]
    trainings = [_training(run, None, trust) for run in runs] if splits else []
    return {name: Seen.of(split, trainings) for name, split in splits.items()}


def kept(begun: Mapping[str, Any], name: str) -> Seen | None:
    """What run.json's entry ``init_from`` says of a split; None: nothing."""
    told = begun.get("seen")
    found = told.get(name) if isinstance(told, dict) else None
    if not isinstance(found, dict) or {*found} != {"count", "total"}:
        return None
    count, total = found["count"], found["total"]
    return Seen(count, total) if isinstance(count, int | None) and isinstance(total, int) else None


def seen(at: Measurement) -> Seen | None:
    """What of the examples that are measured the weights were trained on; None: there is no reason to ask."""
    dataset, begun = at.parts.dataset, at.trained.get("init_from")
    if at.split == "train" or dataset.in_sample:
        return None
    origins = [*lineage(Path(begun))] if begun else []
    if at.split != "all" and (at.own or _same_data(at)):
        if not origins:
            hashed = _info(at.run).get("data_sha256") is not None  # else all files would have to be read for it
            return Seen.of(at.examples, [_rows(dataset)]) if hashed and at.config["data"].get("path") else None
        if (found := kept(_info(at.run).get("init_from") or {}, at.split)) is not None:
            return found
        runs = [run for run in origins if not _same_training(run, dataset, at.config["data"])]
    else:
        runs = [at.run, *origins]
    return Seen.of(at.examples, [_training(run, dataset, at.parts.trust) for run in runs])


def lineage(run: Path) -> Iterator[Path]:
    """A run, the one that it began with, and so on, as far as they are there."""
    for _ in range(DEEPEST):
        yield run
        try:
            before = stored.config(run).get("init_from")
        except UsageError:
            return
        if not before:
            return
        run = Path(before)


def _info(run: Path) -> Mapping[str, Any]:
    """run.json; empty where it is gone or damaged."""
    try:
        return stored.info(run)
    except UsageError:
        return {}


def _sha256(dataset: Dataset) -> str | None:
    """Hash of a training split; None where it cannot be read."""
    try:
        train = dataset.split("train")
    except (UsageError, ValueError):
        return None
    return None if train is None else train.sha256


def _same_training(run: Path, dataset: Dataset, data: Mapping[str, Any]) -> bool:
    """Whether a run was trained on the training split of this data set, whose other splits it has not seen then."""
    own = _info(run).get("data_sha256")
    if own is not None:
        return bool(own == _sha256(dataset))
    try:  # files of which all would have to be read for a hash, or an older run
        return not _differing(stored.config(run)["data"], data, ("root", "download", "memory"))
    except UsageError:
        return False


def _differing(own: Mapping[str, Any], asked: Mapping[str, Any], free: Sequence[str]) -> bool:
    """Whether two sections of data differ in more than keys that are free to."""
    return any(own.get(key) != asked.get(key) for key in {*own, *asked}.difference(free))


def _same_data(at: Measurement) -> bool:
    """Whether the data are still those of the run, wherever they lie now: its own splits, dealt as then."""
    own, asked = at.trained["data"], at.config["data"]
    if _differing(own, asked, ("root", "path", "separator", "decimal", "download", "memory")):
        return False
    sha256 = _info(at.run).get("data_sha256")
    if not own.get("path") or sha256 is None:  # no file of the user, or one that would have to be read for it
        return own.get("path") == asked.get("path")
    return bool(sha256 == _sha256(at.parts.dataset))


def _training(run: Path, here: Dataset | None, trust: Sequence[str]) -> Split | None:
    """The training split of a run, if its files, or those of the data set that is open, are what it was trained on."""
    sha256 = _info(run).get("data_sha256")
    if here is not None and sha256 is not None and _sha256(here) == sha256:
        return _rows(here)
    try:
        data = stored.config(run)["data"]
        dataset = data_factory(data, trust, download=False, schema=stored.schema(run))()
        return _rows(dataset) if sha256 in (None, _sha256(dataset)) else None
    except (UsageError, ValueError):
        return None


def _rows(dataset: Dataset) -> Split | None:
    """What was trained on, in data space; of a text every window."""
    return dataset.training() if dataset.per is not None else dataset.split("train")
