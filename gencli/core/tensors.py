"""Small functions of tensors that many rooms share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from gencli.core.errors import UsageError

LOG_2PI = math.log(2 * math.pi)
SINGULAR = 1e-12
"""Share of a variance that coordinates before it must leave unexplained: less is rounding."""


def like(t: Tensor, x: Tensor) -> Tensor:
    """Values (B,) of each row, shaped and typed to multiply x (B, *).

    Example:
        >>> like(torch.ones(5), torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 1, 1, 1])
    """
    return t.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def place(module: nn.Module) -> Tensor:
    """A tensor that says a module's dtype and device: a parameter; of an n-gram, which has counts alone, a buffer."""
    return next(itertools.chain(module.parameters(), module.buffers()))


def shared(rows: Tensor) -> Tensor:
    """Rows (B, *) that are one row expanded, as that row (1, *), of which all that follows is computed once.

    Any others are given back as they are.

    Example:
        >>> shared(torch.tensor(0.5).expand(5)), shared(torch.tensor([0.5, 0.5]))
        (tensor([0.5000]), tensor([0.5000, 0.5000]))
    """
    return rows[:1] if len(rows) > 1 and rows.stride(0) == 0 else rows


def slope(of: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) (n,) and its gradient (n, *) by autograd, detached; rows do not depend on each other."""
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        e = of(x)
        # ones, and not the sum of e: what that sends back is expanded, which a matrix product first lays out
        (gradient,) = torch.autograd.grad(e, x, torch.ones_like(e))
    return e.detach(), gradient


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter collects a gradient meanwhile, which makes a chain's backward passes about a third cheaper."""
    free = [p for p in module.parameters() if p.requires_grad]
    for p in free:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in free:
            p.requires_grad_(True)


def rows(value: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ...), to be multiplied with x (n, *)."""
    return value.view(-1, *[1] * (like.ndim - 1))


def ess(log_weights: Tensor) -> Tensor:
    """Kish's effective sample size of importance weights, (sum w)^2 / sum w^2, over the last dimension.

    Example:
        >>> ess(torch.tensor([[0.0, 0.0], [0.0, -100.0]]))  # two equal weights; one that has all
        tensor([2., 1.])
    """
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def log_mean_exp(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean weight over (n,), and the variance of that logarithm by the delta method (inf for n = 1)."""
    n = len(log_weights)
    value = log_weights.logsumexp(0) - math.log(n)
    relative = (log_weights - value).exp()
    return value, relative.var() / n if n > 1 else torch.full_like(value, math.inf)


def numbers(name: str, values: object) -> Tensor:
    """What a caller gives as a tensor, an array or lists, as a tensor; decimal fractions of lists are float64.

    Raises:
        UsageError: it holds something else than real numbers.

    Example:
        >>> numbers("x", [[1.5, 2]]).dtype, numbers("ids", [3, 1]).dtype
        (torch.float64, torch.int64)
    """
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{name}: its rows differ in length") from error
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{name}: numbers are needed, not {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch computes with bytes and signed integers
        if array.size and array.max() > np.iinfo(np.int64).max:
            raise UsageError(f"{name}: {array.max()} is more than integers of 64 bits with a sign hold")
        array = array.astype(np.int64)
    elif array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, order="C", dtype=array.dtype.newbyteorder("=")))


def cholesky(covariance: Tensor, way_out: str) -> Tensor:
    """L with L L^T = S, of covariances S (..., D, D) of examples.

    Raises:
        ValueError: one is singular to working precision; names the coordinates, and a way out.
    """
    L: Tensor
    L, info = torch.linalg.cholesky_ex(covariance)
    variances = covariance.diagonal(dim1=-2, dim2=-1)
    left = L.diagonal(dim1=-2, dim2=-1).square() / variances
    bad = (info > 0) | ~(left > SINGULAR).all(-1)
    if bad.any():
        S = covariance[bad][0] if covariance.ndim > 2 else covariance
        raise ValueError(f"{_why_singular(S)}: {way_out}")
    return L


def factor(M: Tensor) -> Tensor:
    """L with L L^T = M (..., D, D); NaN where M is not positive definite, which no host waits for."""
    L: Tensor
    L, info = torch.linalg.cholesky_ex(M)
    return L.masked_fill((info > 0)[..., None, None], math.nan)


def positive(variances: Tensor, way_out: str) -> Tensor:
    """Variances (..., D) of examples.

    Raises:
        ValueError: a coordinate has none; names it, and a way out.
    """
    constant = ~(variances > 0).reshape(-1, variances.shape[-1]).all(0)
    if constant.any():
        raise ValueError(f"{_coordinates(constant)} constant: {way_out}")
    return variances


def _why_singular(S: Tensor) -> str:
    """Which coordinates are constant, or depend on each other the most."""
    if not S.isfinite().all():
        return "the covariance of the examples is not finite"
    variances = S.diagonal()
    constant = variances <= 0
    if constant.any():
        return f"{_coordinates(constant)} constant"
    std = variances.sqrt()
    direction = torch.linalg.eigh(S / std.outer(std))[1][:, 0].abs()
    return f"{_coordinates(direction > 0.1 * direction.max())} linearly dependent"


def _coordinates(which: Tensor, most: int = 8) -> str:
    found = which.nonzero().flatten().tolist()
    named = ", ".join(map(str, found[:most])) + (f" and {len(found) - most} more" if len(found) > most else "")
    return f"coordinates {named} (the first is 0) are" if len(found) > 1 else f"coordinate {named} (the first is 0) is"
