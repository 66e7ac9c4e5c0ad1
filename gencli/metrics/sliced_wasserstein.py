"""Sliced Wasserstein distance: SW_2^2(P, Q) = E_u W_2^2(u.x, u.y) over directions u uniform on the sphere.

"Sliced and Radon Wasserstein barycenters of measures" (Bonneel, Rabin, Peyré and Pfister, 2015). In one dimension the
best transport matches quantiles, W_2^2 = int (F^-1(t) - G^-1(t))^2 dt, so a slice costs a sort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gencli.core.options import Range
from gencli.metrics.base import Measured, SampleMetric, Samples

_SLICES = 50  # at once


@dataclass(frozen=True, kw_only=True)
class SlicedWasserstein(SampleMetric):
    """SW_2 between samples and reference, in the unit of the data as they are shown.

    The estimate is biased: exact samples have a value above 0 too, which ``floor`` tells, the value between disjoint
    halves of the reference scaled to these numbers of examples. The standard error is that of the directions and, by
    the dual potentials of the transport, that of samples and reference.

    Args:
        projections: number of directions.
    """

    projections: Annotated[int, Range(low=2)] = 1000

    def measure(self, samples: Samples) -> Measured:
        x, reference = samples.shown
        n, m = len(x), len(reference)
        if min(n, m) < 4:
            raise ValueError(f"n={n} samples and {m} reference examples: at least 4 of each")
        u = torch.randn(self.projections, x.shape[1], generator=samples.generator(2))
        u = (u / u.norm(dim=1, keepdim=True)).to(x.device)
        squared, variance = sliced(x, reference, u)
        value = math.sqrt(max(squared, 0.0))
        order = torch.randperm(m, generator=samples.generator(3)).to(x.device)
        half, _ = sliced(reference[order[: m // 2]], reference[order[m // 2 :]], u)
        floor = half * (1 / n + 1 / m) / (4 / m)  # of samples from the reference's own distribution
        se = math.sqrt(variance) / (2 * value) if value > 0 else 0.0
        return Measured(value, se, {"floor": math.sqrt(floor)})


def sliced(x: Tensor, y: Tensor, u: Tensor) -> tuple[float, float]:
    """SW_2^2 of x (n, D) and y (m, D) along directions u (P, D), and the variance of this estimate."""
    n, m = len(x), len(y)
    k = max(n, m)
    level = (torch.arange(k, device=x.device) + 0.5) / k  # both quantile functions are steps
    slices = []
    potential_x, potential_y = torch.zeros(n, device=x.device), torch.zeros(m, device=x.device)
    for some in u.split(_SLICES):
        (p, order_p), (q, order_q) = (x @ some.T).sort(0), (y @ some.T).sort(0)
        at_p, at_q = p[(level * n).long()], q[(level * m).long()]
        slices.append((at_p - at_q).square().mean(0))
        _add_potential(potential_x, p, order_p, q)
        _add_potential(potential_y, q, order_q, p)
    w = torch.cat(slices).double()
    potential_x, potential_y = potential_x / len(u), potential_y / len(u)
    variance = float(w.var()) / len(u) + float(potential_x.var()) / n + float(potential_y.var()) / m
    return float(w.mean()), variance


def _add_potential(total: Tensor, p: Tensor, order: Tensor, q: Tensor) -> None:
    """Add the potential f, f'(x) = 2 (x - T(x)), of each slice at each example: the influence of it on W_2^2."""
    n, m = len(p), len(q)
    matched = q[((torch.arange(n, device=p.device) + 0.5) / n * m).long()]
    slope = 2 * (p - matched)
    steps = (slope[1:] + slope[:-1]) / 2 * (p[1:] - p[:-1])
    f = torch.cat([torch.zeros_like(p[:1]), steps.cumsum(0)])
    total += torch.zeros_like(f).scatter_(0, order, f - f.mean(0)).sum(1)
