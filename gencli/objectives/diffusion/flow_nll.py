"""Maximum likelihood of a continuous flow: minimise E[-log p(x)], solving for log p and its gradient.

torchdiffeq solves for z and log p together. Its adjoint solves a second equation backwards for the gradient, so that
memory does not grow with the number of steps; without it, gradients go through the solver's own steps.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, NonNegative, Positive
from gencli.core.spec import Batch, Spec
from gencli.methods import volume
from gencli.models.base import VelocityField
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Objective, Turn
from gencli.objectives.diffusion.denoise import hide

HELD_DIM = 256
"""Dimension up to which ``adjoint=auto`` keeps the steps of the solver."""
EXACT_DIM = 8
"""Dimension up to which ``trace=auto`` takes the exact trace."""


class FlowNLL(Objective[VelocityField]):
    """-log p(x given y) + kinetic int |v|^2 dt + jacobian int |dv/dz|_F^2 dt, in nats, by fixed steps uniform in t.

    Among the flows of one density the penalties prefer straight and even motion, which few steps solve well. Training
    drives the error of its own solver towards likelihoods that are not there, the more so if it is always the same:
    therefore each batch has times of its own, shifted by up to half a step. Where steps are too few none the less,
    ``nll`` in the logs falls below the validation score, which is -log p alone by an adaptive solver.

    Args:
        spec: what one example is.
        method: ``euler``, ``midpoint`` or ``rk4``: one, two or four evaluations a step.
        steps: number of steps from t_min to t_max.
        adjoint: gradients by the adjoint equation, in as many steps; False: through the solver, which is a third faster
            and keeps all of its steps in memory; ``auto``: by the equation beyond 256 dimensions.
        trace: ``exact``: D derivatives; ``hutchinson``: probes fixed within a solve; ``auto``: exact in up to 8
            dimensions.
        probes: of ``hutchinson``, for each row.
        kinetic: weight of the kinetic energy.
        jacobian: weight of the squared Frobenius norm of the Jacobian.
        atol: absolute tolerance of validation's solver, for z and for nats.
        rtol: relative tolerance of it.
        max_nfe: evaluations after which it gives up.

    References:
        Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", 2018 (the adjoint);
        Grathwohl et al., "FFJORD: Free-form continuous dynamics for scalable reversible generative models", 2019;
        Finlay, Jacobsen, Nurbekyan and Oberman, "How to train your neural ODE: the world of Jacobian and kinetic
        regularization", 2020.
    """

    continuous = True

    def __init__(
        self,
        spec: Spec,
        *,
        method: Literal["euler", "midpoint", "rk4"] = "rk4",
        steps: Count = 6,
        adjoint: Auto[bool] = "auto",
        trace: Literal["auto", "exact", "hutchinson"] = "auto",
        probes: Count = 1,
        kinetic: NonNegative = 0.01,
        jacobian: NonNegative = 0.005,
        atol: Positive = 1e-4,
        rtol: Positive = 1e-4,
        max_nfe: Count = 2000,
    ) -> None:
        super().__init__(spec)
        self.method, self.steps = method, steps
        self.adjoint = spec.dim > HELD_DIM if adjoint == "auto" else adjoint
        self.trace, self.probes, self.kinetic, self.jacobian = trace, probes, kinetic, jacobian
        self.atol, self.rtol, self.max_nfe = atol, rtol, max_nfe

    def bind(self, model: VelocityField) -> Learned:
        if model.timesteps:
            raise ValueError(
                f"model.timesteps={model.timesteps}: the flow runs through times in between, which this model does not "
                "know; null"
            )
        return Learned(score=False)  # nothing holds the flow to the path, whose score it would be

    def advice(self) -> str:
        return f"Try more objective.steps or a larger objective.kinetic; {super().advice()[4:]}"

    def turns(self, model: VelocityField) -> list[Turn]:
        parameters = [p for p in model.parameters() if p.requires_grad]

        def loss(batch: Batch, noise: Noise) -> Loss:
            x, y = batch.x, hide(model, batch.y, noise)
            with torch.autocast(x.device.type, enabled=False):
                shift = noise.rand(1)[0] - 0.5
                nll, penalties = self.solve(model, x.float(), y, self._probes(x, noise), shift)
            nll, (kinetic, jacobian) = nll.mean(), penalties.mean(0)
            logs = {"nll": nll.detach(), "kinetic": kinetic.detach(), "jacobian": jacobian.detach()}
            return Loss(nll + self.kinetic * kinetic + self.jacobian * jacobian, logs)

        return [Turn("model", parameters, loss)]

    def solve(
        self, model: VelocityField, x: Tensor, y: Tensor | None, probes: Tensor | None, shift: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """-log p(x) in nats (B,) and the integrals of |v|^2 and |dv/dz|_F^2 (B, 2), differentiable.

        shift: of all times but the ends, in steps, from -1/2 to 1/2.
        """
        from torchdiffeq import odeint, odeint_adjoint  # brings scipy's integrators, which take a while to import

        D, y = model.spec.dim, y if model.conditional else None

        def derivative(t: Tensor, state: Tensor) -> Tensor:
            now = volume.rates(model, state[:, :D], t.expand(len(state)), y, probes)
            norm = now.pulled.square().sum(2)  # (K, B): of all unit vectors together, or of each probe on average
            columns = [
                now.divergence.mean(1),
                now.velocity.square().sum(1),
                norm.sum(0) if probes is None else norm.mean(0),
            ]
            return torch.cat([now.velocity, torch.stack(columns, 1)], 1)

        def grid(f: object, state: Tensor, ends: Tensor) -> Tensor:
            return times if ends[0] < ends[1] else times.flip(0)

        times = (torch.arange(self.steps + 1, device=x.device) + shift) / self.steps
        times = model.t_min + (model.t_max - model.t_min) * times.to(x)
        ends = x.new_tensor([model.t_min, model.t_max])
        times[0], times[-1] = ends
        start = torch.cat([x.flatten(1), x.new_zeros(len(x), 3)], 1)
        options = {"method": self.method, "options": {"grid_constructor": grid}}
        if self.adjoint:
            moved = tuple(p for p in model.parameters() if p.requires_grad)
            end = odeint_adjoint(derivative, start, ends, adjoint_params=moved, **options)[1]
        else:
            end = odeint(derivative, start, ends, **options)[1]
        return -volume.log_prior(model, end[:, :D]) - end[:, D], end[:, D + 1 :]

    @torch.no_grad()
    def score(self, model: VelocityField, batch: Batch, noise: Noise) -> Tensor:

        solve = volume.adaptive(model, atol=self.atol, rtol=self.rtol, max_nfe=self.max_nfe, what="objective.max_nfe")
        return -volume.log_prob(model, batch.x, batch.y, self._probes(batch.x, noise), solve)[0].mean(1)

    def _probes(self, x: Tensor, noise: Noise) -> Tensor | None:
        if self.trace == "exact" or (self.trace == "auto" and self.spec.dim <= EXACT_DIM):
            return None
        return volume.rademacher(noise, x, self.probes)
