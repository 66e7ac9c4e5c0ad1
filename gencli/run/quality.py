"""Metrics on samples: draw from a built model, compare with held-out examples, write a record for each metric.

Nothing here opens the training split unless it is the reference that was asked for, or a metric's own option names it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencli.core.errors import RunFailed, UsageError
from gencli.core.files import inside, write_json
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.split import SPLITS
from gencli.metrics.base import Metric, Samples, space
from gencli.models.base import DirectSampling
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts
from gencli.run.opened import builder
from gencli.run.reporter import Reporter
from gencli.run.sampling import Drawn, draw

MOST = 10_000
"""Reference examples that are taken of a larger split, and samples, unless more samples are asked for."""


def build(config: Mapping[str, Any] | None, parts: Parts, trust: Sequence[str]) -> dict[str, Metric]:
    """The metrics of a config's section ``metrics`` by name, each fit for this data and model.

    Raises:
        UsageError: one of them refuses its options, the data or the model, or samples cannot be compared.
    """
    metrics: dict[str, Metric] = {}
    for name, node in (config or {}).items():
        metrics[name] = builder(trust).component(node, Metric, group=f"metrics.{name}")
        try:
            metrics[name].check(parts.dataset, parts.model)
        except ValueError as error:
            raise UsageError(str(error)) from error
    sampler = parts.sampler
    if metrics and sampler is None:
        raise UsageError(f"metrics=[{','.join(metrics)}] compare samples, and this model has no sampler")
    if metrics and sampler is not None:
        for option, why in (
            ("classes", "the labels of the samples are those of the reference examples"),
            ("given", "completed examples are no samples of the model"),
            ("prompt", "completed texts are no samples of the model"),
        ):
            if getattr(sampler, option) is not None:
                raise UsageError(f"sampler.{option}={getattr(sampler, option)}: {why}; take sampler.{option}=null")
    return metrics


def reference_of(split: Split, n: int | None) -> Batch:
    """The examples that samples are compared with: the whole split, or the same max(n, 10,000) of a larger one."""
    size = min(len(split), max(n or 0, MOST))
    if size == len(split):
        return split.gather(torch.arange(size))
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:size]
    return split.gather(chosen.sort().values)


def measure(
    parts: Parts,
    metrics: Mapping[str, Metric],
    config: Mapping[str, Any],
    *,
    split_name: str,
    n: int | None,
    seed: int,
    batch_size: int,
    run: Path,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Draw n samples once, compare them by every metric, and write eval/<split>-<metric>.json.

    A conditional model is given the labels (or contexts) of the reference, in turn, so that its samples have the
    reference's share of each.

    Args:
        parts: with the checkpoint's weights.
        metrics: as ``build`` gives them.
        config: the command's whole config, for the record's settings.
        split_name: the reference: ``train``, ``val`` or ``test``.
        n: number of samples; None: as many as there are reference examples.
        seed: of the samples and of everything random in a metric.
        batch_size: samples drawn at a time.
        run: the run folder.
        reporter: told the progress.

    Raises:
        UsageError: there is no such split, or too few samples for a metric.
        RunFailed: a sample is not finite.
    """
    if split_name not in SPLITS:
        raise UsageError(f"split={split_name}: train, val or test")
    split = parts.dataset.split(split_name)
    if split is None:
        raise UsageError(f"split={split_name}: data={parts.dataset.name} has none")
    if n is not None and n < 1:
        raise UsageError(f"n={n}: at least 1")
    reference = reference_of(split, n)
    n = n or len(reference.x)
    started = time.perf_counter()
    y = _labels(parts, reference, n, seed)
    with reporter.progress("sampling", n) as bar:
        drawn = draw(parts, n, seed, y, batch_size=batch_size, tick=bar.at)
    seconds, x, y = round(time.perf_counter() - started, 2), drawn.x, drawn.y
    if tuple(x.shape[1:]) != parts.dataset.spec.shape:
        raise UsageError(f"samples of shape {tuple(x.shape[1:])}, examples of {parts.dataset.spec.shape}")
    finite = torch.isfinite(x.float()).flatten(1).all(1)
    if not bool(finite.all()):
        raise RunFailed(f"{int((~finite).sum())} of {n} samples are not finite: there is nothing to compare")

    device = parts.device
    there = Batch(reference.x.to(device), None if reference.y is None else reference.y.to(device))
    samples = Samples(x.to(device), None if y is None else y.to(device), there, parts.dataset, seed)
    facts = _facts(parts, config, split_name, split, drawn, len(there.x), seed)
    records = []
    for name, metric in metrics.items():
        began = time.perf_counter()
        with torch.no_grad():
            try:
                found = metric.measure(samples)
            except ValueError as error:
                raise UsageError(str(error)) from error
        settings = {key: value for key, value in config["metrics"][name].items() if key != "_target_"}
        record = {
            "metric": name,
            "value": found.value,
            "se": found.se,
            "better": metric.better,
            "diagnostics": found.diagnostics,
            "settings": settings | found.facts,
            **facts,
            "seconds_sampling": seconds,
            "seconds": round(time.perf_counter() - began, 2),
        }
        write_json(inside(run, "eval", f"{split_name}-{name}.json"), record)
        records.append(record)
    return records


def _labels(parts: Parts, reference: Batch, n: int, seed: int) -> Tensor | None:
    if not parts.model.conditional:
        return None
    assert reference.y is not None
    # through a permutation, so that fewer samples than references have the same share of each label
    order = torch.randperm(len(reference.y), generator=torch.Generator().manual_seed(seed))
    return reference.y[order.to(reference.y.device)[torch.arange(n) % len(reference.y)]]


def _facts(
    parts: Parts, config: Mapping[str, Any], split_name: str, split: Split, drawn: Drawn, m: int, seed: int
) -> dict[str, Any]:
    """What the records of one command share."""
    sampler = config["sampler"] or {}
    context = None
    if parts.model.conditional:
        context = "the reference's labels" if parts.dataset.spec.classes else "the reference's contexts"
    return {
        "split": split_name,
        "split_sha256": split.sha256,
        "n_samples": len(drawn.x),
        "n_reference": m,
        "protocol": {
            "data": parts.dataset.name,
            "binarization": parts.dataset.binarization,
            "space": space(parts.dataset.spec),
        },
        "context": context,
        "sampler": config["choices"].get("sampler"),
        "sampler_settings": {key: value for key, value in sampler.items() if key != "_target_"},
        "sampler_diagnostics": drawn.diagnostics,
        "passes": parts.model.passes if isinstance(parts.model, DirectSampling) else None,
        "weights": parts.weights,
        "checkpoint": parts.checkpoint.stem if parts.checkpoint else None,
        "checkpoint_sha256": checkpoints.file_sha256(parts.checkpoint) if parts.checkpoint else None,
        "seed": seed,
    }


def headline(record: Mapping[str, Any]) -> str:
    """One line for people: value, error, what belongs to it, counts."""
    error = "" if record["se"] is None else f" ± {record['se']:.2g}"
    told = "".join(f", {key} {value:.4g}" for key, value in record["diagnostics"].items() if key[:3] != "se_")
    return (
        f"{record['split']} {record['metric']} {record['value']:.5g}{error}{told} "
        f"({record['better']} is better; {record['n_samples']:,} samples, {record['n_reference']:,} examples)"
    )
