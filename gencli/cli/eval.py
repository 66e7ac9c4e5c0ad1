"""``gencli eval``: how much probability does a model give to a split, how near are its samples, how sure are we?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from gencli.core import distributed
from gencli.core.errors import RunFailed, UsageError
from gencli.run import quality
from gencli.run.device import on_this_rank
from gencli.run.measure import Measurement, Quantity, measure
from gencli.run.nll import HeldOutNLL
from gencli.run.record import NLLRecord, Record
from gencli.run.reporter import Reporter, relative
from gencli.run.run import Run, open_run


def evaluate_run(cfg: Mapping[str, Any]) -> list[Record]:
    """Score a split of a run with an estimator, and compare samples with it by the metrics that were asked for.

    Every rank of torchrun takes its share of the NLL; metrics are for one process. With metrics, a run without an
    estimator has no NLL and needs none.

    Returns:
        The records, that of the NLL first.

    Raises:
        UsageError: there is nothing to measure, or a metric does not fit; before anything is measured.
        RunFailed: some example's NLL was not finite (after the records are written).
    """
    wanted = cfg.get("metrics") or {}
    world = distributed.join()
    try:
        if wanted and world.size > 1:
            raise UsageError(f"metrics=[{','.join(wanted)}] under torchrun: call gencli eval in one process")
        run = open_run({**cfg, "device": on_this_rank(cfg["device"], world)}, "eval", "estimator", "sampler")
        reporter = Reporter(quiet=not world.main)
        if cfg["n"] is not None and (not wanted or cfg["n"] < 1):
            raise UsageError(f"n={cfg['n']}: the number of samples for metrics=[...], at least 1")
        at = Measurement(
            parts=run.parts,
            run=run.path,
            config={**cfg, "data": run.config["data"]},
            trained=run.trained,
            split=cfg["split"],
            seed=cfg["seed"],
            batch_size=cfg["batch_size"] or run.config["trainer"]["eval_batch_size"],
            world=world,
            reporter=reporter,
        )
        records = []
        for record, file in chain.from_iterable(measure(at, quantity) for quantity in _quantities(cfg, run)):
            reporter.result(record)
            reporter.say(f"  {relative(file)}")
            records.append(record)
    finally:
        distributed.leave()
    for record in records:
        if isinstance(record, NLLRecord) and record.n_nonfinite:
            raise RunFailed(
                f"{record.n_nonfinite} of {record.n_examples} examples have no finite NLL: the value is inf"
            )
    return records


def _quantities(cfg: Mapping[str, Any], run: Run) -> list[Quantity[Any]]:
    """What the command asks for: the NLL, unless metrics are asked for and there is no estimator; the metrics."""
    metrics = quality.build(cfg.get("metrics") or {}, run.parts, cfg["trust"])
    wanted: list[Quantity[Any]] = []
    if cfg["estimator"] or not metrics:
        wanted.append(
            HeldOutNLL(
                estimator=run.parts.estimator,
                examples=cfg["examples"] or run.config["trainer"].get("eval_examples"),
            )
        )
    if metrics:
        wanted.append(quality.SampleMetrics(metrics=metrics, n=cfg["n"]))
    return wanted
