"""The energy of a model as chains see it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.kernels.energy import Energy
from gencli.models.base import BlockGibbs, Relaxed, Unnormalized


def energy_of(model: Unnormalized, y: Tensor | None = None, n: int = 0) -> Energy:
    """E(. , y) of a model, for n chains; where more rows are asked for, the replicas of a chain lie side by side.

    Args:
        model: the density.
        y: the context of each chain, (n,) or (n, C); None: it has none.
        n: number of chains; only where there is a context.
    """

    def given(x: Tensor) -> Tensor | None:
        return y if y is None or len(x) == n else y.repeat_interleave(len(x) // n, 0)

    support = model.spec.support
    if not support.discrete:
        return Energy(lambda x: model.energy(x, given(x)), support)

    def taylor(x: Tensor) -> Tensor:
        assert isinstance(model, Relaxed)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(1).long()
            p = F.one_hot(flat, support.size).float().requires_grad_()
            (gradient,) = torch.autograd.grad(model.relaxed(p, given(x)).sum(), p)
        return gradient - gradient.gather(2, flat[..., None])

    def resample(x: Tensor, noise: Noise) -> Tensor:
        assert isinstance(model, BlockGibbs)
        return model.resample(x, noise, given(x))

    return Energy(
        lambda x: model.energy(x, given(x)),
        support,
        lambda x, where: model.changes(x, where, given(x)),
        taylor if isinstance(model, Relaxed) else None,
        model.blocks(),
        resample if isinstance(model, BlockGibbs) else None,
        lambda x, where: model.toggles(x, where, given(x)),
    )
