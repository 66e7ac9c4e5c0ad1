"""Modes hit: which of the true distribution's known modes have samples, and how evenly.

The counts are those of "VEEGAN: Reducing mode collapse in GANs using implicit variational learning" (Srivastava et al.,
2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gencli.core.options import Positive
from gencli.data.base import Dataset
from gencli.metrics.base import Measured, SampleMetric, Samples
from gencli.models.base import Model

_HISTOGRAM = 5  # expected samples a mode that a chi-square test needs


@dataclass(frozen=True, kw_only=True)
class Modes(SampleMetric):
    """The number of modes with at least one sample within ``sigmas`` standard deviations of their centre.

    ``within`` is the share of such samples, with its binomial error; ``kl`` (nats, from uniform) and ``chi2_p`` say
    how evenly they fall on the modes. The reference plays no part: the centres are those of the true distribution.

    Args:
        sigmas: 4; exact samples of two coordinates are within by exp(-8), all but 0.03 %.

    Raises:
        ValueError: (by ``check``) data without known modes.
    """

    better = "higher"
    needs = "data with known modes (eight_gaussians, twentyfive_gaussians)"
    sigmas: Positive = 4.0

    def check(self, dataset: Dataset, model: Model) -> None:
        if dataset.modes is None:
            raise ValueError(f"metrics=[modes] needs {self.needs}; data={dataset.name} has none")

    def measure(self, samples: Samples) -> Measured:
        from scipy.stats import chisquare

        modes = samples.dataset.modes
        assert modes is not None
        x = samples.x.flatten(1).double().cpu()
        distance, nearest = torch.cdist(x, modes.centres.double()).min(1)
        near = distance <= self.sigmas * modes.deviation
        count = torch.bincount(nearest[near], minlength=len(modes.centres)).double()
        within, total = float(near.double().mean()), float(count.sum())
        diagnostics = {"of": float(len(count)), "within": within}
        diagnostics["se_within"] = math.sqrt(within * (1 - within) / len(x))
        if total:
            share = count / total
            diagnostics["kl"] = float(torch.special.xlogy(share, share * len(count)).sum())
        if total >= _HISTOGRAM * len(count):
            diagnostics["chi2_p"] = float(chisquare(count.numpy()).pvalue)
        return Measured(float((count > 0).sum()), None, diagnostics)
