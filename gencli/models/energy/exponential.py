"""Exponential families with a few parameters: E(x) = sum_k theta_k T_k(x), whose Z is known.

They are there to be exact about: every objective of this family can be held against the maximum-likelihood estimate.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from gencli.core.options import Positive, Range
from gencli.core.spec import Spec
from gencli.models.structure import Parametric


class Quadratic(Parametric):
    """E(x) = 1/2 x^T A x - b^T x with A = L L^T: the normal N(A^-1 b, A^-1), without its constant.

    Args:
        spec: what one example is.
        conditional: refused.

    Raises:
        ValueError: conditional.
    """

    shapes = ("vector",)

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: this energy has no network to condition")
        D = spec.dim
        self.b = nn.Parameter(torch.zeros(D))
        self.log_diagonal = nn.Parameter(torch.zeros(D))
        self.lower = nn.Parameter(torch.zeros(D, D))

    def factor(self) -> Tensor:
        """L (D, D), lower triangular with a positive diagonal."""
        return self.lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp())

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return 0.5 * (x @ self.factor()).square().sum(1) - x @ self.b

    def log_partition(self) -> Tensor:
        """log Z = D/2 log 2 pi - log det L + 1/2 b^T A^-1 b, differentiable."""
        white = torch.linalg.solve_triangular(self.factor(), self.b[:, None], upper=False)
        return 0.5 * self.spec.dim * math.log(2 * math.pi) - self.log_diagonal.sum() + 0.5 * white.square().sum()


class Polynomial(Parametric):
    """E(x) = sum over monomials of degree 1..degree of theta_k x^k, in one or two dimensions.

    The pure powers of the highest degree start at ``growth`` and the others at 0; a density needs a positive leading
    form, so theta is not constrained but Z is refused where it has none.

    Args:
        spec: what one example is.
        conditional: refused.
        degree: even.
        growth: first value of the leading coefficients.
        box: half the side of the box in which ``log_partition`` integrates.

    Raises:
        ValueError: conditional, more than two dimensions, or an odd degree.
    """

    shapes = ("vector",)
    powers: Tensor

    POINTS = 801  # a side, for log_partition

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        degree: Annotated[int, Range(low=2)] = 4,
        growth: Positive = 0.1,
        box: Positive = 8.0,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: this energy has no network to condition")
        if spec.dim > 2:
            raise ValueError(f"model=polynomial is for one or two dimensions; this data has {spec.dim}")
        if degree % 2:
            raise ValueError(f"model.degree={degree}: even, or the density cannot be normalised")
        D = spec.dim
        every = torch.cartesian_prod(*[torch.arange(degree + 1)] * D).view(-1, D)
        total = every.sum(1)
        powers = every[(total > 0) & (total <= degree)]
        self.register_buffer("powers", powers)
        self.box = box
        self.theta = nn.Parameter(growth * (powers.amax(1) == degree).float())

    def statistics(self, x: Tensor) -> Tensor:
        """T(x): (B, D) -> (B, K)."""
        return x[:, None].pow(self.powers).prod(2)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.statistics(x) @ self.theta

    def log_partition(self) -> Tensor:
        """log Z by the trapezoidal rule in the box, in fp64, differentiable; smooth, so far below 1e-6 off."""
        axis = torch.linspace(-self.box, self.box, self.POINTS, dtype=torch.float64, device=self.theta.device)
        grid = torch.cartesian_prod(*[axis] * self.spec.dim).view(-1, self.spec.dim)
        cell = self.spec.dim * math.log(float(axis[1] - axis[0]))
        return (-(self.statistics(grid) @ self.theta.double())).logsumexp(0) + cell
