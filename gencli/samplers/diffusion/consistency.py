"""Samples by jumps to the end of the flow, with noise anew in between."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.models.base import TimeField
from gencli.models.trained import Learned
from gencli.samplers.diffusion.walk import Grid, Gridded, Guided, Steps


@dataclass(frozen=True, kw_only=True)
class Consistency(Gridded, Steps):
    """x = f(x_t, t), then back to an earlier time s: x_s = r x + sqrt(sigma_s^2 - (r sigma_0)^2) z.

    Here r = alpha_s / alpha_0, and 0 stands for t_min.

    Args:
        steps: number of jumps, one evaluation each.
        grid: times from which they start: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.

    References:
        Song, Dhariwal, Chen and Sutskever, "Consistency models", 2023 (algorithm 1).
    """

    steps: Count = 1
    grid: Grid = "uniform"

    @property
    def steps_of(self) -> str:
        return "consistency"

    def check(self, model: TimeField, learned: Learned) -> None:
        super().check(model, learned)
        if learned.steps_of != self.steps_of:
            raise ValueError("sampler: only objective=consistency trains a model to jump; sampler=ode")

    def step(self, field: Guided[TimeField], x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        path, x = field.path, field(x, t).x0
        if s <= path.t_min:
            return x
        end = s.new_tensor(path.t_min)
        kept = path.alpha(s) / path.alpha(end)
        spread = (path.sigma(s) ** 2 - (kept * path.sigma(end)) ** 2).sqrt()
        return kept.to(x) * x + spread.to(x) * noise.randn(*x.shape).to(x)
