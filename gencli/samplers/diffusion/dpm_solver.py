"""Samples in few steps, by integrating exactly what is linear in the probability flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.models.base import TimeField
from gencli.samplers.diffusion.walk import Grid, Gridded, Guided, Visit, on


@dataclass(frozen=True, kw_only=True)
class DPMSolver(Gridded):
    """DPM-Solver++ (2M).

    In l = ln(alpha/sigma), with h = l_s - l_t and the previous step's h' = h r,

        x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) [(1 + 1/(2r)) x0 - 1/(2r) x0'].

    The first step, and the last one of few, are of first order.

    Args:
        steps: number of steps, one evaluation each.
        grid: ``log_snr``, ``uniform``, ``quadratic`` or ``karras``.

    References:
        Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022.
    """

    FEW: ClassVar[int] = 15

    steps: Count = 20
    grid: Grid = "log_snr"

    def walk(self, field: Guided[TimeField], x: Tensor, noise: Noise, visit: Visit | None = None) -> Tensor:
        path, grid = field.path, on(self.times(field.model), x)
        half = 0.5 * path.log_snr(grid)
        steps = half.diff()
        before: Tensor | None = None
        for i, (t, s, h) in enumerate(zip(grid[:-1], grid[1:], steps, strict=True)):
            x0 = field(x, t).x0
            last = i == len(steps) - 1 and (len(steps) < self.FEW or not torch.isfinite(h))
            guess = x0
            if before is not None and not last and torch.isfinite(steps[i - 1]):
                guess = x0 + (0.5 * h / steps[i - 1]).to(x) * (x0 - before)
            x = (path.sigma(s) / path.sigma(t)).to(x) * x - (path.alpha(s) * torch.expm1(-h)).to(x) * guess
            before = x0
            if visit is not None:
                visit(x, s)
        return x
