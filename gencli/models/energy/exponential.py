"""Exponential families with a few parameters: E(x) = sum_k theta_k T_k(z), whose Z is known.

z = (x - m) / s, with the means and deviations of the training data, so that one rate of learning and one box fit data
of any size. They are there to be exact about: every objective of this family can be held against the maximum-likelihood
estimate.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import Positive, Range
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized
from gencli.models.structure import Parametric


class Scaled(Parametric, DataInitialized):
    """An energy of z = (x - m) / s, with m and s (D,) of the data: 0 and 1 until it has seen any, and fixed since.

    Args:
        spec: what one example is.
        conditional: refused.

    Raises:
        ValueError: conditional.
    """

    shapes = ("vector",)
    location: Tensor
    scale: Tensor

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: this energy has no network to condition")
        self.register_buffer("location", torch.zeros(spec.dim))
        self.register_buffer("scale", torch.ones(spec.dim))
        self.register_load_state_dict_pre_hook(_unscaled)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        deviation = x.std(0, correction=0)
        self.location.copy_(x.mean(0))
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    def start(self, n: int, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        return self.location + self.scale * super().start(n, y, noise=noise).to(self.scale)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.of_scaled((x - self.location) / self.scale)

    def log_partition(self) -> Tensor:
        """log Z in nats, differentiable."""
        return self.log_partition_of_scaled() + self.scale.log().sum()

    @abstractmethod
    def of_scaled(self, z: Tensor) -> Tensor:
        """E as a function of z: (B, D) -> (B,)."""

    @abstractmethod
    def log_partition_of_scaled(self) -> Tensor:
        """log of the integral of exp(-E) over z, differentiable."""


def _unscaled(module: nn.Module, tensors: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Runs of before had energies of x itself."""
    for name in ("location", "scale"):
        tensors.setdefault(f"{prefix}{name}", torch.full_like(getattr(module, name), float(name == "scale")))


class Quadratic(Scaled):
    """E(x) = 1/2 z^T A z - b^T z with A = L L^T: the normal N(A^-1 b, A^-1) of z = (x - m) / s, without its constant.

    Args:
        spec: what one example is.
        conditional: refused.

    Raises:
        ValueError: conditional.
    """

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        D = spec.dim
        self.b = nn.Parameter(torch.zeros(D))
        self.log_diagonal = nn.Parameter(torch.zeros(D))
        self.lower = nn.Parameter(torch.zeros(D, D))

    def factor(self) -> Tensor:
        """L (D, D), lower triangular with a positive diagonal."""
        return self.lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp())

    def of_scaled(self, z: Tensor) -> Tensor:
        return 0.5 * (z @ self.factor()).square().sum(1) - z @ self.b

    def log_partition_of_scaled(self) -> Tensor:
        """D/2 log 2 pi - log det L + 1/2 b^T A^-1 b."""
        white = torch.linalg.solve_triangular(self.factor(), self.b[:, None], upper=False)
        return 0.5 * self.spec.dim * math.log(2 * math.pi) - self.log_diagonal.sum() + 0.5 * white.square().sum()


class Polynomial(Scaled):
    """E(x) = sum over monomials of degree 1..degree of theta_k z^k, in one or two dimensions, with z = (x - m) / s.

    The pure powers of the highest degree start at ``growth`` and the others at 0; a density needs a positive leading
    form, so theta is not constrained but Z is refused where it has none.

    Args:
        spec: what one example is.
        conditional: refused.
        degree: even.
        growth: first value of the leading coefficients.
        box: half the side of the box of z in which ``log_partition`` integrates.

    Raises:
        ValueError: conditional, more than two dimensions, or an odd degree.
    """

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
        if spec.dim > 2:
            raise ValueError(f"model=polynomial is for one or two dimensions; this data has {spec.dim}")
        if degree % 2:
            raise ValueError(f"model.degree={degree}: even, or the density cannot be normalised")
        D = spec.dim
        every = torch.cartesian_prod(*[torch.arange(degree + 1)] * D).view(-1, D)
        total = every.sum(1)
        powers = every[(total > 0) & (total <= degree)]
        self.register_buffer("powers", powers)
        self.degree, self.box = degree, box
        self.theta = nn.Parameter(growth * (powers.amax(1) == degree).float())

    def statistics(self, z: Tensor) -> Tensor:
        """T(z): (B, D) -> (B, K)."""
        own = [torch.ones_like(z)]  # ``pow`` has no second derivative at 0
        for _ in range(self.degree):
            own.append(own[-1] * z)
        each = torch.stack(own, 2)
        return torch.stack([each[:, d, self.powers[:, d]] for d in range(z.shape[1])]).prod(0)

    def of_scaled(self, z: Tensor) -> Tensor:
        return self.statistics(z) @ self.theta

    def log_partition_of_scaled(self) -> Tensor:
        """By the trapezoidal rule in the box, in fp64; smooth, so far below 1e-6 off."""
        axis = torch.linspace(-self.box, self.box, self.POINTS, dtype=torch.float64, device=self.theta.device)
        grid = torch.cartesian_prod(*[axis] * self.spec.dim).view(-1, self.spec.dim)
        cell = self.spec.dim * math.log(float(axis[1] - axis[0]))
        return (-(self.statistics(grid) @ self.theta.double())).logsumexp(0) + cell
