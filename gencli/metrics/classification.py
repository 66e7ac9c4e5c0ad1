"""How well a model tells classes: accuracy, nats and calibration of p(y | x)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.bounds import WORDS
from gencli.core.noise import Purpose, stream
from gencli.core.options import Auto, Count
from gencli.data.base import Dataset
from gencli.data.split import at_most
from gencli.metrics.base import Measured, ModelMetric
from gencli.models.base import Model
from gencli.models.bayes import log_posterior, prior_of
from gencli.models.structure import Classifier
from gencli.models.subject import Subject

REPLICATES = 200
"""Of the bootstrap, and simulated data sets of the floor."""


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """sum_b n_b / n |mean of right - mean of confidence in bin b|, of equal bins of [0, 1] (Guo et al., 2017)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(index, right - confidence, bins)).sum() / len(confidence))


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy.

    Args:
        value: the expected calibration error, which is positive even of a calibrated model.
        se: its bootstrap standard error.
        floor: its mean over simulated labels that the model's confidence is right about.
    """

    value: float
    se: float
    floor: float


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int, rng: np.random.Generator) -> Calibration:
    """The expected calibration error of a classifier.

    Args:
        confidence: (n,) the largest p(y | x).
        right: (n,) whether that class is y.
        bins: of the confidence.
        rng: of the bootstrap and the floor.
    """
    n, right = len(confidence), right.astype(float)
    again = (rng.integers(0, n, n) for _ in range(REPLICATES))
    spread = [calibration_error(confidence[rows], right[rows], bins) for rows in again]
    drawn = ((rng.random(n) < confidence).astype(float) for _ in range(REPLICATES))
    floor = np.mean([calibration_error(confidence, labels, bins) for labels in drawn])
    return Calibration(calibration_error(confidence, right, bins), float(np.std(spread, ddof=1)), float(floor))


@dataclass(frozen=True, kw_only=True)
class Classification(ModelMetric):
    """The accuracy of argmax_y p(y | x) on labelled examples, its standard error binomial.

    ``nll_y``: the mean of -log p(y | x) in nats. ``calibration``: the expected calibration error of the likeliest class
    in equal bins of its probability, with a bootstrap error; ``calibration_floor`` is what a calibrated model of these
    probabilities would have on as many examples.

    A model with its own p(y | x) is asked for that; of a model of p(x | y) it follows by Bayes' rule. Where likelihoods
    are bounds or estimates, their ratios are neither, so p(y | x) is an approximation, and the record says so.

    Args:
        prior: p(y) of Bayes' rule: the shares of the ``training`` split, or ``uniform``.
        examples: random examples that are classified; auto: all of a model with its own p(y | x), else 1,000, because
            each costs K likelihoods.
        bins: of the calibration error.

    References:
        Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017 (15 bins).
    """

    better = "higher"
    needs = "labelled data and a model of p(x given y) or p(y given x)"

    prior: Literal["training", "uniform"] = "training"
    examples: Auto[Count] = "auto"
    bins: Count = 15

    def check(self, dataset: Dataset, model: Model) -> None:
        if not dataset.spec.classes:
            raise ValueError(f"metrics=[classification] needs labelled data; data={dataset.name} has no labels")
        own = isinstance(model, Classifier)
        if not own and not model.conditional:
            raise ValueError(
                "metrics=[classification] needs a model of p(x given y), trained with model.conditional=true, or of "
                "p(y given x), such as model=joint_ebm; this model was trained without labels"
            )
        if own and self.prior != "training":
            raise ValueError(f"metrics.classification.prior={self.prior}: this model has a p(y given x) of its own")

    def measure(self, subject: Subject) -> Measured:
        own = isinstance(subject.model, Classifier)
        most = (None if own else 1000) if self.examples == "auto" else self.examples
        split = at_most(subject.split, most)
        batch = split.gather(torch.arange(len(split)))
        assert batch.y is not None
        if len(split) < 2:
            raise ValueError("metrics=[classification] needs at least 2 examples")
        prior = None if own else prior_of(subject, self.prior)
        log_p = log_posterior(subject, batch.x, prior)
        return self.of(log_p, batch.y.cpu(), subject.seed, self._facts(subject, prior))

    def _facts(self, subject: Subject, prior: Tensor | None) -> dict[str, str]:
        """Where p(y | x) comes from, and what should make one doubt it."""
        if prior is None:
            return {"says": "by its own p(y | x)"}
        doubts = [] if subject.bound == "exact" else ["so that p(y | x) is an approximation"]
        never = [str(k) for k, share in enumerate(prior.tolist()) if not share]
        if never:
            doubts.append(f"no training example of classes {', '.join(never)}")
        return {"says": ", ".join([f"by Bayes' rule from NLLs ({WORDS[subject.bound]})", *doubts])}

    def of(self, log_p: Tensor, y: Tensor, seed: int, facts: dict[str, str]) -> Measured:
        """The measurement of log p(y | x) (n, K) beside labels (n,)."""
        n = len(y)
        best, told = log_p.max(1)
        right = (told == y).numpy()
        nats = -log_p.gather(1, y[:, None].long()).squeeze(1).numpy()
        rng = np.random.default_rng(stream(seed, Purpose.METRICS, 21))
        found = calibration(best.exp().clamp(max=1).numpy(), right, self.bins, rng)
        share = (right.sum() + 1) / (n + 2)  # not 0 or 1, of which the error would be 0
        return Measured(
            float(right.mean()),
            math.sqrt(share * (1 - share) / n),
            {
                "nll_y": float(nats.mean()),
                "se_nll_y": float(nats.std(ddof=1) / math.sqrt(n)),
                "calibration": found.value,
                "se_calibration": found.se,
                "calibration_floor": found.floor,
            },
            facts | {"binning": f"{self.bins} equal bins of the likeliest class's probability"},
            examples=n,
        )
