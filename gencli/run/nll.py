"""Held-out NLL: one pass over a split, in data space, the same number for any batch size and number of processes."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.config import catalog, compatibility
from gencli.core import distributed
from gencli.core.errors import UsageError
from gencli.core.files import inside, write_json, write_whole
from gencli.core.noise import RowNoise, StepNoise, mix_seed
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.loading import held_out_batches
from gencli.data.preprocess import Preprocess
from gencli.data.split import at_most
from gencli.estimators.base import Estimator, Shared
from gencli.models.base import Model
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts
from gencli.run.record import composed_bound, nll_record
from gencli.run.reporter import Reporter

_HELD_OUT = 3  # a stream of noise of its own, apart from training and validation (trainer.py)


@dataclass
class Scores:
    """Per-example results over a whole split, in order of example, float64 on the CPU.

    nll (N,) nats in data space; variance (N,) or None; terms: what nll is the sum of; diagnostics (N,) by name.
    """

    nll: Tensor
    variance: Tensor | None
    terms: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


@torch.no_grad()
def score_split(
    model: Model,
    preprocess: Preprocess,
    estimator: Estimator,
    split: Split,
    *,
    seed: int,
    device: torch.device,
    batch_size: int,
    world: distributed.World,
    tick: Callable[[int], None] = lambda n: None,
) -> Scores:
    """Score every example of a split.

    Noise belongs to the example (RowNoise), so the result depends neither on the batch size nor on the number of
    processes. Draws of the dequantization are averaged; their spread gives the variance.

    Args:
        model: in evaluation mode.
        preprocess: data space -> model space.
        estimator: how to measure.
        split: the examples.
        seed: of the noise.
        device: where the model lies.
        batch_size: rows at a time.
        world: this process among its peers.
        tick: told the number of rows after every batch.

    Raises:
        RuntimeError: ranks did not see each example exactly once.
    """
    draws = estimator.draws if preprocess.stochastic else 1
    columns: dict[str, list[Tensor]] = {}
    for ids, batch in held_out_batches(split, batch_size, rank=world.rank, world=world.size, device=device):
        rows: list[dict[str, Tensor]] = []
        for draw in range(draws):
            noise = RowNoise(mix_seed(seed, _HELD_OUT, draw), ids)
            z, terms = preprocess(batch.x, noise)
            estimate = estimator.nll(model, replace(batch, x=z), noise)
            row = {"term/model": estimate.nll, **{f"term/{name}": value for name, value in terms.items()}}
            row |= {f"diagnostic/{name}": value for name, value in estimate.diagnostics.items()}
            if estimate.variance is not None:
                row["variance"] = estimate.variance
            rows.append({name: value.cpu().double() for name, value in row.items()})
        mean = {name: torch.stack([row[name] for row in rows]).mean(0) for name in rows[0]}
        totals = torch.stack([_total(row) for row in rows])
        if draws > 1:
            mean["variance"] = totals.var(0) / draws
        elif preprocess.stochastic:
            mean.pop("variance", None)  # one draw of the dequantization says nothing of its own spread
        for name, value in {"ids": ids.cpu(), "nll": totals.mean(0), **mean}.items():
            columns.setdefault(name, []).append(value)
        tick(len(ids))

    parts = distributed.gather({name: torch.cat(values) for name, values in columns.items()})
    parts = [part for part in parts if part]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = whole["ids"].argsort()
    if not torch.equal(whole["ids"][order], torch.arange(len(split))):
        raise RuntimeError("some example was scored twice or not at all")
    whole = {name: values[order] for name, values in whole.items()}
    return Scores(whole["nll"], whole.get("variance"), _with("term/", whole), _with("diagnostic/", whole))


@torch.no_grad()
def _prepare(parts: Parts, seed: int) -> Shared:
    """Let the estimator measure what all rows share; every process does the same and gets the same."""
    assert parts.estimator is not None
    examples, noise = None, StepNoise(parts.device, seed, _HELD_OUT)
    if parts.estimator.examples:
        split = parts.dataset.split("val") or parts.dataset.split("train")
        assert split is not None
        some = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[: parts.estimator.examples]
        batch = split.gather(some)
        z, _ = parts.preprocess(batch.x.to(parts.device), noise)
        examples = Batch(z, None if batch.y is None else batch.y.to(parts.device))
    return parts.estimator.prepare(parts.model, examples, noise)


def _no_nll(model: Model) -> str:
    """Why there is no number, and what would give one."""
    fitting = compatibility.fitting("estimator", f"{type(model).__module__}.{type(model).__qualname__}")
    options, names = catalog.options("estimator"), ", ".join(fitting) or "none"
    classes = [catalog.class_info(options[name].target or "") for name in fitting]
    if any(found is None or found.attributes.get("bound") != "estimate" for found in classes):
        why = f"this run has no NLL estimator (estimator=null); those that fit its model: {names}"
    else:
        why = (
            "no NLL: this model gives samples but no density, so there is no probability to measure; "
            f"estimators that guess one from samples: {names} (an estimate, no bound)"
        )
    return f"{why}; metrics=[mmd,c2st] compare samples"


def _total(row: dict[str, Tensor]) -> Tensor:
    return torch.stack([value for name, value in row.items() if name.startswith("term/")]).sum(0)


def _with(prefix: str, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}


def measure(
    parts: Parts,
    split_name: str,
    estimator_config: Mapping[str, Any],
    estimator_name: str,
    *,
    seed: int,
    batch_size: int,
    examples: int | None,
    run: Path,
    world: distributed.World,
    reporter: Reporter,
) -> dict[str, Any]:
    """Measure a split and write eval/<split>-<estimator>.json, with nats per example in .npz beside it.

    ``examples``: measure this many of the split, drawn at random; None: all.

    Raises:
        UsageError: the data has no such split, or the model has no estimator.
    """
    if parts.estimator is None:
        raise UsageError(_no_nll(parts.model))
    if split_name not in ("train", "val", "test"):
        raise UsageError(f"split={split_name}: train, val or test")
    split = parts.dataset.split(split_name)
    if split is None:
        raise UsageError(f"split={split_name}: data={parts.dataset.name} has none")
    split = at_most(split, examples)
    started = time.perf_counter()
    parts.model.eval()
    parts.preprocess.eval()
    try:
        shared = _prepare(parts, seed)
    except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise UsageError(f"estimator={estimator_name}: {str(error).splitlines()[0]}") from error
    estimator_name += parts.estimator.variant
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
        shared=shared,
        spec=parts.dataset.spec,
        bound=composed_bound(parts.estimator.bound, parts.preprocess.bound),
        entropy=parts.dataset.entropy,
        counts=split.counts,
        per=parts.dataset.per,
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
        stem = f"{split_name}-{estimator_name}"
        buffer = io.BytesIO()
        arrays = {"ids": np.arange(len(scores.nll)), "nll": scores.nll.numpy()}
        if split.counts is not None:
            arrays["counts"] = split.counts.numpy()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(inside(run, "eval", f"{stem}.npz"), buffer.getvalue())
        write_json(inside(run, "eval", f"{stem}.json"), record)
    return record
