"""The least-squares line of x on its context, from which conditional models of reals may start."""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGE = 1e-5
"""As a share of the mean variance of the predictors."""


def least_squares(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A and b of A y + b by least squares, place by place, and what they leave.

    Args:
        before: y (N, I, *), in fp64; each place of * is predicted by what it had before, and by no other.
        after: x (N, O, *), in fp64.

    Returns:
        A (O, I, *), b (O, *), and the residuals x - A y - b, (N, O, *).
    """
    centre, mean = before.mean(0), after.mean(0)
    # of a place alone: predictors and x as (*, N, I) and (*, N, O)
    p, q = ((values - values.mean(0)).movedim((0, 1), (-2, -1)) for values in (before, after))
    gram = p.mT @ p / len(after)
    ridge = _RIDGE * gram.diagonal(dim1=-2, dim2=-1).mean() * torch.eye(p.shape[-1], device=p.device, dtype=p.dtype)
    slope = torch.linalg.solve(gram + ridge, p.mT @ q / len(after))  # (*, I, O)
    residual = (q - p @ slope).movedim((-2, -1), (0, 1))
    A = slope.movedim((-1, -2), (0, 1))
    return A, mean - torch.einsum("oi...,i...->o...", A, centre), residual


def on_line(A: Tensor, b: Tensor, before: Tensor) -> Tensor:
    """A y + b of y (N, I, *): (N, O, *)."""
    return torch.einsum("oi...,ni...->no...", A, before) + b
