"""Result records: nats summed, dimensions counted, divided once, every part reported."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from gencli.core import bounds
from gencli.core.spec import Bound, Spec
from gencli.core.uncertainty import combined, standard_error
from gencli.estimators.base import Shared
from gencli.run.scoring import Scores

COLLAPSED_ROWS = 0.05
"""Share of rows with collapsed importance weights above which ``se_estimator`` is called a lower limit."""


@dataclass(frozen=True, kw_only=True)
class Record(ABC):
    """A number about a run on one split, and all that it depends on: ``eval/<split>-<name>.json``.

    Args:
        metric: ``nll``, or a metric's name.
        value: the number that runs are ranked by.
        diagnostics: numbers that belong to it.
        settings: the options of the estimator or metric.
        split: ``train``, ``val`` or ``test``.
        split_sha256: of what was measured, in order.
        protocol: what the number depends on besides the model: two records compare only if it is equal.
        classes: what the classes 0, 1, ... of a conditional model are called in the user's files; None: no names.
        weights: ``ema`` or ``raw``.
        checkpoint: its name; None: fresh weights.
        checkpoint_sha256: of its file.
        seed: of everything random in the measurement.
        seconds: that it took.
    """

    KEYS: ClassVar[str]
    """The keys of the file, in order."""
    OMITTED: ClassVar[frozenset[str]] = frozenset()
    """Keys that the file lacks where they are None or empty."""

    metric: str
    value: float
    diagnostics: dict[str, float]
    settings: dict[str, Any]
    split: str
    split_sha256: str
    protocol: dict[str, Any]
    classes: list[str] | None = None
    weights: str
    checkpoint: str | None
    checkpoint_sha256: str | None
    seed: int
    seconds: float

    @property
    def name(self) -> str:
        """What the file is named by, after its split."""
        return self.metric

    @property
    @abstractmethod
    def headline(self) -> str:
        """One line for people."""

    def plain(self) -> dict[str, Any]:
        """The file's content."""
        values = {key: getattr(self, key) for key in self.KEYS.split()}
        return {key: value for key, value in values.items() if value not in (None, []) or key not in self.OMITTED}


@dataclass(frozen=True, kw_only=True)
class NLLRecord(Record):
    """A held-out NLL, in nats per example of data space, or per symbol where rows are windows of a text.

    Args:
        unit: ``nats``, or ``nats/char`` and the like.
        bits_per_dim: value / (D ln 2), of a text value / ln 2; None where coordinates are not of one kind.
        perplexity: exp(value) of a text.
        bound: what the value is to the true NLL.
        estimator: its name.
        se_examples: standard error over examples; of a text, over blocks of consecutive rows; of rows of sequences,
            over sequences. None: these tell none.
        se_blocks: how many blocks or sequences (``core.uncertainty``); None: rows are independent.
        se_estimator: that of the estimator's own noise; None: it is unknown.
        se_shared: the part of it that all examples share, and that does not cancel when runs are compared.
        se_lower_limits: which of the errors are lower limits only, because importance weights collapsed.
        n_examples: rows.
        n_split: rows of the split, of which time or a stop left ``n_examples`` random ones; None: nothing did.
        n_symbols: scored symbols of a text.
        n_nonfinite: rows without a finite NLL, which make the value infinite.
        n_seen: rows of the split that are equal to some that the weights were trained on (``run.seen``); None: none is,
            or it is not known, as a flag says.
        ledger: terms that add up to the value.
        flags: what a reader of the value must know besides its bound, in a few lower-case words each.
    """

    KEYS = (
        "metric value unit bits_per_dim perplexity bound se_examples se_blocks se_estimator se_shared se_lower_limits "
        "n_examples n_split n_symbols n_nonfinite n_seen diagnostics ledger estimator settings split split_sha256 "
        "protocol classes weights checkpoint checkpoint_sha256 seed seconds flags"
    )
    OMITTED = frozenset({"n_split", "n_symbols", "n_seen", "se_blocks", "se_lower_limits", "classes", "flags"})

    metric: str = "nll"
    unit: str
    bits_per_dim: float | None
    perplexity: float | None
    bound: Bound
    estimator: str
    se_examples: float | None
    se_blocks: int | None
    se_estimator: float | None
    se_shared: float | None
    se_lower_limits: list[str] | None
    n_examples: int
    n_split: int | None = None
    n_symbols: int | None
    n_nonfinite: int
    n_seen: int | None = None
    ledger: list[dict[str, Any]]
    flags: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.estimator

    @property
    def se(self) -> float | None:
        """Standard error of the value, over examples and of what they share."""
        return combined(self.se_examples, self.se_shared)

    @property
    def headline(self) -> str:
        """Value, bound, bits per dimension or per symbol, errors, flags."""
        error = bounds.error_of(self.se_examples, self.se_shared, self.se_lower_limits)
        words = bounds.words_of(self.bound, self.se_lower_limits, self.flags)
        per = self.unit.partition("/")[2]
        said = [words]
        if self.bits_per_dim is not None:
            bits = f"{bounds.nats(self.bits_per_dim, digits=3 if per else 4)} bits/{per or 'dim'}"
            symbols = [] if self.perplexity is None else [f"perplexity {bounds.nats(self.perplexity, digits=2)}"]
            said = [bits, *symbols, words]
        value = f"{bounds.SIGNS[self.bound]} {bounds.nats(self.value)}{error} {self.unit}"
        line = f"{self.split} NLL {value} ({', '.join(said)})"
        if "nll_minus_entropy" in self.diagnostics:
            line += f", NLL - H = {bounds.nats(self.diagnostics['nll_minus_entropy'], digits=4)} {self.unit}"
        if "kl" in self.diagnostics:
            line += f", KL = {self.diagnostics['kl']:.4f} over all states"
        return line

    @property
    def parameters(self) -> list[str]:
        """Of an exponential family each parameter with its error, then likelihood, AIC and BIC; a line each."""
        found, lines = self.diagnostics, []
        for key, theta in found.items():
            what, _, name = key.partition(".")
            if what == "theta":
                error = found.get(f"theta_se.{name}")
                told = f"{theta:.6g}" if error is None else f"{theta:.6g} ± {error:.3g}"
                gap, noise = found.get(f"theta_gap.{name}"), found.get(f"theta_gap_se.{name}")
                to_mle = "" if gap is None else f" (a Newton step to the MLE: {gap:+.2g} ± {noise:.2g})"
                lines.append(f"theta of {name} = {told}{to_mle}")
        if "log_likelihood" in found:
            value, se, twice = (found[key] for key in ("log_likelihood", "log_likelihood_se", "aic_se"))
            lines.append(
                f"log-likelihood {value:.3f} ± {se:.2g}, AIC {found['aic']:.3f} ± {twice:.2g}, "
                f"BIC {found['bic']:.3f} ± {twice:.2g}"
            )
        return lines


@dataclass(frozen=True, kw_only=True)
class MetricRecord(Record):
    """How far samples of a model lie from held-out examples, or what the model tells of these.

    Args:
        se: standard error over samples and reference; None: none is known.
        better: ``lower`` or ``higher``.
        n_samples: samples; 0: the model was asked for none.
        n_reference: examples.
        context: what a conditional model was given.
        sampler: its name.
        sampler_settings: its options.
        sampler_diagnostics: what it said of itself.
        passes: network passes that a batch of samples costs; None: unknown.
        seconds_sampling: that the samples took, which all metrics of a command share.
    """

    KEYS = (
        "metric value se better diagnostics settings split split_sha256 n_samples n_reference protocol context classes "
        "sampler sampler_settings sampler_diagnostics passes weights checkpoint checkpoint_sha256 seed "
        "seconds_sampling seconds"
    )
    OMITTED = frozenset({"classes"})

    se: float | None
    better: str
    n_samples: int
    n_reference: int
    context: str | None
    sampler: str | None
    sampler_settings: dict[str, Any]
    sampler_diagnostics: dict[str, float]
    passes: int | None
    seconds_sampling: float

    @property
    def headline(self) -> str:
        """Value, error, what belongs to it, counts."""
        error = "" if self.se is None else f" ± {self.se:.2g}"
        told = "".join(f", {self._told(key)}" for key in self.diagnostics if self._is_told(key))
        counts = (f"{self.n_samples:,} samples, " if self.n_samples else "") + f"{self.n_reference:,} examples"
        says = f", {self.settings['says']}" if self.settings.get("says") else ""
        return f"{self.split} {self.metric} {self.value:.5g}{error}{says}{told} ({self.better} is better; {counts})"

    @staticmethod
    def _is_told(key: str) -> bool:
        return key[:3] != "se_" and key[-3:] != "_se" and "@" not in key

    def _told(self, key: str) -> str:
        """A diagnostic and its standard error, where it has one."""
        error = self.diagnostics.get(f"se_{key}", self.diagnostics.get(f"{key}_se"))
        return f"{key} {self.diagnostics[key]:.4g}" + ("" if error is None else f" ± {error:.2g}")


def by_place(numbers: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Numbers of a kind for each of several places, without their errors: place -> name -> value.

    Example:
        >>> by_place({"rmse@1": 0.3, "se_rmse@1": 0.1, "rmse@6": 1.9, "rmse@6_se": 0.2, "nfe": 9.0})
        {'1': {'rmse': 0.3}, '6': {'rmse': 1.9}}
    """
    found: dict[str, dict[str, float]] = {}
    for key, value in numbers.items():
        name, _, place = key.partition("@")
        if place and key[:3] != "se_" and key[-3:] != "_se":
            found.setdefault(place, {})[name] = value
    return found


def bits_per_dim(nats: float, dim: int) -> float:
    """Nats per example -> bits per dimension: nats / (D ln 2). The only place where this is done.

    Example:
        >>> bits_per_dim(784 * math.log(256), 784)  # a uniform distribution over 256 levels
        8.0
    """
    return nats / (dim * math.log(2.0))


def composed_bound(estimator: Bound, preprocessing: Bound) -> Bound:
    """What a number is to the NLL of the data, given what its two steps are.

    Dequantization can only raise the NLL: through it an exact number or an upper bound is an upper bound, while a lower
    bound is bounded from neither side.
    """
    if preprocessing == "exact":
        return estimator
    return "upper" if estimator in ("exact", "upper") else "estimate"


def nll_record(
    scores: Scores,
    *,
    shared: Shared,
    spec: Spec,
    preprocessing: Bound = "exact",
    entropy: float | None = None,
    counts: Tensor | None = None,
    per: str | None = None,
    groups: Tensor | None = None,
    row_weights: Tensor | None = None,
    flags: Sequence[str] = (),
    **rest: Any,
) -> NLLRecord:
    """The record of scored rows i of weight w_i, each with its number c_i of scored symbols in a text, else 1.

    The value is r = sum_i w_i nll_i / sum_i w_i c_i. A non-finite row is counted and makes it infinite; it is never
    dropped.

    Args:
        scores: the rows.
        shared: what the estimator measured once for all of them.
        spec: of the data.
        preprocessing: what an exact NLL in model space is to the one in data space.
        entropy: H of the data's own distribution in nats, if known: NLL - H is then the Kullback-Leibler divergence.
        counts: (N,) scored symbols of each row; None: the NLL is one of examples.
        per: what a symbol is, for the unit.
        groups: (N,) the sequence that each row is of, within which rows depend on each other; None: they do not.
        row_weights: (N,) w; None: all 1.
        flags: of the record.
        rest: fields of the record that the caller knows.
    """
    nll, n = scores.nll, len(scores.nll)
    share = torch.ones_like(nll) if row_weights is None else row_weights.double()
    weight = share if counts is None else share * counts
    total = float(weight.sum())
    nonfinite = int((~torch.isfinite(nll)).sum())
    value = _mean(share * nll, weight) if nonfinite == 0 else math.inf
    diagnostics = {
        name: _mean(share * v.double(), share) for name, v in scores.diagnostics.items()
    } | shared.diagnostics
    if entropy is not None:
        diagnostics |= {"entropy": entropy, "nll_minus_entropy": value - entropy}
    common = shared.variance * (float(share.sum()) / total) ** 2
    error = standard_error(
        (share * nll).numpy(),
        None if counts is None and row_weights is None else weight.double().numpy(),
        None if groups is None else groups.numpy(),
    )
    own = None if scores.variance is None else float((share.square() * scores.variance).sum()) / total**2
    bound = composed_bound(shared.bound, preprocessing)
    deviation = math.hypot(error.value or 0.0, math.sqrt((own or 0.0) + common))
    # an overfitted model may well be below the entropy of the distribution on the training split
    wrong = _impossible(value, bound, deviation, spec, entropy if n > 1 and rest.get("split") != "train" else None)
    return NLLRecord(
        value=value,
        unit="nats" if counts is None else f"nats/{per}",
        bits_per_dim=bits_per_dim(value, spec.dim if counts is None else 1) if spec.alike else None,
        perplexity=None if counts is None else math.exp(min(value, 700.0)),
        bound="estimate" if wrong else bound,
        se_examples=error.value or None,  # rows that are all equal tell none, as a flag says
        se_blocks=error.blocks,
        se_estimator=None if own is None else math.sqrt(own + common),
        se_shared=math.sqrt(common) if shared.variance else None,
        se_lower_limits=_lower_limits(shared, diagnostics.get("collapsed", 0.0)),
        n_examples=n,
        n_symbols=None if counts is None else int(counts.sum()),
        n_nonfinite=nonfinite,
        diagnostics=diagnostics,
        ledger=[{"term": name, "nats": _mean(share * values, weight)} for name, values in scores.terms.items()],
        flags=[flag for flag in (*flags, wrong, error.caveat) if flag],
        **rest,
    )


def negative(value: float, error: float, spec: Spec) -> bool:
    """Whether an NLL of discrete data is below 0 by more than five errors and a little, as none can be."""
    return spec.support.discrete and value < -5 * error - 1e-4 * spec.dim


def _impossible(value: float, bound: Bound, error: float, spec: Spec, entropy: float | None) -> str | None:
    """Why an NLL cannot be this small; None: it may be. A lower bound may be anything."""
    if bound == "lower":
        return None
    what = "cannot be" if bound == "estimate" else "no bound"
    if negative(value, error, spec):
        return f"{what}: an NLL of integers is not negative"
    if entropy is not None and value < entropy - 5 * error - 0.01:
        return f"{what}: an NLL is not below the entropy"
    return None


def _lower_limits(shared: Shared, rows: float) -> list[str] | None:
    """Which errors importance weights make too small, in all rows alike or in a share of them."""
    if shared.collapsed:
        return ["se_estimator", "se_shared"]
    return ["se_estimator"] if rows > COLLAPSED_ROWS else None


def _mean(nats: Tensor, weight: Tensor) -> float:
    return float(nats.sum() / weight.sum())
