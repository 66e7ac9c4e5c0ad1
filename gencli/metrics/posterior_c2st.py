"""Classifier two-sample test of posteriors: the number that inference without a likelihood is ranked by."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Count, Range
from gencli.data.base import Dataset
from gencli.methods.coverage import generator_of
from gencli.methods.posteriors import posteriors, reference, task_of
from gencli.metrics.base import Measured, ModelMetric
from gencli.metrics.calibration import require_simulator
from gencli.models.base import Model
from gencli.models.subject import Subject


def told_apart(x: Tensor, y: Tensor, folds: int, seed: int) -> float:
    """Cross-validated accuracy of the benchmark's classifier between rows x (n, D) and y (n, D).

    All rows are standardised by x; two layers of 10 D units, ReLU, Adam until the loss stands still; the folds are of
    shuffled rows.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    mean, std = x.mean(0), x.std(0)
    features = ((torch.cat([x, y]) - mean) / torch.where(std > 0, std, 1.0)).numpy()
    labels = np.repeat([0, 1], [len(x), len(y)])
    width = 10 * x.shape[1]
    network = MLPClassifier((width, width), max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        parts = KFold(folds, shuffle=True, random_state=seed)
        scores = cross_val_score(network, features, labels, cv=parts, error_score="raise")
    return float(scores.mean())


@dataclass(frozen=True, kw_only=True)
class PosteriorC2ST(ModelMetric):
    """Mean accuracy over observations of telling the model's posterior from the true one: 0.5 is perfect.

    The classifier and the number of draws are those of the benchmark. Observations are the data's own ten, which are
    not the benchmark's; their spread is the standard error. True posteriors are exact draws, or long chains on the
    known likelihood. With fewer draws the classifier is worse, and the value too low to be compared.

    Args:
        n: draws of each posterior, of either kind.
        observations: how many of them.
        folds: of the cross-validation.
        steps: recorded steps of chains.

    References:
        Lueckmann et al., "Benchmarking simulation-based inference", 2021; Lopez-Paz and Oquab, "Revisiting classifier
        two-sample tests", 2017.
    """

    needs = "data=simulator, and model.conditional=true or data.target=joint"
    n: Annotated[int, Range(low=50)] = 10_000
    observations: Annotated[int, Range(low=2, high=10)] = 10
    folds: Annotated[int, Range(low=2)] = 5
    steps: Count = 50

    def check(self, dataset: Dataset, model: Model) -> None:
        require_simulator("posterior_c2st", dataset, model)

    def measure(self, subject: Subject) -> Measured:
        task, given = task_of(subject), subject.dataset.observations
        assert given is not None, "data with a task have observations"
        x = given[1][: self.observations]
        generator = generator_of(subject, 3)
        first = reference(task, x[0], self.n, generator)
        if first is None:
            raise ValueError("metrics=[posterior_c2st] needs a task whose likelihood is known")
        drawn = posteriors(subject, x, self.n, number=2, steps=self.steps)
        found = []
        for k, own in enumerate(drawn.theta):
            exact = first if k == 0 else reference(task, x[k], self.n, generator)
            assert exact is not None
            found.append(told_apart(exact, own, self.folds, seed=1 + subject.seed))
        said = {"lowest": min(found), "highest": max(found)}
        se = float(np.std(found, ddof=1)) / len(found) ** 0.5
        return Measured(
            float(np.mean(found)), se, said | drawn.diagnostics, drawn=len(found) * self.n, examples=len(found)
        )
