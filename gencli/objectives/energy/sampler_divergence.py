"""The term that contrastive divergence leaves out: chains move with the parameters, and so does their law q.

grad (KL(p_data, p) - KL(q, p)) = what contrastive divergence has + (dq / dtheta) dKL(q, p) / dq.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.core.tensors import frozen
from gencli.models.base import Unnormalized
from gencli.objectives.energy.base import score_of


def langevin_through(
    model: Unnormalized, batch: Batch, noise: Noise, *, step: float, temperature: float, steps: int
) -> Tensor:
    """Langevin steps from x, (n, *), differentiable in the parameters that move them."""
    x = batch.x.detach().requires_grad_()
    for _ in range(steps):
        x = x + step * score_of(model, x, batch.y)
        if temperature:
            x = x + math.sqrt(2 * step * temperature) * noise.randn(*x.shape).to(x)
    return x


def sampler_divergence(model: Unnormalized, ends: Tensor, y: Tensor | None) -> Tensor:
    """KL(q, p) but for constants, E_q[E(x)] - H(q), as a function of where chains end: E itself stands still.

    H(q) = D/n sum_i log min_j |x_i - x_j| + const., from the nearest neighbour of each x_i among the others
    (Kozachenko and Leonenko, "Sample estimate of the entropy of a random vector", 1987).

    Args:
        model: E.
        ends: x (n, *), differentiable, n > 1.
        y: the context.

    Returns:
        A scalar in nats.
    """
    with frozen(model):
        energy = model.energy(ends, y).mean()
    flat = ends.flatten(1)
    with torch.no_grad():
        apart = torch.cdist(flat, flat)
        apart.fill_diagonal_(math.inf)
        nearest = apart.argmin(1)
    # the square, whose slope is finite where two chains meet
    distance = (flat - flat[nearest]).square().sum(1)
    entropy = 0.5 * flat.shape[1] * distance.clamp(min=torch.finfo(flat.dtype).tiny).log().mean()
    return energy - entropy
