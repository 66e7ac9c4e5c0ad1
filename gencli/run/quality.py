"""Metrics: samples of a built model beside held-out examples, or what it tells of these; a record for each metric.

Nothing here opens the training split unless it is the reference that was asked for, or a metric's own option names it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencli.core.errors import RunFailed, UsageError
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.metrics.base import AnswerMetric, Measured, Metric, ModelMetric, SampleMetric, Samples, space
from gencli.models.base import DirectSampling
from gencli.run import naming
from gencli.run.assembly import Parts
from gencli.run.measure import Measurement, Quantity
from gencli.run.opened import builder
from gencli.run.record import MetricRecord
from gencli.run.sampling import draw
from gencli.run.subject import ask, subject
from gencli.samplers.base import Answer, Question

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
    asked = sampler.option if isinstance(sampler, Question) else None
    for name, metric in metrics.items():
        if isinstance(metric, AnswerMetric) and asked != metric.question:
            raise UsageError(f"metrics=[{name}] measures an answer: sampler={metric.question} asks the question")
        if isinstance(metric, SampleMetric) and asked is not None:
            raise UsageError(f"metrics=[{name}] compares samples, and sampler={asked} draws none: it asks a question")
    compared = [name for name, metric in metrics.items() if isinstance(metric, SampleMetric)]
    if compared and sampler is None:
        raise UsageError(f"metrics=[{','.join(compared)}] compare samples, and this model has no sampler")
    if metrics and sampler is not None and asked is None:
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


@dataclass(frozen=True, kw_only=True)
class Metrics(Quantity[MetricRecord]):
    """Metrics on a split; samples are drawn once, for all that compare samples.

    A conditional model is given the labels (or contexts) of the reference, in turn, so that its samples have the
    reference's share of each.

    Args:
        metrics: as ``build`` gives them.
        n: number of samples, or of examples that a question is about; None: as many as there are reference examples, or
            as is usual for the question.
    """

    metrics: Mapping[str, Metric]
    n: int | None = None

    def records(self, at: Measurement) -> Iterator[tuple[MetricRecord, bytes | None, list[str]]]:
        """A record for each metric.

        Raises:
            UsageError: there is no such split, or too few samples for a metric.
            RunFailed: a sample is not finite.
        """
        split, samples, answer = at.examples, None, None
        if self.n is not None and self.n < 1:
            raise UsageError(f"n={self.n}: at least 1")
        drawn, facts = 0.0, self._facts(at) | at.facts(split)
        differing = [f"n={self.n}"] if self.n is not None else []
        differing += _sampled(at)
        for name, metric in self.metrics.items():
            if isinstance(metric, SampleMetric) and samples is None:
                started = time.perf_counter()
                samples, facts["sampler_diagnostics"] = _draw(at, reference_of(split, self.n), self.n)
                drawn = round(time.perf_counter() - started, 2)
            began = time.perf_counter()
            if isinstance(metric, AnswerMetric) and answer is None:
                answer = _ask(at, self.n)
            found = _measured(metric, samples, answer, at)
            counts = (
                (len(samples.x), len(samples.reference.x))
                if isinstance(metric, SampleMetric) and samples
                else (
                    found.drawn,
                    len(split) if found.examples is None else found.examples,
                )
            )
            settings = {key: value for key, value in at.config["metrics"][name].items() if key != "_target_"}
            record = MetricRecord(
                metric=name,
                value=found.value,
                se=found.se,
                better=metric.better,
                diagnostics=found.diagnostics,
                settings=settings | found.facts,
                n_samples=counts[0],
                n_reference=counts[1],
                **facts,
                seconds_sampling=drawn if isinstance(metric, SampleMetric) else 0.0,
                seconds=round(time.perf_counter() - began, 2),
            )
            base = naming.usual("metric", name, at.trained, metric)
            yield record, None, [*naming.changed(at.config["metrics"][name], base), *differing]

    def _facts(self, at: Measurement) -> dict[str, Any]:
        """What the records of all metrics share."""
        parts, spec = at.parts, at.parts.dataset.spec
        context = "the reference's labels" if spec.classes else "the reference's contexts"
        settings = at.config["sampler"] or {}
        return {
            "protocol": {
                "data": parts.dataset.name,
                "binarization": parts.dataset.binarization,
                "space": space(spec),
            },
            "context": context if parts.model.conditional else None,
            "sampler": at.config["choices"].get("sampler"),
            "sampler_settings": {key: value for key, value in settings.items() if key != "_target_"},
            "sampler_diagnostics": {},
            "passes": parts.model.passes if isinstance(parts.model, DirectSampling) else None,
        }


def _sampled(at: Measurement) -> list[str]:
    """How the samples are drawn, where that is not the run's own way."""
    if at.config["sampler"] is None:
        return []
    name = at.config["choices"]["sampler"]
    own = [] if name == at.trained["choices"].get("sampler") else [f"sampler={name}"]
    return own + naming.drawn(at.config, at.trained, at.parts.sampler)


def _draw(at: Measurement, reference: Batch, n: int | None) -> tuple[Samples, dict[str, float]]:
    """Samples and their reference, on one device, and what the sampler says of itself."""
    parts = at.parts
    n = n or len(reference.x)
    y = _labels(parts, reference, n, at.seed)
    with at.reporter.progress("sampling", n) as bar:
        drawn = draw(parts, n, at.seed, y, batch_size=at.batch_size, tick=bar.at)
    x, y = drawn.x, drawn.y
    if tuple(x.shape[1:]) != parts.dataset.spec.shape:
        raise UsageError(f"samples of shape {tuple(x.shape[1:])}, examples of {parts.dataset.spec.shape}")
    optional = torch.tensor([column.optional for column in parts.dataset.spec.support.columns], dtype=torch.bool)
    missing = optional.to(x.device) & x.isnan() if optional.any() else torch.zeros_like(x, dtype=torch.bool)
    finite = (torch.isfinite(x) | missing).flatten(1).all(1)
    if not bool(finite.all()):
        raise RunFailed(f"{int((~finite).sum())} of {n} samples are not finite: there is nothing to compare")
    device = parts.device
    there = Batch(reference.x.to(device), None if reference.y is None else reference.y.to(device))
    samples = Samples(x.to(device), None if y is None else y.to(device), there, parts.dataset, at.seed)
    return samples, drawn.diagnostics


def _ask(at: Measurement, n: int | None) -> Answer:
    """The answer to the question that stands in place of the sampler, about the first n examples of the split."""
    with at.reporter.progress("asking"):
        answer = ask(at.parts, n, at.seed, at.batch_size, at.split)
    for note in answer.notes:
        at.reporter.say(f"  {note}")
    return answer


@torch.no_grad()
def _measured(metric: Metric, samples: Samples | None, answer: Answer | None, at: Measurement) -> Measured:
    try:
        if isinstance(metric, ModelMetric):
            return metric.measure(subject(at.parts, at.split, at.seed, at.batch_size))
        if isinstance(metric, AnswerMetric):
            assert answer is not None
            return metric.measure(answer)
        assert isinstance(metric, SampleMetric)
        assert samples is not None
        return metric.measure(samples)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _labels(parts: Parts, reference: Batch, n: int, seed: int) -> Tensor | None:
    if not parts.model.conditional:
        return None
    assert reference.y is not None
    # through a permutation, so that fewer samples than references have the same share of each label
    order = torch.randperm(len(reference.y), generator=torch.Generator().manual_seed(seed))
    return reference.y[order.to(reference.y.device)[torch.arange(n) % len(reference.y)]]
