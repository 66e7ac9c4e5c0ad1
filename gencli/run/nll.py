"""Held-out NLL: one pass over a split, in data space, the same number for any batch size and number of processes."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.config import catalog, compatibility
from gencli.core.errors import UsageError
from gencli.core.noise import StepNoise
from gencli.core.spec import Batch
from gencli.data.split import at_most
from gencli.estimators.base import Estimator, Shared
from gencli.models.base import Model
from gencli.run.assembly import Parts
from gencli.run.measure import Measurement, Quantity
from gencli.run.record import NLLRecord, nll_record
from gencli.run.scoring import HELD_OUT, Scores, held_out_streams, score_split


@dataclass(frozen=True, kw_only=True)
class HeldOutNLL(Quantity[NLLRecord]):
    """The NLL by an estimator, with nats per example kept beside the record.

    Args:
        estimator: how to measure; None: the model has no number, which is refused when it is asked for.
        name: of the estimator.
        config: its section, for the record's settings.
        examples: measure this many, drawn at random; None: all.
    """

    estimator: Estimator[Any] | None
    name: str
    config: Mapping[str, Any]
    examples: int | None = None

    def records(self, at: Measurement) -> Iterator[tuple[NLLRecord, bytes | None]]:
        parts, estimator = at.parts, self.estimator
        if estimator is None:
            raise UsageError(_no_nll(parts.model))
        split = at_most(at.examples, self.examples)
        started = time.perf_counter()
        parts.model.eval()
        parts.preprocess.eval()
        try:
            shared = prepare(parts, estimator, at.seed)
        except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            raise UsageError(f"estimator={self.name}: {str(error).splitlines()[0]}") from error
        with at.reporter.progress(f"{at.split} NLL", math.ceil(len(split) / at.world.size)) as bar:
            scores = score_split(
                parts.preprocess,
                lambda batch, noise: estimator.nll(parts.model, batch, noise, shared),
                split,
                streams=held_out_streams(at.seed, estimator.draws),
                device=parts.device,
                batch_size=at.batch_size,
                world=at.world,
                tick=bar.at,
            )
        if parts.preprocess.unbounded:
            at.reporter.warn(parts.preprocess.unbounded)
        record = nll_record(
            scores,
            shared=shared,
            spec=parts.dataset.spec,
            preprocessing=parts.preprocess.bound,
            entropy=parts.dataset.entropy,
            counts=split.counts,
            per=parts.dataset.per,
            flags=["unbounded likelihood"] if parts.preprocess.unbounded else [],
            estimator=self.name + estimator.variant,
            settings={
                key: value
                for key, value in self.config.items()
                if key != "_target_" and (key != "draws" or parts.preprocess.stochastic)
            },
            protocol=parts.protocol(),
            **at.facts(split),
            seconds=round(time.perf_counter() - started, 2),
        )
        yield record, _arrays(scores, split.counts)


@torch.no_grad()
def prepare(parts: Parts, estimator: Estimator[Any], seed: int) -> Shared:
    """Let an estimator measure what all rows share; every process does the same and gets the same."""
    examples, noise = None, StepNoise(parts.device, seed, HELD_OUT)
    if estimator.examples:
        split = parts.dataset.split("val") or parts.dataset.split("train")
        assert split is not None
        some = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[: estimator.examples]
        batch, _ = parts.preprocess.batch(split.gather(some).to(parts.device), noise)
        examples = Batch(batch.x, batch.y)
    return estimator.prepare(parts.model, examples, noise)


def _arrays(scores: Scores, counts: Tensor | None) -> bytes:
    """Nats of each example, for paired comparisons."""
    arrays = {"ids": np.arange(len(scores.nll)), "nll": scores.nll.numpy()}
    if counts is not None:
        arrays["counts"] = counts.numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


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
