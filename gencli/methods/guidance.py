"""Reverse diffusion that is told of an observation z = A v(x_0) + sigma n.

With the denoised mean m(x_t) = E[x_0 | x_t] and a normal law of what it leaves open, p(x_0 | x_t) ~ N(m, C_t),

    E[x_0 | x_t, z] = m + (sigma_t^2 / alpha_t) grad log p(z | x_t),
    p(z | x_t) ~ N(z; A v(m), A S C_t S' A' + sigma^2 I),    C_t = (C^-1 + (alpha_t / sigma_t)^2 I)^-1,

where S is the linear part of v and C the covariance of training examples in model space. It is exact where the data are
normal, and an approximation elsewhere.

References:
    Song, Vahdat, Mardani and Kautz, "Pseudoinverse-guided diffusion models for inverse problems", 2023 (C_t isotropic).
    Chung et al., "Diffusion posterior sampling for general noisy inverse problems", 2023 (C_t = 0).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.tensors import like
from gencli.methods.inverse import Observation
from gencli.models.base import TimeField
from gencli.paths.base import Prediction

_FAINT = 0.01  # alpha_t / sigma_t below which nothing is told of z


class Informed(TimeField):
    """A field whose predictions know z, a row of it for each row of x; ``label_dropout`` and times are the field's own.

    Args:
        field: the prior.
        observed: z.
        covariance: C (D, D) of examples in model space.
    """

    def __init__(self, field: TimeField, observed: Observation, covariance: Tensor) -> None:
        super().__init__(field.spec, conditional=field.conditional)
        self.field, self.path, self.timesteps = field, field.path, field.timesteps
        self.observed = observed
        at = next(field.parameters(), covariance)
        self.spread, axes = torch.linalg.eigh(covariance.to(at.device, torch.float64))
        columns = axes.T.to(at.dtype).view(-1, *field.spec.shape)
        zero = torch.zeros_like(columns[:1])
        A, v = observed.operator, observed.values
        self.through = (A(v(columns)) - A(v(zero))).T.double()  # A S times the axes of C, (m, D)

    def _gain(self, t: Tensor) -> Tensor:
        """(A S C_t S' A' + sigma^2 I)^-1 as a Cholesky factor, (m, m)."""
        ratio = (self.path.alpha(t) / self.path.sigma(t)).double().square()
        left = self.spread.clamp(min=0) / (1 + self.spread.clamp(min=0) * ratio)
        law = (self.through * left) @ self.through.T
        return torch.linalg.cholesky(law + self.observed.sigma**2 * torch.eye(len(law)).to(law))

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        observed = self.observed
        factor = self._gain(t[0])
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            said = self.field.predict(at, t, y)
            seen = observed.operator(observed.values(said.x0))
            away = (observed.z - seen).detach().double()
            weight = torch.cholesky_solve(away.T, factor).T.to(seen)
            (pull,) = torch.autograd.grad((seen * weight).sum(), at)
        # x_0 moves by sigma_t ratio pull, v by -ratio pull; where almost no data is left, a learned slope is noise
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        ratio = like(torch.where(alpha > _FAINT * sigma, sigma / alpha.clamp(min=1e-12), 0.0), x)
        return Prediction(self.path, x, t, said.v.detach() - ratio * pull)
