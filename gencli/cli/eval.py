"""``gencli eval``: how much probability does a model give to a split, how near are its samples, how sure are we?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gencli.core import distributed
from gencli.core.errors import RunFailed, UsageError
from gencli.run import quality
from gencli.run.device import on_this_rank
from gencli.run.nll import measure
from gencli.run.reporter import Reporter, relative
from gencli.run.run import open_run


def evaluate_run(cfg: Mapping[str, Any]) -> list[dict[str, Any]]:
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
        metrics = quality.build(wanted, run.parts, cfg["trust"])
        size = cfg["batch_size"] or run.config["trainer"]["eval_batch_size"]
        records = []
        if cfg["estimator"] or not metrics:
            record = measure(
                run.parts,
                cfg["split"],
                cfg["estimator"] or {},
                str(cfg["choices"].get("estimator")),
                seed=cfg["seed"],
                batch_size=size,
                examples=cfg["examples"] or run.config["trainer"].get("eval_examples"),
                run=run.path,
                world=world,
                reporter=reporter,
            )
            reporter.result(record)
            reporter.say(f"  {relative(run.path / 'eval' / (record['split'] + '-' + record['estimator'] + '.json'))}")
            records.append(record)
        if metrics:
            for found in quality.measure(
                run.parts,
                metrics,
                cfg,
                split_name=cfg["split"],
                n=cfg["n"],
                seed=cfg["seed"],
                batch_size=size,
                run=run.path,
                reporter=reporter,
            ):
                reporter.say(quality.headline(found), style="bold")
                reporter.say(f"  {relative(run.path / 'eval' / (found['split'] + '-' + found['metric'] + '.json'))}")
                records.append(found)
    finally:
        distributed.leave()
    broken = records[0].get("n_nonfinite")
    if broken:
        raise RunFailed(f"{broken} of {records[0]['n_examples']} examples have no finite NLL: the value is inf")
    return records
