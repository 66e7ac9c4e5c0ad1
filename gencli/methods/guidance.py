"""Reverse diffusion that is told of an observation z = A v(x_0) + sigma n.

With the denoised mean m(x_t) = E[x_0 | x_t] and a normal law of what it leaves open, p(x_0 | x_t) ~ N(m, C_t),

    E[x_0 | x_t, z] = m + (sigma_t^2 / alpha_t) grad log p(z | x_t),
    p(z | x_t) ~ N(z; A v(m), A S C_t S' A' + sigma^2 I),    C_t = (C^-1 + (alpha_t / sigma_t)^2 I)^-1,

where S is the slope of v at m, coordinate by coordinate, and C the covariance of training examples in model space. It
is exact where the data are normal and v is linear, and an approximation elsewhere.

References:
    Song, Vahdat, Mardani and Kautz, "Pseudoinverse-guided diffusion models for inverse problems", 2023 (C_t isotropic).
    Chung et al., "Diffusion posterior sampling for general noisy inverse problems", 2023 (C_t = 0).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.tensors import like
from gencli.methods.inverse import Observation
from gencli.models.base import TimeField
from gencli.paths.base import Prediction

_FAINT = 0.01  # alpha_t / sigma_t below which nothing is told of z
_MOST, _LEFT = 100, 1e-4  # conjugate gradient steps at most, and the share of the residual at which they end


class Informed(TimeField):
    """A field whose predictions know z, a row of it for each row of x; times are the field's own.

    Args:
        field: the prior.
        observed: z.
        covariance: C (D, D) of examples in model space.
    """

    def __init__(self, field: TimeField, observed: Observation, covariance: Tensor) -> None:
        super().__init__(field.spec, conditional=field.conditional)
        self.field, self.path, self.timesteps = field, field.path, field.timesteps
        self.observed = observed
        spread, axes = torch.linalg.eigh(covariance.double())
        at = observed.z
        self.spread, self.axes = spread.clamp(min=0).to(at), axes.to(at)

    def _open(self, x: Tensor, t: Tensor) -> Tensor:
        """C_t x of the rows x (n, D), at one time."""
        ratio = (self.path.alpha(t) / self.path.sigma(t)).to(self.spread).square()
        return (x @ self.axes * (self.spread / (1 + self.spread * ratio))) @ self.axes.T

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        A, values, z = self.observed.operator, self.observed.values, self.observed.z
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            said = self.field.predict(at, t, y)
            m = said.x0
            v = values(m)
            (slope,) = torch.autograd.grad(v.sum(), m, retain_graph=True)
            slope = slope.view_as(v).to(z)

            def law(w: Tensor) -> Tensor:
                moved = self._open((slope * A.adjoint(w)).flatten(1), t[0]).view_as(slope)
                return A(slope * moved) + self.observed.sigma**2 * w

            seen = A(v)
            weight = solve(law, (z - seen).detach())
            (pull,) = torch.autograd.grad((seen * weight).sum(), at)
        # x_0 moves by sigma_t ratio pull, v by -ratio pull; where almost no data is left, a learned slope is noise
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        ratio = like(torch.where(alpha > _FAINT * sigma, sigma / alpha.clamp(min=1e-12), 0.0), x)
        return Prediction(self.path, x, t, said.v.detach() - ratio * pull, level=said.level)


@torch.no_grad()
def solve(of: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """w (n, m) with of(w) = b, for a symmetric positive definite map of each row: conjugate gradients.

    References:
        Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """
    w, r = torch.zeros_like(b), b
    p, rest = r, r.square().sum(1, keepdim=True)
    enough = _LEFT**2 * rest
    for _ in range(_MOST):
        moving = rest > enough
        if not bool(moving.any()):
            break
        image = of(p)
        step = torch.where(moving, rest / (p * image).sum(1, keepdim=True).clamp(min=1e-30), 0.0)
        w, r = w + step * p, r - step * image
        left = r.square().sum(1, keepdim=True)
        p, rest = r + left / rest.clamp(min=1e-30) * p, left
    return w
