"""Consistency distillation: all points of one trajectory of the teacher have the same end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import BelowOne, Count
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import like
from gencli.models.base import TimeField
from gencli.models.trained import Learned, TrainedRun
from gencli.objectives.base import Turn
from gencli.objectives.distillation.base import FewSteps, Grid, distance, fixed, heun


class Consistency(FewSteps):
    """E over adjacent times s < t of a grid of d(f(x_t, t), f'(x_s, s)), where x_s is the teacher's step from x_t.

    f is the denoised mean that the student says, f' that of an average of its weights, and f(x, t_min) = x, so that f
    learns the end of the flow at t_min. The loss uses this boundary condition as it stands. The student keeps it by
    itself where sigma(t_min) = 0, since x0 = (sigma'/W) x - sigma v is x / alpha = x there; elsewhere up to
    O(sigma(t_min)), 1e-3 on VP.

    f is a jump and no velocity: the student is drawn from by the sampler ``consistency`` and has no density.
    Validation measures the squared distance of f at t_max from the end of the teacher's flow from the same noise.

    Args:
        spec: what one example is.
        teacher: the run to distil: a model like the student's.
        steps: of the grid, uniform in t.
        decay: of the average f', at each step; 0: f' is the student itself.
        loss: ``huber``: sqrt(|d|^2 + c^2) - c with c = 0.00054 sqrt(D); ``l2``: |d|^2 / D.

    Raises:
        ValueError: no teacher.

    References:
        Song, Dhariwal, Chen and Sutskever, "Consistency models", 2023; huber: Song and Dhariwal, "Improved techniques
        for training consistency models", 2024.
    """

    target: TimeField

    def __init__(
        self,
        spec: Spec,
        teacher: TrainedRun | None = None,
        steps: Count = 50,
        decay: BelowOne = 0.95,
        loss: Literal["huber", "l2"] = "huber",
    ) -> None:
        super().__init__(spec, teacher, Grid(steps))
        self.decay, self.loss = decay, loss

    def bind(self, model: TimeField) -> Learned:
        learned = super().bind(model)
        self.target = fixed(model)
        return replace(learned, score=False, velocity=False, steps_of="consistency")

    @torch.no_grad()
    def start(self, model: TimeField, examples: Batch | None) -> None:
        super().start(model, examples)
        self.target.load_state_dict(model.state_dict())

    def turns(self, model: TimeField) -> list[Turn]:
        (turn,) = super().turns(model)
        averaged, own = ([p.detach() for p in m.parameters()] for m in (self.target, model))

        def follow() -> None:
            torch._foreach_lerp_(averaged, own, 1 - self.decay)

        return [replace(turn, project=follow)]

    def errors(self, model: TimeField, x: Tensor, y: Tensor | None, t: Tensor, eps: Tensor) -> Tensor:
        path, teacher, target = model.path, self.teacher, self.target
        s, x_t = self.times.before(path, t), path.noised(x, eps, t)
        with torch.no_grad():
            x_s = heun(teacher, x_t, t, s, y)
            # Half a step tells the first time of the grid from the next, whatever the rounding
            last = like(t < path.t_min + 1.5 * (path.t_max - path.t_min) / self.times.n, x).bool()
            end = torch.where(last, x_s, target.predict(x_s, s, y).x0)
        square = (model.predict(x_t, t, y).x0 - end).square()
        if self.loss == "l2":
            return square
        c = 0.00054 * self.spec.dim**0.5
        return (square.flatten(1).sum(1, keepdim=True) + c**2).sqrt() - c

    def score(self, model: TimeField, batch: Batch, noise: Noise) -> Tensor:
        path, y = model.path, batch.y if model.conditional else None
        x = z = model.prior_std * noise.randn(*batch.x.shape)
        times = torch.linspace(path.t_max, path.t_min, self.times.n + 1, dtype=torch.float64).to(x)
        for t, s in pairwise(times.unbind()):
            x = heun(self.teacher, x, t.expand(len(x)), s.expand(len(x)), y)
        return distance(model.predict(z, times[0].expand(len(x)), y).x0, x)
