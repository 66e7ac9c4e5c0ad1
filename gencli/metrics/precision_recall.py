"""Precision and recall of samples by manifolds of nearest neighbours.

A set's manifold is the union of balls around its members, each as large as the distance to the member's k-th nearest
neighbour. "Improved precision and recall metric for assessing generative models" (Kynkäänniemi, Karras, Laine, Lehtinen
and Aila, 2019); density and coverage are of "Reliable fidelity and diversity metrics for generative models" (Naeem, Oh,
Uh, Choi and Yoo, 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.options import Count
from gencli.metrics.base import Measured, SampleMetric, Samples, row_blocks, squared_distances


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall(SampleMetric):
    """precision: the share of samples in the reference's manifold; recall: the share of the reference in theirs.

    The value is their harmonic mean. Both depend on n and k: exact samples reach less than 1. ``density`` counts the
    reference balls that hold a sample, over k (1 for exact samples, and above where samples crowd); ``coverage`` is the
    share of reference balls that hold a sample. Distances are between examples as they are shown (pixels, not features
    of a network), so figures do not compare with those of papers that use VGG features. The standard errors are
    binomial, for one set given the other's manifold.

    Args:
        k: neighbours; 3 in the paper for 50,000 samples, 5 where density and coverage were proposed.
    """

    better = "higher"
    k: Count = 5

    def measure(self, samples: Samples) -> Measured:
        x, reference = samples.shown
        n, m = len(x), len(reference)
        if min(n, m) <= self.k:
            raise ValueError(f"n={n} samples and {m} reference examples: more than metrics.precision_recall.k={self.k}")
        radius, own = _radii(reference, self.k), _radii(x, self.k)
        count = torch.zeros(n, device=x.device)  # of reference balls around each sample
        recalled = torch.zeros(m, dtype=torch.bool, device=x.device)
        covered = torch.zeros(m, dtype=torch.bool, device=x.device)
        for block in row_blocks(n, m, x.device):
            d = squared_distances(x[block], reference)
            within = d <= radius
            count[block] = within.sum(1).float()
            covered |= within.any(0)
            recalled |= (d <= own[block, None]).any(0)
        precision, recall = float((count > 0).float().mean()), float(recalled.float().mean())
        value = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        se_precision, se_recall = _binomial(precision, n), _binomial(recall, m)
        slope = (
            (precision + recall) ** 2 / 2 if precision + recall else math.inf
        )  # d value / d precision = recall^2 / ..
        return Measured(
            value,
            math.hypot(recall**2 * se_precision, precision**2 * se_recall) / slope,
            {
                "precision": precision,
                "recall": recall,
                "density": float(count.mean()) / self.k,
                "coverage": float(covered.float().mean()),
                "se_precision": se_precision,
                "se_recall": se_recall,
            },
        )


def _radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each row to its k-th nearest neighbour other than itself: (n,)."""
    radii = torch.zeros(len(x), device=x.device)
    for block in row_blocks(len(x), len(x), x.device):
        d = squared_distances(x[block], x)
        d[torch.arange(len(block), device=x.device), block] = math.inf
        radii[block] = d.kthvalue(k, dim=1).values if x.device.type == "cpu" else d.topk(k, largest=False).values[:, -1]
    return radii


def _binomial(p: float, n: int) -> float:
    return math.sqrt(p * (1 - p) / n)
