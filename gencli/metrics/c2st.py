"""Classifier two-sample test: how well a classifier tells samples from held-out examples.

"Revisiting classifier two-sample tests" (Lopez-Paz and Oquab, 2017); 5 folds and a network of two layers as in
"Benchmarking simulation-based inference" (Lueckmann et al., 2021).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from gencli.core.options import Count, Range
from gencli.metrics.base import Measured, SampleMetric, Samples

_MANY = 2000


@dataclass(frozen=True, kw_only=True)
class C2ST(SampleMetric):
    """Cross-validated accuracy of a network that tells samples from examples: 0.5 is perfect, 1 is told at a glance.

    As many samples as reference examples are taken; features are standardised within each fold's training part. Every
    example is classified once, by a network that has not seen it, so the standard error is a binomial one.

    Args:
        folds: of the cross-validation.
        hidden: units of each of the two layers; None: ten a coordinate, 50 to 200.
    """

    folds: Annotated[int, Range(low=2)] = 5
    hidden: Count | None = None

    def measure(self, samples: Samples) -> Measured:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, reference = (part.cpu() for part in samples.shown)
        n = min(len(x), len(reference))
        if n < 10 * self.folds:
            raise ValueError(f"n={n}: metrics.c2st.folds={self.folds} needs at least {10 * self.folds} of each")
        chosen = torch.randperm(len(reference), generator=samples.generator(4))[:n]
        features = torch.cat([x[:n], reference[chosen]]).numpy()
        labels = np.repeat([1, 0], n)
        hidden = self.hidden or min(max(10 * x.shape[1], 50), 200)
        state = samples.seed % 2**32
        # stopping early takes a tenth of the examples away, which only many of them can spare
        network = MLPClassifier((hidden, hidden), early_stopping=n > _MANY, max_iter=200, random_state=state)
        folds = StratifiedKFold(self.folds, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            told = cross_val_predict(make_pipeline(StandardScaler(), network), features, labels, cv=folds)
        accuracy = float((told == labels).mean())
        se = math.sqrt(max(accuracy * (1 - accuracy), 0.25 / (2 * n)) / (2 * n))
        z = (accuracy - 0.5) / math.sqrt(0.25 / (2 * n))
        return Measured(accuracy, se, {"p_value": 0.5 * math.erfc(z / math.sqrt(2))})
