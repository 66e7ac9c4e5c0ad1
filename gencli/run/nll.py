"""Held-out NLL: one pass over a split, in data space, the same number for any batch size and number of processes."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.config import catalog, compatibility, stored
from gencli.core import distributed
from gencli.core.errors import UsageError
from gencli.core.noise import Moved, Purpose, StepNoise
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.split import TensorSplit, at_most, random_order
from gencli.estimators.base import Estimator, Shared
from gencli.models.base import Model
from gencli.run import naming
from gencli.run.assembly import Parts
from gencli.run.measure import Measurement, Quantity
from gencli.run.pace import QUICK, Plan
from gencli.run.pace import plan as planned
from gencli.run.record import NLLRecord, nll_record
from gencli.run.reporter import Reporter
from gencli.run.scoring import Scores, held_out_streams, score_rows, score_split
from gencli.run.seen import seen

OF_PREPARATION = 0.8
"""Of the time, for what all rows share, which is log Z where it takes long: rows take little then."""


@dataclass(frozen=True, kw_only=True)
class HeldOutNLL(Quantity[NLLRecord]):
    """The NLL by an estimator, with nats per example kept beside the record.

    Args:
        estimator: how to measure; None: the model has no number, which is refused when it is asked for.
        examples: measure this many at most, drawn at random; None: all.
        seconds: measure no longer than that, about: as many as fit; None: no bound.
        shared: what the estimator has measured for all rows already (``prepare``), for several splits.
    """

    estimator: Estimator[Any] | None
    examples: int | None = None
    seconds: float | None = None
    shared: Shared | None = None

    def records(self, at: Measurement) -> Iterator[tuple[NLLRecord, bytes | None, list[str]]]:
        parts, estimator, name = at.parts, self.estimator, str(at.config["choices"].get("estimator"))
        if estimator is None:
            raise UsageError(_no_nll(parts.model))
        started = time.perf_counter()
        spare = None if self.seconds is None or at.world.size > 1 else OF_PREPARATION * self.seconds
        shared = self.shared or prepare(parts, estimator, name, at.seed, at.reporter, spare)
        scores, split, flags = self._planned(at, estimator, shared, started)
        if (
            shared.bound == "exact"
            and not scores.stopped
            and (kl := self._divergence(at, estimator, shared)) is not None
        ):
            shared = replace(shared, diagnostics={**shared.diagnostics, "kl": kl})
        trained_on = seen(at)
        said = at.own and at.trained.get("init_from")  # when training began
        if trained_on and not said and (told := trained_on.told(at.split)):
            at.reporter.warn(told)
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
                *([trained_on.flag] if trained_on and trained_on.flag else []),
                *shared.flags,
                *flags,
            ],
            estimator=name + estimator.variant,
            settings={
                key: value
                for key, value in at.config["estimator"].items()
                if key not in ("_target_", *estimator.idle(parts.model))
                and (key != "draws" or parts.preprocess.stochastic)
            }
            | shared.settled,
            protocol=parts.protocol(),
            n_split=len(at.examples) if flags else None,
            n_seen=(trained_on and trained_on.count) or None,
            **at.facts(split),
            seconds=round(time.perf_counter() - started, 2),
        )
        yield record, _arrays(scores, split), self._differing(at, name, estimator, len(split))
        if scores.stopped:
            raise scores.stopped

    def _planned(
        self, at: Measurement, estimator: Estimator[Any], shared: Shared, started: float
    ) -> tuple[Scores, Split, list[str]]:
        """Measure what the budget allows, up to a stop: scores, what they are of, and the flag that says so."""
        most = at_most(at.examples, self.examples)
        order = random_order(len(at.examples), len(most))
        left = None
        if self.seconds is not None:  # whatever preparation took, what is quick is measured whole
            left = max(min(QUICK, self.seconds), self.seconds - (time.perf_counter() - started))
        with at.reporter.progress(f"timing {at.split} NLL"):
            plan = distributed.share(
                planned(
                    lambda rows: self._few(at, estimator, shared, most, order[:rows]),
                    len(most),
                    at.batch_size,
                    left,
                    processes=at.world.size,
                )
            )
        split, flags = at_most(at.examples, plan.rows), []
        if plan.rows < len(at.examples):
            flags = [f"{plan.rows:,} of {len(at.examples):,} examples at random"]
        if plan.shuffled:
            at.reporter.say(f"measuring {at.split} NLL on {plan}")
        scores = self._scored(at, estimator, shared, split, plan)
        if scores.stopped:
            split = at_most(at.examples, len(scores.nll))
            flags = [f"stopped after {len(split):,} of {len(at.examples):,} examples, drawn at random"]
        return scores, split, flags

    @staticmethod
    def _few(at: Measurement, estimator: Estimator[Any], shared: Shared, split: Split, ids: Tensor) -> None:
        """Score some rows of a split, to see how long it takes."""
        score_rows(
            at.parts.preprocess,
            lambda batch, noise: estimator.nll(at.parts.model, batch, noise, shared),
            split.gather(ids).to(at.parts.device),
            ids.to(at.parts.device),
            held_out_streams(at.seed, estimator.draws),
        )

    @staticmethod
    def _scored(
        at: Measurement, estimator: Estimator[Any], shared: Shared, split: Split, plan: Plan | None = None
    ) -> Scores:
        with at.reporter.progress(f"{at.split} NLL", math.ceil(len(split) / at.world.size)) as bar:
            return score_split(
                at.parts.preprocess,
                lambda batch, noise: estimator.nll(at.parts.model, batch, noise, shared),
                split,
                streams=held_out_streams(at.seed, estimator.draws),
                device=at.parts.device,
                batch_size=plan.batch_size if plan else at.batch_size,
                world=at.world,
                order=random_order(len(at.examples), len(split)) if plan and plan.shuffled else None,
                tick=bar.at,
            )

    def _divergence(self, at: Measurement, estimator: Estimator[Any], shared: Shared) -> float | None:
        """KL(data | model) = sum_x p(x) (log p(x) + nll(x)) over all examples that there are; None: too many."""
        law = at.parts.dataset.law()
        if law is None or at.parts.preprocess.stochastic or at.parts.model.conditional:
            return None
        every, log_p = law
        nll = self._scored(at, estimator, shared, TensorSplit(every)).nll
        return float((log_p.exp() * (log_p + nll))[log_p.isfinite()].sum())

    def _differing(self, at: Measurement, name: str, estimator: Estimator[Any], count: int) -> list[str]:
        """The number of examples and the settings, where they are not the run's own."""
        own = _own_examples(at, name + estimator.variant, count)
        settings = naming.changed(at.config["estimator"], naming.usual("estimator", name, at.trained, estimator))
        told = [text for text in settings if text.replace("=", "") not in estimator.variant]
        return ([f"examples={count}"] if count != own else []) + told


def usual_examples(config: Mapping[str, Any], split: str) -> int | None:
    """How many examples of a run are measured where a command says nothing: those that its config names, else all."""
    named = config["trainer"].get("eval_examples")
    return named if split != "all" and isinstance(named, int) else None


def _own_examples(at: Measurement, name: str, count: int) -> int:
    """How many examples the run itself has measured of this split, or will have measured now."""
    if at.own:
        return count
    named = usual_examples(at.trained, at.split)
    if named is None and at.split != "all":
        with suppress(UsageError):  # it has none yet, or a damaged one
            kept = stored.record(at.run / "eval" / f"{at.split}-{name}.json")
            if kept.get("n_split") == len(at.examples):  # time has bounded it
                named = kept.get("n_examples")
    return len(at_most(at.examples, named))


@torch.no_grad()
def prepare(
    parts: Parts,
    estimator: Estimator[Any],
    name: str,
    seed: int,
    reporter: Reporter | None = None,
    seconds: float | None = None,
) -> Shared:
    """Let an estimator measure what all rows share; every process does the same and gets the same.

    ``seconds``: that it may take, about, where it can choose; None: no bound. Processes do not agree about time.

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
        with (reporter or Reporter(quiet=True)).progress(f"preparing {name}"):
            return estimator.within(seconds).prepare(parts.model, examples, noise)
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
