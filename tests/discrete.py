"""What tests of discrete energies share: all states of small spaces, laws by enumeration, transition matrices."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.spec import Spec, Support
from gencli.methods.enumeration import states
from gencli.models.base import Unnormalized


def vectors(dim: int, support: str = "binary") -> Spec:
    return Spec((dim,), Support.parse(support))


def every(spec: Spec) -> Tensor:
    """All states, in fp64 where they are bits."""
    x = states(spec, torch.arange(spec.support.size**spec.dim))
    return x.double() if x.is_floating_point() else x


def law(model: Unnormalized) -> Tensor:
    """p of every state."""
    with torch.no_grad():
        return (-model.energy(every(model.spec))).double().softmax(0)


def log_z(model: Unnormalized) -> float:
    with torch.no_grad():
        return float((-model.energy(every(model.spec))).double().logsumexp(0))


def counted(draw: Callable[[Tensor], Tensor], spec: Spec, start: Tensor, n: int) -> Tensor:
    """Shares of the states among what draw makes of n copies of one state."""
    x = draw(start.expand(n, *spec.shape)).flatten(1).long()
    strides = spec.support.size ** torch.arange(spec.dim - 1, -1, -1)
    return torch.bincount((x * strides).sum(1), minlength=spec.support.size**spec.dim).double() / n


def far(found: Tensor, p: Tensor, n: int) -> float:
    """Pearson's statistic of shares found among n draws against p, in deviations from its mean."""
    chi = float((n * (found - p).square() / p).sum())
    freedom = len(p) - 1
    return (chi - freedom) / math.sqrt(2 * freedom)
