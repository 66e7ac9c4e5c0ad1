"""What a training is measured by in the end: the NLL of the test split, and that of validation beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from gencli.config import sections
from gencli.core import distributed
from gencli.core.errors import Interrupted
from gencli.run.assembly import Parts
from gencli.run.measure import Measurement, measure
from gencli.run.nll import OF_PREPARATION, HeldOutNLL, prepare
from gencli.run.pace import LEAST, QUICK
from gencli.run.record import NLLRecord
from gencli.run.reporter import Reporter, relative
from gencli.training import splits

SHARE_OF_TEST = 2 / 3
"""Of the time, where validation is measured too."""


def measured(
    parts: Parts,
    run: Path,
    config: Mapping[str, Any],
    trained: float,
    test: bool,
    world: distributed.World,
    reporter: Reporter,
) -> NLLRecord:
    """The record of the test split; another of validation, by which runs are chosen, is written beside it.

    Of a trial of a search, whose test split stays closed, it is the record of validation alone.

    Both together take no longer than ``trainer.eval_minutes`` allows, about: what takes ten seconds is measured whole,
    and a few examples of the test split are measured however long they take.

    Args:
        parts: with the weights that are measured, and an estimator.
        run: the run folder.
        config: of the run.
        trained: seconds that training took.
        test: whether the test split is measured.
        world: this process among its peers.
        reporter: told the progress.

    Raises:
        Interrupted: a signal came; the record of what was measured until then is written, and said.
    """
    assert parts.estimator is not None
    options = sections.trainer(config["trainer"])
    split = splits.measured(parts.dataset, test)
    if test and split != "test":
        reporter.warn(f"data={parts.dataset.name} has no test split: the number below is of split={split}")
    seed = 0  # as ``gencli eval`` takes it, so that the two agree to the bit
    clock = _Time(options.eval_seconds(trained))
    spare = None if clock.budget is None or world.size > 1 else OF_PREPARATION * clock.budget
    shared = prepare(parts, parts.estimator, config["choices"]["estimator"], seed, reporter, spare)

    def nll(seconds: float | None) -> HeldOutNLL:
        return HeldOutNLL(estimator=parts.estimator, examples=options.most_examples, seconds=seconds, shared=shared)

    at = Measurement(
        parts=parts,
        run=run,
        config=config,
        trained=config,
        split=split,
        seed=seed,
        batch_size=options.eval_batch_size,
        world=world,
        reporter=reporter,
        own=True,
    )
    both = split == "test" and parts.dataset.split("val") is not None
    found: list[tuple[NLLRecord, Path]] = []
    try:
        for each in measure(at, nll(clock.left(SHARE_OF_TEST if both else 1.0))):
            found.append(each)  # before a stop comes out of ``measure``
        seconds = distributed.share(clock.left())
        if both and _fits(found[0][0], seconds):  # the number of the run comes first: a stop leaves it
            list(measure(replace(at, split="val"), nll(seconds)))
        elif both:
            reporter.say(f"no time was left for split=val: gencli eval run={relative(run)} split=val")
    except Interrupted:
        for record, file in found:
            reporter.result(record)
            reporter.say(f"  {relative(file)}")
        raise
    ((record, _),) = found
    if parts.preprocess.unbounded:
        reporter.warn(parts.preprocess.unbounded)
    return record


class _Time:
    """What is left of the seconds of a budget that begins now; None: there is no bound."""

    def __init__(self, budget: float | None) -> None:
        self.budget, self.began = budget, perf_counter()

    def left(self, share: float = 1.0) -> float | None:
        """A share of it; whatever preparation took, what is quick is measured whole."""
        if self.budget is None:
            return None
        return max(min(QUICK, self.budget), share * (self.budget - (perf_counter() - self.began)))


def _fits(test: NLLRecord, seconds: float | None) -> bool:
    """Whether a second split can be measured in this time, to go by the first; its fewest rows at least."""
    return seconds is None or test.seconds / test.n_examples * LEAST <= seconds
