"""A run as metrics and questions see it, and the asking of a question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gencli.config import stored
from gencli.core.errors import UsageError
from gencli.core.noise import Noise, Purpose, RowNoise, stream
from gencli.core.spec import Batch, Bound
from gencli.data.base import Dataset
from gencli.estimators.base import Shared
from gencli.models.subject import Subject
from gencli.run import sampling
from gencli.run.assembly import Parts, check_part, data_factory
from gencli.run.nll import prepare
from gencli.run.opened import builder
from gencli.run.record import composed_bound
from gencli.run.scoring import held_out_streams, score_rows
from gencli.samplers.base import Answer, Question, Sampler


@dataclass(frozen=True, kw_only=True)
class RunSubject(Subject):
    """A subject that is a run.

    Args:
        parts: of the run, with the sampler that it draws by.
        root: where data files lie.
        tick: told how many samples of a draw are there.
    """

    parts: Parts
    root: str | None = None
    tick: Callable[[int], None] = lambda done: None

    @cached_property
    def _shared(self) -> Shared:
        parts = self.parts
        if parts.estimator is None:
            raise UsageError("estimator=null: this needs an estimator of the NLL; see `gencli list estimator`")
        return prepare(parts, parts.estimator, type(parts.estimator).__name__, self.seed)

    @property
    def bound(self) -> Bound:
        return composed_bound(self._shared.bound, self.preprocess.bound)

    def nll(self, batch: Batch) -> Tensor:
        shared, estimator = self._shared, self.parts.estimator
        assert estimator is not None
        streams = held_out_streams(self.seed, estimator.draws)
        found = []
        for rows in torch.arange(len(batch.x)).split(self.batch_size):
            there = batch.rows(rows).to(self.device)
            scores = score_rows(
                self.preprocess,
                lambda some, noise: estimator.nll(self.parts.model, some, noise, shared),
                there,
                rows.to(self.device),
                streams,
            )
            found.append(scores.nll)
        return torch.cat(found)

    def draw(self, n: int, y: Tensor | None = None, number: int = 0) -> Tensor:
        seed = self.seed if number == 0 else stream(self.seed, Purpose.METRICS, number)
        return sampling.draw(self.parts, n, seed, y, batch_size=self.batch_size, tick=self.tick).x

    def noise(self, rows: Tensor, number: int = 0) -> Noise:
        return RowNoise(stream(self.seed, Purpose.METRICS, number), rows.to(self.device))

    def data(self, name: str) -> Dataset:
        from gencli.config.compose import compose, quote

        words = [f"data={quote(name)}"] + ([] if self.root is None else [f"data.root={quote(self.root)}"])
        return data_factory(compose("train", words)["data"], self.parts.trust, download=False, schema=None)()


def subject(parts: Parts, split: str, seed: int, batch_size: int | None = None) -> Subject:
    """A run as metrics and questions see it.

    Args:
        parts: of the run; a question in place of its sampler gives way to the sampler that it was trained with.
        split: the examples that it is held against.
        seed: of everything random.
        batch_size: rows at a time; None: the run's own.

    Raises:
        UsageError: there is no such split.
    """
    assert parts.run is not None, "fresh weights answer nothing"
    config = stored.config(parts.run)
    if isinstance(parts.sampler, Question):
        node = config.get("sampler")
        own = builder(parts.trust).component(node, Sampler) if node else None
        parts = replace(parts, sampler=own)
        if own is not None:
            check_part("sampler", own, parts)
    found = parts.dataset.split(split)
    if found is None:
        raise UsageError(f"split={split}: data={parts.dataset.name} has none")
    return RunSubject(
        model=parts.view,
        learned=parts.learned,
        dataset=parts.dataset,
        preprocess=parts.preprocess,
        split=found,
        device=parts.device,
        seed=seed,
        batch_size=batch_size or config["trainer"]["eval_batch_size"],
        parts=parts,
        root=config["data"].get("root"),
    )


def held_out_subject(parts: Parts, seed: int, batch_size: int | None = None) -> Subject:
    """A run beside its test split, else validation, else what there is; see ``subject``."""
    name = next((name for name in ("test", "val", "train") if parts.dataset.split(name) is not None), "test")
    return subject(parts, name, seed, batch_size)


def ask(parts: Parts, n: int | None, seed: int, batch_size: int | None = None, split: str | None = None) -> Answer:
    """The answer to the question that stands in place of a run's sampler, about its examples.

    Args:
        parts: of the run, with the question for sampler.
        n: rows; None: as many as is usual.
        seed: of everything random.
        batch_size: rows at a time; None: the run's own.
        split: of the examples; None: held-out ones.

    Raises:
        UsageError: it does not fit these data.
    """
    question = parts.sampler
    assert isinstance(question, Question)
    n = question.usual_n if n is None else n
    about = held_out_subject(parts, seed, batch_size) if split is None else subject(parts, split, seed, batch_size)
    try:
        return question.answer(about, n)
    except ValueError as error:
        raise UsageError(str(error)) from error
