"""The change of variables in continuous time: along dz/dt = v(z, t), d log p(z) / dt = -tr dv/dz.

With z(t_min) = x it follows that

    log p(x) = log N(z(t_max); 0, prior_std^2 I) + integral over t of tr dv/dz.

The trace is exact, by D derivatives, or Hutchinson's estimate e^T dv/dz e of Rademacher probes e that are fixed within
a solve. Nothing here chooses a solver.

References:
    Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", 2018; Grathwohl et al., "FFJORD:
    Free-form continuous dynamics for scalable reversible generative models", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gencli.core.noise import Noise
from gencli.methods import ode
from gencli.models.base import VelocityField

Trace = Literal["auto", "exact", "hutchinson"]
TRACES = get_args(Trace)
_ROWS = 8192  # rows of a batch times covectors that are differentiated at once


@dataclass
class Rates:
    """What moves along the flow at one time.

    Args:
        velocity: v (B, D).
        divergence: tr dv/dz (B, 1), or its estimate from each probe (B, K).
        pulled: e^T dv/dz (K, B, D) of the unit vectors or the probes e.
    """

    velocity: Tensor
    divergence: Tensor
    pulled: Tensor


def rates(model: VelocityField, z: Tensor, t: Tensor, y: Tensor | None, probes: Tensor | None) -> Rates:
    """Velocity and divergence at z (B, D) and times t (B,), in the precision of z.

    Args:
        model: the field.
        z: (B, D).
        t: (B,).
        y: the context of these rows.
        probes: (B, K, D), or None for the exact trace.
    """
    if probes is None:
        covectors = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None].expand(-1, len(z), -1)
    else:
        covectors = probes.to(z).transpose(0, 1)
    velocity, pulled = pull_back(lambda v: model.velocity(v.view(-1, *model.spec.shape), t, y).flatten(1), z, covectors)
    divergence = (pulled * covectors).sum(2)
    if probes is None:
        divergence = divergence.sum(0, keepdim=True)
    return Rates(velocity, divergence.T, pulled)


def pull_back(velocity: Callable[[Tensor], Tensor], z: Tensor, covectors: Tensor) -> tuple[Tensor, Tensor]:
    """v(z) (B, D) and e^T dv/dz (K, B, D) for covectors e (K, B, D), of rows z (B, D) that do not mix.

    One pass forwards and a vectorised one backwards; differentiable where gradients are enabled.
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no vectorised derivative
        z = z if z.requires_grad else z.detach().requires_grad_()
        v = velocity(z)
        pulled = [
            torch.autograd.grad(
                v,
                z,
                some,
                create_graph=differentiable,
                retain_graph=True,
                is_grads_batched=True,
                materialize_grads=True,
            )[0]
            for some in covectors.split(max(1, _ROWS // len(z)))
        ]
    return v if differentiable else v.detach(), torch.cat(pulled)


def log_prior(model: VelocityField, z: Tensor) -> Tensor:
    """log N(z; 0, prior_std^2 I) in nats: (B, D) -> (B,)."""
    std = model.prior_std
    return -0.5 * (z / std).square().sum(1) - z.shape[1] * math.log(std * math.sqrt(2 * math.pi))


def rademacher(noise: Noise, x: Tensor, count: int) -> Tensor:
    """Probes of +-1 (B, K, D) for rows x (B, *)."""
    return (noise.rand(len(x), count, x[0].numel()) < 0.5).to(x) * 2 - 1


Solve = Callable[[ode.Derivative, Tensor, int], ode.Solution]
"""(derivative, the state (B, D + K) at t_min, K) -> the state at t_max; the last K columns are nats."""


def adaptive(model: VelocityField, *, atol: float, rtol: float, max_nfe: int, what: str) -> Solve:
    """Solve from t_min to t_max by ``ode.dopri5``, each row in steps of its own; ``what``: the key of ``max_nfe``."""
    options: dict[str, Any] = {"atol": atol, "rtol": rtol, "max_nfe": max_nfe, "what": what}
    return lambda f, start, K: ode.dopri5(f, start, model.t_min, model.t_max, integrals=K, **options)


def log_prob(
    model: VelocityField,
    x: Tensor,
    y: Tensor | None,
    probes: Tensor | None,
    solve: Solve,
) -> tuple[Tensor, Tensor]:
    """log p(x) in nats for each probe (B, K), or (B, 1) with the exact trace; and the evaluations (B,).

    Args:
        model: the field.
        x: (B, *).
        y: the context, or None.
        probes: (B, K, D), or None for the exact trace.
        solve: takes the state from t_min to t_max.
    """
    D, K = model.spec.dim, 1 if probes is None else probes.shape[1]
    dtype = torch.float32 if x.device.type == "mps" else torch.float64
    y = y if model.conditional else None

    def derivative(state: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        some = None if y is None else y[rows]
        now = rates(model, state[:, :D], t, some, None if probes is None else probes[rows])
        return torch.cat([now.velocity, now.divergence], 1)

    start = torch.cat([x.flatten(1).to(dtype), x.new_zeros(len(x), K, dtype=dtype)], 1)
    solved = solve(derivative, start, K)
    return log_prior(model, solved.x[:, :D])[:, None] + solved.x[:, D:], solved.nfe
