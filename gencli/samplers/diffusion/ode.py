"""Samples by the probability flow: dx/dt = velocity(x, t), from the prior at t_max to the data."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.methods import ode
from gencli.models.base import Model, TimeField, VelocityField
from gencli.models.trained import Learned
from gencli.samplers.diffusion.walk import GRIDS, Guided, Visit, Walk, on, times


class ODE(Walk):
    """Deterministic samples, by a method of fixed steps or one that chooses its own for each row.

    Args:
        method: ``euler``, ``heun``, ``rk4`` or ``dopri5``.
        steps: of euler, heun (two evaluations each) and rk4 (four).
        grid: times of those steps: ``uniform``, ``quadratic``, ``log_snr`` or ``karras``.
        atol: absolute tolerance of dopri5.
        rtol: relative tolerance of dopri5.
        max_nfe: evaluations of dopri5 after which it gives up.
        guidance: w.
        classes: labels to draw.

    Raises:
        ValueError: an unknown method or grid, or a number out of range.

    References:
        Song et al., "Score-based generative modeling through stochastic differential equations", 2021 (section 4.3).
    """

    requires = (VelocityField,)
    any_time = True
    WATCHED = 40
    """Even stretches of time that dopri5 solves one by one for who wants to see points on the way."""

    def __init__(
        self,
        method: str = "dopri5",
        steps: int = 50,
        grid: str = "uniform",
        atol: float = 1e-5,
        rtol: float = 1e-5,
        max_nfe: int = 2000,
        guidance: float = 1.0,
        classes: list[int] | None = None,
    ) -> None:
        super().__init__(guidance, classes)
        if method not in ode.METHODS:
            raise ValueError(f"sampler.method={method}: one of {', '.join(ode.METHODS)}")
        if grid not in GRIDS:
            raise ValueError(f"sampler.grid={grid}: one of {', '.join(GRIDS)}")
        for name, value in (("steps", steps), ("max_nfe", max_nfe)):
            if value < 1:
                raise ValueError(f"sampler.{name}={value}: at least 1")
        for name, number in (("atol", atol), ("rtol", rtol)):
            if not number > 0:
                raise ValueError(f"sampler.{name}={number}: above 0")
        self.method, self.steps, self.grid = method, steps, grid
        self.atol, self.rtol, self.max_nfe = atol, rtol, max_nfe

    def check(self, model: Model, learned: Learned) -> None:
        super().check(model, learned)
        if self.method != "dopri5" and self.grid != "uniform" and not isinstance(model, TimeField):
            raise ValueError(f"sampler.grid={self.grid}: this model has no noise level to space times by; uniform")

    def walk(self, field: Guided, x: Tensor, noise: Noise, visit: Visit | None = None) -> Tensor:
        def velocity(state: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            return field.velocity(state.view(-1, *x.shape[1:]), t, rows).flatten(1)

        stops, state, nfe = on(self._stops(field.model, visit is not None), x), x.flatten(1), x.new_zeros(())
        for t, s in pairwise(stops):
            if self.method == "dopri5":
                solved = ode.dopri5(
                    velocity,
                    state,
                    float(t),
                    float(s),
                    atol=self.atol,
                    rtol=self.rtol,
                    max_nfe=self.max_nfe,
                    what="sampler.max_nfe",
                )
            else:
                solved = ode.fixed(velocity, state, torch.stack([t, s]), self.method)
            state, nfe = solved.x, nfe + solved.nfe.to(x).mean()
            if visit is not None:
                visit(state.view_as(x), s)
        field.nfe = float(nfe) * field.cost
        return state.view_as(x)

    def _stops(self, model: VelocityField, watched: bool) -> Tensor:
        """The times at which all rows are together: dopri5 solves in one go, unless it is watched."""
        if self.method == "dopri5":
            steps = self.WATCHED if watched else 1
        elif isinstance(model, TimeField):
            return times(model.path, self.steps, self.grid)
        else:
            steps = self.steps
        return torch.linspace(model.t_max, model.t_min, steps + 1, dtype=torch.float64)
