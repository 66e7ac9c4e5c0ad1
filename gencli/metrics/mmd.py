"""Maximum mean discrepancy: MMD^2(P, Q) = E k(x, x') + E k(y, y') - 2 E k(x, y), zero only where P = Q.

"A kernel two-sample test" (Gretton, Borgwardt, Rasch, Schölkopf and Smola, 2012).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.options import Count, Positive, Range
from gencli.data.base import Dataset
from gencli.metrics.base import Measured, SampleMetric, Samples, row_blocks, squared_distances
from gencli.models.base import Model

Kernel = Callable[[Tensor, Tensor], Tensor]
"""Rows (n, D) and (m, D) -> k (n, m)."""

_MEDIAN = 2000  # reference examples whose distances give the median


@dataclass
class TwoSample:
    """MMD^2, its standard error, and the p-value of the hypothesis that both sets have one distribution."""

    value: float
    se: float
    p_value: float


def two_sample(x: Tensor, y: Tensor, kernel: Kernel, permutations: int, generator: torch.Generator) -> TwoSample:
    """The unbiased estimate (a U-statistic) in one pass over the pooled kernel matrix, in blocks of rows.

    With row means r of the kernel, the standard error is that of the U-statistic's Hoeffding decomposition: the
    variance of its projections a_i = r_xx(i) - r_xy(i), b_j = r_yy(j) - r_xy(j), which carries the variance of the
    second order twice, less once that of the second order, and never below that of the second order. So it holds where
    P = Q too, where the first order vanishes, and is there about a fifth too large for being bounded below. The p-value
    comes from permutations of the pooled set, by its rank among them.

    Args:
        x: (n, D).
        y: (m, D).
        kernel: k, symmetric.
        permutations: B.
        generator: of the permutations.
    """
    n, m = len(x), len(y)
    if min(n, m) < 4:
        raise ValueError(f"n={n} samples and {m} reference examples: at least 4 of each")
    pooled = torch.cat([x, y])
    member = torch.zeros(n + m, 1 + permutations)  # column 0: the sets as they are
    member[:n, 0] = 1
    shuffled = torch.rand(n + m, permutations, generator=generator).argsort(0)
    member[:, 1:].scatter_(0, shuffled[:n], 1.0)
    member = member.to(x.device)

    inside, rows, squares = [], [], []
    for block in row_blocks(n + m, n + m, x.device):
        k = kernel(pooled[block], pooled)
        k[torch.arange(len(block), device=x.device), block] = 0  # i != j
        inside.append((k @ member).cpu().double())
        rows.append(k.sum(1).cpu().double())
        k.square_()
        squares.append(torch.stack([k[:, :n].sum(1), k[:, n:].sum(1)], 1).cpu().double())
    within, total, square = torch.cat(inside), torch.cat(rows), torch.cat(squares)

    member = member.cpu()
    s_xx = (member * within).sum(0)
    s_xy = (member * total[:, None]).sum(0) - s_xx
    s_yy = total.sum() - s_xx - 2 * s_xy
    statistics = s_xx / (n * (n - 1)) + s_yy / (m * (m - 1)) - 2 * s_xy / (n * m)
    value = float(statistics[0])

    to_x, to_y = within[:, 0], total - within[:, 0]
    xx, xy, yx, yy = to_x[:n] / (n - 1), to_y[:n] / m, to_x[n:] / n, to_y[n:] / (m - 1)  # row means
    second = (
        2 * _degenerate(float(square[:n, 0].sum()) / (n * (n - 1)), xx, xx) / (n * (n - 1))
        + 2 * _degenerate(float(square[n:, 1].sum()) / (m * (m - 1)), yy, yy) / (m * (m - 1))
        + 4 * _degenerate(float(square[:n, 1].sum()) / (n * m), xy, yx) / (n * m)
    )
    twice = 4 * float((xx - xy).var()) / n + 4 * float((yy - yx).var()) / m
    p_value = (1 + int((statistics[1:] >= statistics[0]).sum())) / (1 + permutations)
    return TwoSample(value, math.sqrt(max(twice - second, second)), p_value)


def _degenerate(mean_square: float, rows: Tensor, columns: Tensor) -> float:
    """Variance of the doubly centred kernel, E k^2 - E r^2 - E c^2 + (E k)^2 for its row and column means r, c."""
    mean = float(rows.mean())
    return max(0.0, mean_square - float(rows.square().mean()) - float(columns.square().mean()) + mean**2)


@dataclass(frozen=True, kw_only=True)
class MMD(SampleMetric):
    """MMD^2 with a mixture of Gaussian kernels, k(x, y) = mean_s exp(-|x - y|^2 / (2 (s h)^2)).

    The estimate is unbiased, so it may be negative. ``p_value``: the rank of the value among permutations of samples
    and reference; small values say that the distributions differ.

    Args:
        bandwidth: h; None: the median distance between reference examples, the same for every model.
        scales: the factors s.
        permutations: of the p-value.
    """

    bandwidth: Positive | None = None
    scales: Annotated[Sequence[Positive], Range(low=1)] = (0.25, 0.5, 1, 2, 4)
    permutations: Count = 200

    def measure(self, samples: Samples) -> Measured:
        x, reference = samples.shown
        bandwidth = self.bandwidth or median_distance(reference)

        def kernel(a: Tensor, b: Tensor) -> Tensor:
            d = squared_distances(a, b).mul_(-0.5 / bandwidth**2)
            k = torch.zeros_like(d)
            for s in self.scales:
                k += (d / s**2).exp_()
            return k.div_(len(self.scales))

        found = two_sample(x, reference, kernel, self.permutations, samples.generator(1))
        return Measured(found.value, found.se, {"p_value": found.p_value, "bandwidth": bandwidth})


@dataclass(frozen=True, kw_only=True)
class HammingMMD(SampleMetric):
    """MMD^2 with the exponential Hamming kernel k(x, y) = exp(-rate d(x, y)), d the number of coordinates that differ.

    The estimate is unbiased, so it may be negative. With rate 0.1 and 4,000 samples it is the number of the tables of
    "Generative flow networks for discrete probabilistic modeling" (Zhang et al., 2022) and of its successors, there in
    units of 1e-4.

    Args:
        rate: per coordinate that differs.
        permutations: of the p-value.
    """

    rate: Positive = 0.1
    permutations: Count = 200

    needs = "data of bits, levels or categories"

    def check(self, dataset: Dataset, model: Model) -> None:
        if not dataset.spec.support.discrete:
            raise ValueError(f"metrics=[hamming_mmd] needs {self.needs}; this data is {dataset.spec.support}")

    def measure(self, samples: Samples) -> Measured:
        spec, both = samples.dataset.spec, (samples.x, samples.reference.x)
        x, reference = (F.one_hot(rows.flatten(1).long(), spec.support.size).flatten(1).float() for rows in both)

        def kernel(a: Tensor, b: Tensor) -> Tensor:
            return (self.rate * (a @ b.T - spec.dim)).exp_()

        found = two_sample(x, reference, kernel, self.permutations, samples.generator(1))
        return Measured(found.value, found.se, {"p_value": found.p_value})


def median_distance(reference: Tensor) -> float:
    """The median distance between reference examples (m, D), from at most 2,000 of them.

    Raises:
        ValueError: it is 0.
    """
    order = torch.randperm(len(reference), generator=torch.Generator().manual_seed(0))[:_MEDIAN]
    some = reference[order.to(reference.device)]
    upper = torch.triu_indices(len(some), len(some), 1, device=some.device)
    median = float(squared_distances(some, some)[upper[0], upper[1]].median()) ** 0.5
    if median == 0:
        raise ValueError("the median distance between reference examples is 0: give metrics.mmd.bandwidth=H")
    return median
