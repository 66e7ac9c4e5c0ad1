"""``gencli eval``: how much probability does a run's model give to a split, and how sure are we?"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gencli import checkpoint as checkpoints
from gencli import distributed
from gencli.build import component
from gencli.errors import RunFailed, UsageError
from gencli.evaluate import score_split
from gencli.interfaces import Estimator
from gencli.parts import Parts
from gencli.records import composed_bound, headline, nll_record
from gencli.reporting import Reporter, relative
from gencli.run import Run, open_run, write_json, write_whole


def score(
    parts: Parts,
    split_name: str,
    estimator_config: Mapping[str, Any],
    estimator_name: str,
    *,
    seed: int,
    batch_size: int,
    run: Path,
    world: distributed.World,
    reporter: Reporter,
) -> dict[str, Any]:
    """Measure a split and write eval/<split>-<estimator>.json, with nats per example in .npz beside it.

    Raises:
        UsageError: the data has no such split, or the model has no estimator.
    """
    if parts.estimator is None:
        raise UsageError("this model has no NLL estimator: its objective gives up the likelihood")
    if split_name not in ("train", "val", "test"):
        raise UsageError(f"split={split_name}: train, val or test")
    split = parts.dataset.split(split_name)
    if split is None:
        raise UsageError(f"split={split_name}: data={parts.dataset.name} has none")
    started = time.perf_counter()
    parts.model.eval()
    parts.preprocess.eval()
    with reporter.progress(f"{split_name} NLL", math.ceil(len(split) / world.size)) as bar:
        seen = [0]

        def tick(n: int) -> None:
            seen[0] += n
            bar.at(seen[0])

        scores = score_split(
            parts.model,
            parts.preprocess,
            parts.estimator,
            split,
            seed=seed,
            device=parts.device,
            batch_size=batch_size,
            world=world,
            tick=tick,
        )
    settings = {key: value for key, value in estimator_config.items() if key != "_target_"}
    if not parts.preprocess.stochastic:
        settings.pop("draws", None)
    record = nll_record(
        nll=scores.nll,
        variance=scores.variance,
        terms=scores.terms,
        diagnostics=scores.diagnostics,
        spec=parts.dataset.spec,
        bound=composed_bound(parts.estimator.bound, parts.preprocess.bound),
        entropy=parts.dataset.entropy,
        estimator=estimator_name,
        settings=settings,
        split=split_name,
        split_sha256=split.sha256,
        protocol=parts.protocol(),
        weights=parts.weights,
        checkpoint=parts.checkpoint.stem if parts.checkpoint else None,
        checkpoint_sha256=checkpoints.file_sha256(parts.checkpoint) if parts.checkpoint else None,
        seed=seed,
        seconds=round(time.perf_counter() - started, 2),
    )
    if world.main:
        stem = run / "eval" / f"{split_name}-{estimator_name}"
        buffer = io.BytesIO()
        np.savez_compressed(buffer, ids=np.arange(len(scores.nll)), nll=scores.nll.numpy())
        write_whole(stem.with_suffix(".npz"), buffer.getvalue())
        write_json(stem.with_suffix(".json"), record)
    return record


def measure(
    run: Run,
    split: str,
    *,
    estimator: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The record of one split of an opened run; estimator: a name as on the command line, or None for the run's own."""
    name, config = run.config["choices"].get("estimator"), run.config.get("estimator")
    if estimator is not None:
        from gencli.compose import compose, quote

        cfg = compose("eval", [f"run={quote(str(run.path))}", f"estimator={estimator}"])
        name, config = estimator, cfg["estimator"]
    if not config:
        raise UsageError(f"model={run.config['choices']['model']} has no NLL estimator: its likelihood cannot be had")
    run.parts.estimator = component(config, Estimator, run.trust)
    return score(
        run.parts,
        split,
        config,
        str(name),
        seed=seed,
        batch_size=batch_size or run.config["trainer"]["eval_batch_size"],
        run=run.path,
        world=distributed.World(),
        reporter=Reporter(),
    )


def evaluate_run(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Score a split of a run with an estimator; every rank of torchrun takes its share.

    Raises:
        RunFailed: some example's NLL was not finite (after the record is written).
    """
    world = distributed.join()
    try:
        run = open_run({**cfg, "device": local_device(cfg["device"], world)}, "estimator")
        reporter = Reporter(quiet=not world.main)
        record = score(
            run.parts,
            cfg["split"],
            cfg["estimator"] or {},
            str(cfg["choices"].get("estimator")),
            seed=cfg["seed"],
            batch_size=cfg["batch_size"] or run.config["trainer"]["eval_batch_size"],
            run=run.path,
            world=world,
            reporter=reporter,
        )
        show(record, reporter)
        reporter.say(f"  {relative(run.path / 'eval' / (record['split'] + '-' + record['estimator'] + '.json'))}")
    finally:
        distributed.leave()
    if record["n_nonfinite"]:
        raise RunFailed(
            f"{record['n_nonfinite']} of {record['n_examples']} examples have no finite NLL: the value is inf"
        )
    return record


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
    import torch

    return f"cuda:{world.local_rank}" if world.size > 1 and device == "auto" and torch.cuda.is_available() else device
