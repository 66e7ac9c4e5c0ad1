"""Samples by the probability flow: dx/dt = velocity(x, t), from the prior at t_max to the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Positive
from gencli.methods import ode
from gencli.models.base import TimeField, VelocityField
from gencli.models.trained import Learned
from gencli.samplers.diffusion.walk import Grid, Guided, Visit, Walk, on, times


@dataclass(frozen=True, kw_only=True)
class ODE(Walk[VelocityField]):
    """Deterministic samples, by a method of fixed steps or one that chooses its own for each row.

    Args:
        method: ``euler``, ``heun``, ``rk4`` or ``dopri5``.
        steps: of euler, heun (two evaluations each) and rk4 (four).
        grid: times of those steps: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.
        atol: absolute tolerance of dopri5.
        rtol: relative tolerance of dopri5.
        max_nfe: evaluations of dopri5 after which it gives up.

    References:
        Song et al., "Score-based generative modeling through stochastic differential equations", 2021 (section 4.3).
    """

    any_time: ClassVar[bool] = True
    WATCHED: ClassVar[int] = 40
    """Even stretches of time that dopri5 solves one by one for who wants to see points on the way."""

    method: ode.Method = "dopri5"
    steps: Count = 50
    grid: Grid = "uniform"
    atol: Positive = 1e-5
    rtol: Positive = 1e-5
    max_nfe: Count = 2000

    def check(self, model: VelocityField, learned: Learned) -> None:
        super().check(model, learned)
        if self.method != "dopri5" and self.grid != "uniform" and not isinstance(model, TimeField):
            raise ValueError(f"sampler.grid={self.grid}: this model has no noise level to space times by; uniform")

    def walk(self, field: Guided[VelocityField], x: Tensor, noise: Noise, visit: Visit | None = None) -> Tensor:
        def velocity(state: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            return field.velocity(state.view(-1, *x.shape[1:]), t, rows).flatten(1)

        state, nfe, grid = x.flatten(1), x.new_zeros(()), on(self._grid(field.model), x)
        for leg in [grid] if visit is None else grid.unfold(0, 2, 1):  # in one go, unless it is watched
            if self.method == "dopri5":
                solved = ode.dopri5(
                    velocity,
                    state,
                    float(leg[0]),
                    float(leg[-1]),
                    atol=self.atol,
                    rtol=self.rtol,
                    max_nfe=self.max_nfe,
                    what="sampler.max_nfe",
                )
            else:
                solved = ode.fixed(velocity, state, leg, self.method)
            state, nfe = solved.x, nfe + solved.nfe.to(x).mean()
            if visit is not None:
                visit(state.view_as(x), leg[-1])
        field.nfe = float(nfe) * field.cost
        return state.view_as(x)

    def _grid(self, model: VelocityField) -> Tensor:
        """Times of fixed steps, and for dopri5 those at which it may be watched."""
        if self.method != "dopri5" and isinstance(model, TimeField):
            return times(model.path, self.steps, self.grid)
        steps = self.WATCHED if self.method == "dopri5" else self.steps
        return torch.linspace(model.t_max, model.t_min, steps + 1, dtype=torch.float64)
