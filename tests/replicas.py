"""Many independent annealed estimates in one run: chains are dealt to groups that know nothing of each other."""

from __future__ import annotations

from energies import noise
from torch import Tensor, arange, stack

from gencli.core.tensors import frozen
from gencli.estimators.annealed import Annealed, systematic
from gencli.models.base import Unnormalized


def replicas(
    estimator: Annealed, model: Unnormalized, x: Tensor, groups: int, refresh: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights of both directions (groups, n), and of each reverse chain the forward one that it comes from."""
    with frozen(model):
        annealing = estimator.annealing(model, x, noise(seed))
        ends, log_w, _ = estimator.forward(annealing, noise(seed + 1))
        forward, source = log_w.view(groups, -1), noise(seed + 2)
        ancestors = stack([systematic(group, source) for group in forward])
        at = ends[(ancestors + forward.shape[1] * arange(groups)[:, None]).flatten()]
        for _ in range(refresh):
            at, _ = annealing.move(at, annealing.steps, source)
        reverse = -estimator.backward(annealing, at, source).view(groups, -1)
    return forward, reverse, ancestors
