"""``gencli eval``: how much probability does a model give to a split, how near are its samples, how sure are we?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from gencli.core import distributed
from gencli.core.errors import RunFailed, UsageError
from gencli.run import quality
from gencli.run.nll import measure
from gencli.run.record import headline
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
        run = open_run({**cfg, "device": local_device(cfg["device"], world)}, "eval", "estimator", "sampler")
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
            show(record, reporter)
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


def show(record: dict[str, Any], reporter: Reporter) -> None:
    """The headline, its ledger, and what should make one doubt."""
    reporter.say(headline(record), style="bold")
    if len(record["ledger"]) > 1:
        reporter.say("  " + "  ".join(f"{line['term']} {line['nats']:+.3f}" for line in record["ledger"]))
    kind, _, levels = str(record["protocol"]["support"]).partition(":")
    if kind in ("levels", "categorical") and record["bits_per_dim"] > math.log2(int(levels)):
        reporter.warn(f"worse than the uniform distribution on {levels} levels ({math.log2(int(levels)):.3f} bits/dim)")
    difference = record["diagnostics"].get("nll_minus_entropy")
    if difference is not None and record["se_examples"] and difference < -3 * record["se_examples"]:
        reporter.warn("the NLL lies below the data's entropy by more than 3 standard errors: something is wrong")


def local_device(device: str, world: distributed.World) -> str:
    """Under torchrun each process takes the GPU of its local rank."""
    return (
        f"cuda:{world.local_rank}"
        if world.size > 1 and device in ("auto", "cuda") and torch.cuda.is_available()
        else device
    )
