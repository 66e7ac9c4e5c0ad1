"""Rectified flow once more: straight lines between noise and what the teacher's flow makes of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gencli.core.noise import Noise, StepNoise
from gencli.core.options import Count, Positive
from gencli.core.spec import Batch, Spec
from gencli.methods import ode
from gencli.models.base import TimeField
from gencli.models.trained import Learned, TrainedRun
from gencli.objectives.base import Loss, Turn
from gencli.objectives.diffusion.denoise import hide
from gencli.objectives.diffusion.times import Uniform, stratified
from gencli.objectives.distillation.base import Distillation

_CHUNK = 1000  # pairs that are solved together
_MAX_NFE = 5000


class Reflow(Distillation):
    """E |velocity((1 - t) x + t z, t) - (z - x)|^2 over noise z and x = the end of the teacher's flow from z.

    The student's flow has the marginals that the teacher's pairs give, and lines that cross less, so that few Euler
    steps follow it (``sampler=ode sampler.method=euler sampler.steps=1``). Its velocity is valid and estimator ``ode``
    gives its density; there is no score, since noise and data are paired.

    The pairs are made before step 0, and again when a run is resumed: they are a function of the teacher.

    Args:
        spec: what one example is.
        teacher: the run to distil: any flow in continuous time, on whichever path.
        pairs: number of pairs (z, x) from which batches are drawn.
        tolerance: of the teacher's flow, absolute and relative.
        passes: times at which validation scores each row, with noise of its own.

    Raises:
        ValueError: no teacher.

    References:
        Liu, Gong and Liu, "Flow straight and fast: learning to generate and transfer data with rectified flow", 2023.
    """

    initial_examples = 10_000
    z: Tensor
    x: Tensor
    y: Tensor | None

    def __init__(
        self,
        spec: Spec,
        teacher: TrainedRun | None = None,
        pairs: Count = 50_000,
        tolerance: Positive = 1e-4,
        passes: Count = 4,
    ) -> None:
        super().__init__(spec, teacher, Uniform(), passes)
        self.pairs, self.tolerance = pairs, tolerance
        for name in ("z", "x", "y"):
            self.register_buffer(name, None, persistent=False)

    def bind(self, model: TimeField) -> Learned:
        learned = super().bind(model)
        t = torch.tensor([0.2, 0.5, 0.8])
        rates = torch.stack([-model.path.d_alpha(t), model.path.d_sigma(t)])
        if not torch.allclose(rates, torch.ones_like(rates)):
            raise ValueError("model.path: reflow needs straight lines; path@model.path=straight")
        return replace(learned, score=False)

    @torch.no_grad()
    def start(self, model: TimeField, examples: Batch | None) -> None:
        super().start(model, examples)
        assert examples is not None
        x, y = examples.x, examples.y
        noise, rows = StepNoise(x.device, 3), torch.arange(self.pairs, device=x.device)
        self.y = None if y is None or not model.conditional else y[rows % len(y)]
        ends = []
        for some in rows.split(_CHUNK):
            z = noise.randn(len(some), *self.spec.shape)
            ends.append((z, self.end(z, None if self.y is None else self.y[some])))
        self.z, self.x = (torch.cat(part) for part in zip(*ends, strict=True))

    @torch.no_grad()
    def end(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Where the teacher's flow takes standard normal noise z (B, *)."""
        teacher = self.teacher

        def velocity(state: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            return teacher.velocity(state.view(-1, *z.shape[1:]), t, None if y is None else y[rows]).flatten(1)

        solved = ode.dopri5(
            velocity,
            (teacher.prior_std * z).flatten(1),
            teacher.t_max,
            teacher.t_min,
            atol=self.tolerance,
            rtol=self.tolerance,
            max_nfe=_MAX_NFE,
            what="objective.tolerance",
        )
        return solved.x.view_as(z)

    def turns(self, model: TimeField) -> list[Turn]:

        def loss(batch: Batch, noise: Noise) -> Loss:
            B = len(batch.x)
            t = self.times.at(model.path, stratified(noise.rand(B)))
            some = (noise.rand(B) * self.pairs).long().clamp(max=self.pairs - 1)
            y = hide(model, None if self.y is None else self.y[some], noise)
            return Loss(self.errors(model, self.x[some], y, t, self.z[some]).mean())

        return [Turn("model", list(model.parameters()), loss)]

    def score(self, model: TimeField, batch: Batch, noise: Noise) -> Tensor:
        start, z = noise.rand(len(batch.x)), noise.randn(*batch.x.shape)
        y = batch.y if model.conditional else None
        return self.passed(model, self.end(z, y), y, start, lambda: z)
