"""``gencli eval``: how much probability does a model give to a split, how near are its samples, how sure are we?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from gencli.core import distributed
from gencli.core.errors import Interrupted, RunFailed, UsageError, quoted
from gencli.run import quality, ranks
from gencli.run.device import on_this_rank
from gencli.run.measure import Measurement, Quantity, measure
from gencli.run.nll import HeldOutNLL, usual_examples
from gencli.run.record import NLLRecord, Record
from gencli.run.reporter import Reporter, relative, setting
from gencli.run.run import Run, open_run
from gencli.training.signals import StopRequest


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
        quantities, out = _quantities(cfg, run), _scores_file(cfg)
        if unfinished := _unfinished(run):
            reporter.warn(unfinished)
        len(at.examples)  # opens a new file, of which something is to be said
        for line in run.parts.dataset.understood():
            reporter.say(line)
        records = []
        for record, file in _measured(at, quantities):
            reporter.result(record)
            if isinstance(record, NLLRecord) and run.parts.preprocess.unbounded:
                reporter.warn(run.parts.preprocess.unbounded)
            reporter.say(f"  {relative(file)}")
            records.append(record)
            if out is not None and isinstance(record, NLLRecord) and record.n_split is None and world.main:
                table, split = ranks.ranked(run.path, file, record)
                if split is None:
                    reporter.warn(f"no rank: no test or val rows were measured by {record.estimator} in the same way")
                ranks.write(out, table)
                reporter.say("\n".join([*ranks.worst(table, split), f"  {relative(out)}"]))
    finally:
        distributed.leave()
    for record in records:
        if isinstance(record, NLLRecord) and record.n_nonfinite:
            raise RunFailed(
                f"{record.n_nonfinite} of {record.n_examples} examples have no finite NLL: the value is inf"
            )
    return records


def _unfinished(run: Run) -> str | None:
    """What is to be said of a run whose training has not ended by itself."""
    info = run.info
    if info["status"] == "finished":
        return None
    step, resume = (info.get("progress") or {}).get("step", 0), f"gencli train {setting('resume', run.path)}"
    more = "" if info["status"] == "running" else f": {resume} goes on"
    return f"training of this run has not finished ({quoted(info['status'], 20)}, step {step}){more}"


def _measured(at: Measurement, quantities: Sequence[Quantity[Any]]) -> Iterator[tuple[Record, Path]]:
    """All records; a signal ends the measuring at once, after the record of what was measured until then.

    Raises:
        Interrupted: a signal came.
    """
    found = chain.from_iterable(measure(at, quantity) for quantity in quantities)
    with StopRequest() as stop:
        while True:
            try:
                with stop.raising("stopped"):
                    result = next(found, None)
            except Interrupted:
                at.reporter.say("stopped")
                raise
            if result is None:
                return
            yield result


def _scores_file(cfg: Mapping[str, Any]) -> Path | None:
    """Where every row's nats go.

    Raises:
        UsageError: there will be no nats of every row, or the file cannot be written.
    """
    if cfg["scores"] is None:
        return None
    leaving = next((key for key in ("examples", "minutes") if cfg[key] is not None), None)
    if cfg["estimator"] is None or leaving:
        why = f"{leaving}= leaves rows out" if leaving else "estimator=null measures none"
        raise UsageError(f"scores={cfg['scores']}: the nats of every row are needed, and {why}")
    return ranks.target(cfg["scores"])


def _quantities(cfg: Mapping[str, Any], run: Run) -> list[Quantity[Any]]:
    """What the command asks for: the NLL, unless metrics are asked for and there is no estimator; the metrics."""
    metrics = quality.build(cfg.get("metrics") or {}, run.parts, cfg["trust"])
    wanted: list[Quantity[Any]] = []
    if cfg["estimator"] or not metrics:
        wanted.append(
            HeldOutNLL(
                estimator=run.parts.estimator,
                examples=None if cfg["scores"] else cfg["examples"] or usual_examples(run.config, cfg["split"]),
                seconds=None if cfg["minutes"] is None else 60 * cfg["minutes"],
            )
        )
    if metrics:
        wanted.append(quality.Metrics(metrics=metrics, n=cfg["n"]))
    return wanted
