"""Training on the variational bound of diffusion: prior + diffusion + reconstruction >= -log p(x)."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch, Spec
from gencli.methods.diffusion_bound import Bound
from gencli.models.base import TimeField
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Objective, Turn
from gencli.objectives.diffusion.denoise import hide
from gencli.objectives.diffusion.times import stratified

SHARE = 4
"""A schedule of a few numbers learns from one in SHARE rows of its batch."""


class VLB(Objective[TimeField]):
    """The bound in nats a dimension, at one time a row, stratified over the batch.

    Under a learned path its ends move by the bound like the network. In continuous time what lies between them does not
    change the bound but its estimate: the turn ``schedule`` moves it down the gradient of E L^2, L the diffusion
    part at one time, and so of the variance of L, whose mean stays. Its loss is E L^2 / (E L)^2, which is 1 without
    variance. Under a T the bound depends on all of the path, and moves it all.

    Args:
        spec: what one example is.
        passes: times at which validation scores each row; the same noise at every validation, so that their order is
            less noisy than the number itself.

    References:
        Kingma, Salimans, Poole and Ho, "Variational diffusion models", 2021 (low-discrepancy times; appendix on
        the variance).
    """

    def __init__(self, spec: Spec, passes: Count = 4) -> None:
        super().__init__(spec)
        self.passes = passes

    def bind(self, model: TimeField) -> Learned:
        if model.timesteps == 1:
            raise ValueError("model.timesteps=1: the bound needs at least 2; null for continuous time")
        return Learned()

    def turns(self, model: TimeField) -> list[Turn]:
        interior = [] if model.timesteps else model.path.interior()
        others = [p for p in model.parameters() if all(p is not q for q in interior)]

        def loss(batch: Batch, noise: Noise) -> Loss:
            x = batch.x
            bound = Bound(model, x, hide(model, batch.y, noise), model.timesteps)
            parts = {
                "prior": bound.prior().mean(),
                "diffusion": bound.diffusion(stratified(noise.rand(len(x))), noise).mean(),
                "reconstruction": bound.reconstruction(noise).mean(),
            }
            value = torch.stack(list(parts.values())).sum() / self.spec.dim
            return Loss(value, {name: part.detach() for name, part in parts.items()})

        def spread(batch: Batch, noise: Noise) -> Loss:
            x = batch.x[::SHARE]
            y = None if batch.y is None else hide(model, batch.y[::SHARE], noise)
            each = Bound(model, x, y, None).diffusion(stratified(noise.rand(len(x))), noise)
            return Loss(each.square().mean() / each.detach().mean().square())

        turns = [Turn("model", others, loss)]
        return [*turns, Turn("schedule", interior, spread)] if interior else turns

    def score(self, model: TimeField, batch: Batch, noise: Noise) -> Tensor:
        start = noise.rand(len(batch.x))
        bound = Bound(model, batch.x, batch.y, model.timesteps)
        diffusion = [bound.diffusion((start + k / self.passes) % 1, noise) for k in range(self.passes)]
        return bound.prior() + torch.stack(diffusion).mean(0) + bound.reconstruction(noise)
