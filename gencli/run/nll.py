"""Held-out NLL: one pass over a split, in data space, the same number for any batch size and number of processes."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gencli.config import catalog, compatibility
from gencli.core.errors import UsageError
from gencli.core.noise import Moved, Purpose, StepNoise
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.split import TensorSplit, at_most
from gencli.estimators.base import Estimator, Shared
from gencli.models.base import Model
from gencli.run import naming
from gencli.run.assembly import Parts
from gencli.run.measure import Measurement, Quantity
from gencli.run.record import NLLRecord, nll_record
from gencli.run.scoring import Scores, held_out_streams, score_split


@dataclass(frozen=True, kw_only=True)
class HeldOutNLL(Quantity[NLLRecord]):
    """The NLL by an estimator, with nats per example kept beside the record.

    Args:
        estimator: how to measure; None: the model has no number, which is refused when it is asked for.
        examples: measure this many, drawn at random; None: all.
        shared: what the estimator has measured for all rows already (``prepare``), for several splits.
    """

    estimator: Estimator[Any] | None
    examples: int | None = None
    shared: Shared | None = None

    def records(self, at: Measurement) -> Iterator[tuple[NLLRecord, bytes | None, list[str]]]:
        parts, estimator, name = at.parts, self.estimator, str(at.config["choices"].get("estimator"))
        if estimator is None:
            raise UsageError(_no_nll(parts.model))
        split = at_most(at.examples, self.examples)
        started = time.perf_counter()
        shared = self.shared or prepare(parts, estimator, name, at.seed)
        with at.reporter.progress(f"{at.split} NLL", math.ceil(len(split) / at.world.size)) as bar:
            scores = self._scored(at, estimator, shared, split, bar.at)
        if shared.bound == "exact" and (kl := self._divergence(at, estimator, shared)) is not None:
            shared = replace(shared, diagnostics={**shared.diagnostics, "kl": kl})
        record = nll_record(
            scores,
            shared=shared,
            spec=parts.dataset.spec,
            preprocessing=parts.preprocess.bound,
            entropy=parts.dataset.entropy,
            counts=split.counts,
            per=parts.dataset.per,
            groups=split.groups,
            row_weights=split.weights,
            flags=[
                *(["unbounded likelihood"] if parts.preprocess.unbounded else []),
                *(["in-sample"] if parts.dataset.in_sample and at.split != "train" else []),
            ],
            estimator=name + estimator.variant,
            settings={
                key: value
                for key, value in at.config["estimator"].items()
                if key != "_target_" and (key != "draws" or parts.preprocess.stochastic)
            },
            protocol=parts.protocol(),
            **at.facts(split),
            seconds=round(time.perf_counter() - started, 2),
        )
        yield record, _arrays(scores, split), self._differing(at, name, estimator)

    @staticmethod
    def _scored(
        at: Measurement, estimator: Estimator[Any], shared: Shared, split: Split, tick: Callable[[int], None]
    ) -> Scores:
        return score_split(
            at.parts.preprocess,
            lambda batch, noise: estimator.nll(at.parts.model, batch, noise, shared),
            split,
            streams=held_out_streams(at.seed, estimator.draws),
            device=at.parts.device,
            batch_size=at.batch_size,
            world=at.world,
            tick=tick,
        )

    def _divergence(self, at: Measurement, estimator: Estimator[Any], shared: Shared) -> float | None:
        """KL(data | model) = sum_x p(x) (log p(x) + nll(x)) over all examples that there are; None: too many."""
        law = at.parts.dataset.law()
        if law is None or at.parts.preprocess.stochastic or at.parts.model.conditional:
            return None
        every, log_p = law
        nll = self._scored(at, estimator, shared, TensorSplit(every), lambda done: None).nll
        return float((log_p.exp() * (log_p + nll))[log_p.isfinite()].sum())

    def _differing(self, at: Measurement, name: str, estimator: Estimator[Any]) -> list[str]:
        """The number of examples and the settings, where they are not the run's own."""
        count, own = (len(at_most(at.examples, n)) for n in (self.examples, usual_examples(at.trained, at.split)))
        settings = naming.changed(at.config["estimator"], naming.usual("estimator", name, at.trained, estimator))
        told = [text for text in settings if text.replace("=", "") not in estimator.variant]
        return ([f"examples={count}"] if count != own else []) + told


def usual_examples(config: Mapping[str, Any], split: str) -> int | None:
    """How many examples a run measures of a split: all where it says nothing, and of a file."""
    return None if split == "all" else config["trainer"].get("eval_examples")


@torch.no_grad()
def prepare(parts: Parts, estimator: Estimator[Any], name: str, seed: int) -> Shared:
    """Let an estimator measure what all rows share; every process does the same and gets the same.

    Raises:
        UsageError: it cannot be measured.
    """
    parts.model.eval()
    parts.preprocess.eval()
    # drawn on the CPU: log Z is then the same on every device, but for rounding
    examples, noise = None, Moved(StepNoise(torch.device("cpu"), seed, Purpose.HELD_OUT), parts.device)
    if estimator.examples:
        split = parts.dataset.split("val") or parts.dataset.split("train")
        assert split is not None
        some = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[: estimator.examples]
        batch, _ = parts.preprocess.batch(split.gather(some).to(parts.device), noise)
        examples = Batch(batch.x, batch.y)
    try:
        return estimator.prepare(parts.model, examples, noise)
    except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise UsageError(f"estimator={name}: {str(error).splitlines()[0]}") from error


def _arrays(scores: Scores, split: Split) -> bytes:
    """Nats of each example, for paired comparisons."""
    arrays = {"ids": np.arange(len(scores.nll)), "nll": scores.nll.numpy()}
    for name in ("counts", "groups", "weights"):
        if (of := getattr(split, name)) is not None:
            arrays[name] = of.numpy()
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
