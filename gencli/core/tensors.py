"""Small functions of tensors that many rooms share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from gencli.core.errors import UsageError

LOG_2PI = math.log(2 * math.pi)


def like(t: Tensor, x: Tensor) -> Tensor:
    """Values (B,) of each row, shaped and typed to multiply x (B, *).

    Example:
        >>> like(torch.ones(5), torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 1, 1, 1])
    """
    return t.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


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
        array = array.astype(np.int64)
    elif array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, order="C", dtype=array.dtype.newbyteorder("=")))
