"""Monotone maps of one coordinate, apart from the networks that produce their parameters.

Each map takes x of any shape S and parameters of shape S + (P,), and returns z and log|dz/dx|, both of shape S.
Parameters of zero give the identity.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.options import Positive, Range

Bins = Annotated[int, Range(low=2, high=100)]
"""Pieces of a spline: of more, the floor on their widths leaves too little room."""
Marginal = Literal[0] | Bins
"""Pieces of a spline of each coordinate in front of a flow; 0: there is none."""


class Map(ABC):
    """z = f(x; parameters), increasing in x. ``n_params``: P, the number of parameters of a coordinate."""

    n_params: int

    @abstractmethod
    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x -> z, log|dz/dx|."""

    @abstractmethod
    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """z -> x."""


class Additive(Map):
    """z = x + t: preserves volume (Dinh, Krueger and Bengio, "NICE", 2015)."""

    n_params = 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return x + params[..., 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        return z - params[..., 0]


class Affine(Map):
    """z = x exp(s) + t, with the log-scale s = bound tanh(s' / bound) in (-bound, bound).

    The bound keeps one wild output of a network from turning the loss into inf; tanh, unlike a clamp, lets the gradient
    through everywhere.

    Args:
        bound: largest absolute log-scale.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017 (tanh on the log-scale).
    """

    n_params = 2

    def __init__(self, bound: float = 3.0) -> None:
        self.bound = bound

    def _scale_shift(self, params: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = params.unbind(-1)
        return self.bound * torch.tanh(raw / self.bound), shift

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._scale_shift(params)
        return x * s.exp() + t, s  # not addcmul, whose backward takes twice as many kernels

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        s, t = self._scale_shift(params)
        return (z - t) * (-s).exp()


class RationalQuadratic(Map):
    """A monotone spline of K rational-quadratic pieces on [-B, B], the identity outside.

    Piece k runs from the knot (x_k, y_k) to the next one, w wide and h high, with slopes d_k and d_{k+1} at its ends.
    With theta = (x - x_k) / w and the mean slope s = h / w,

        z = y_k + h (s theta^2 + d_k theta (1 - theta)) / (s + (d_k + d_{k+1} - 2 s) theta (1 - theta)).

    Here x may also be of shape S + (M,) for parameters of shape S + (P,): M values then share one spline.

    The outermost slopes are 1, so that z is continuously differentiable everywhere. No width, height (as a share of
    2B) or slope falls below ``FLOOR``: that bounds the condition of the inverse.

    Args:
        bins: K, the number of pieces.
        bound: B.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019.
    """

    FLOOR = 1e-3

    def __init__(self, bins: Bins = 8, bound: Positive = 4.0) -> None:
        self.bins, self.bound = bins, bound
        self.n_params = 3 * bins - 1

    def _knots(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Unconstrained (..., K) -> left ends and widths (..., K) of pieces that fill [-B, B]."""
        size = 2 * self.bound * (self.FLOOR + (1 - self.FLOOR * self.bins) * raw.softmax(-1))
        return size.cumsum(-1) - size - self.bound, size

    def _pieces(self, params: Tensor, v: Tensor, *, inverse: bool) -> tuple[Tensor, ...]:
        """x_k, w, y_k, h, d_k, d_{k+1} of the piece that holds each v (on the z axis if inverse)."""
        K = self.bins
        x, w = self._knots(params[..., :K])
        y, h = self._knots(params[..., K : 2 * K])
        # softplus(0 + offset) + FLOOR = 1: parameters of zero give slopes of one
        offset = math.log(math.expm1(1 - self.FLOOR))
        slopes = F.pad(F.softplus(params[..., 2 * K :] + offset) + self.FLOOR, (1, 1), value=1.0)

        shared = v.dim() == params.dim()
        v = v if shared else v[..., None]
        ends = y if inverse else x
        k = (v[..., None] >= ends[..., None, 1:]).sum(-1)
        pieces = [*(t.gather(-1, k) for t in (x, w, y, h)), slopes.gather(-1, k), slopes.gather(-1, k + 1)]
        return tuple(pieces if shared else (t.squeeze(-1) for t in pieces))

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.clamp(-self.bound, self.bound)
        x_k, w, y_k, h, d0, d1 = self._pieces(params, inside, inverse=False)
        s = h / w
        theta = ((inside - x_k) / w).clamp(0, 1)
        bend = theta * (1 - theta)
        denominator = s + (d0 + d1 - 2 * s) * bend
        z = y_k + h * (s * theta * theta + d0 * bend) / denominator
        slope = d1 * theta * theta + 2 * s * bend + d0 * (1 - theta).square()
        log_slope = 2 * s.log() + slope.log() - 2 * denominator.log()
        tail = x.abs() >= self.bound
        return torch.where(tail, x, z), torch.where(tail, torch.zeros_like(x), log_slope)

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        inside = z.clamp(-self.bound, self.bound)
        x_k, w, y_k, h, d0, d1 = self._pieces(params, inside, inverse=True)
        s = h / w
        rise = inside - y_k
        curve = rise * (d0 + d1 - 2 * s)
        a = h * (s - d0) + curve
        b = h * d0 - curve
        c = -s * rise
        # Rounding can push a discriminant of zero below it; this form of the root has no cancellation.
        root = (b * b - 4 * a * c).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
        theta = (2 * c / (-b - root)).clamp(0, 1)
        return torch.where(z.abs() >= self.bound, z, x_k + theta * w)
