"""Samples by the probability flow: dx/dt = velocity(x, t), from the prior at t_max to the data."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli import ode
from gencli.interfaces import Model, TimeField, VelocityField
from gencli.noise import Noise
from gencli.samplers.walk import GRIDS, Guided, Walk, on, times


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

    def check(self, model: Model) -> None:
        super().check(model)
        if self.method != "dopri5" and self.grid != "uniform" and not isinstance(model, TimeField):
            raise ValueError(f"sampler.grid={self.grid}: this model has no noise level to space times by; uniform")

    def walk(self, field: Guided, x: Tensor, noise: Noise) -> Tensor:
        def velocity(state: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            return field.velocity(state.view(-1, *x.shape[1:]), t, rows).flatten(1)

        model = field.model
        if self.method == "dopri5":
            solved = ode.dopri5(
                velocity,
                x.flatten(1),
                model.t_max,
                model.t_min,
                atol=self.atol,
                rtol=self.rtol,
                max_nfe=self.max_nfe,
                what="sampler.max_nfe",
            )
        else:
            solved = ode.fixed(velocity, x.flatten(1), on(self._times(model), x), self.method)
        field.nfe = float(solved.nfe.double().mean()) * field.cost
        return solved.x.view_as(x)

    def _times(self, model: VelocityField) -> Tensor:
        if isinstance(model, TimeField):
            return times(model.path, self.steps, self.grid)
        return torch.linspace(model.t_max, model.t_min, self.steps + 1, dtype=torch.float64)
