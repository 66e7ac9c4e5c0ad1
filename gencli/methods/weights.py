"""Importance weights: log of their mean, its error, and whether that error can be believed.

The delta method's error knows only the weights that were drawn. Where few draws hold all the weight, larger ones are
yet to come: the mean is too low and its error too small. Two signs of it are read from the weights themselves: their
effective number, and the shape k of a generalised Pareto distribution fitted to the largest, of which moments of order
1/k and above do not exist.

References:
    Zhang and Stephens, "A new and efficient estimation method for the generalized Pareto distribution", 2009; Vehtari,
    Simpson, Gelman, Yao and Gabry, "Pareto smoothed importance sampling", 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.tensors import ess, log_mean_exp

LEAST_ESS = 20.0
"""Effective weights below which an error is not believed; of fewer than 40, half of them."""
MOST_K = 0.7
"""Shape of the tail above which an error is not believed."""
LEAST_TAIL = 20
"""Largest weights of which a shape can be fitted."""


@dataclass(frozen=True)
class Weighed:
    """log of a mean of importance weights.

    Args:
        log_mean: log 1/n sum_i w_i.
        variance: of ``log_mean``, by the delta method.
        ess: effective number of weights.
        pareto_k: shape of the tail; nan: too few weights to say.
        collapsed: the weights say that ``variance`` is too small.
    """

    log_mean: float
    variance: float
    ess: float
    pareto_k: float
    collapsed: bool

    @property
    def diagnostics(self) -> dict[str, float]:
        """For a record."""
        told = {} if math.isnan(self.pareto_k) else {"pareto_k": self.pareto_k}
        return {"ess": self.ess, **told}


def weighed(log_w: Tensor) -> Weighed:
    """Sum up log weights (n,)."""
    value, variance = log_mean_exp(log_w)
    effective, k = ess(log_w), pareto_k(log_w)
    return Weighed(float(value), float(variance), float(effective), float(k), bool(collapsed(log_w, effective, k)))


def collapsed(log_w: Tensor, effective: Tensor, k: Tensor) -> Tensor:
    """Whether the error of the mean of weights (..., n) is a lower limit only, given ``ess`` and ``pareto_k`` (...).

    k above 0.7 says so (Vehtari et al.), or too few effective weights.
    """
    return (effective < least(log_w)) | (k > MOST_K)


def least(log_w: Tensor) -> float:
    """Effective weights, of n in (..., n), below which they have collapsed."""
    return min(LEAST_ESS, log_w.shape[-1] / 2)


def softened(log_w: Tensor) -> Tensor:
    """Weights (n,) to the largest power, 1 at most, at which they have not collapsed.

    Where few weights hold everything, most of that is noise of the paths that chains took, and what is drawn by them
    would be copies of one chain.

    Example:
        >>> log_w = torch.tensor([0.0, 0.0, 9.0, 3.0])
        >>> float(ess(log_w)) < 1.01, round(float(ess(softened(log_w))), 3)
        (True, 2.0)
    """
    if float(ess(log_w)) >= least(log_w):
        return log_w
    low, high = 0.0, 1.0
    for _ in range(50):
        power = (low + high) / 2
        low, high = (power, high) if float(ess(power * log_w)) >= least(log_w) else (low, power)
    return low * log_w


def pareto_k(log_w: Tensor) -> Tensor:
    """Shape k of the tail of weights (..., n), by the estimate of Zhang and Stephens; nan where there are too few.

    The tail is the largest min(n / 5, 3 sqrt n) weights above the next one. Their k is averaged with 0.5 as if that had
    been seen ten times. Weights of one size have no tail: k = 0.
    """
    n = log_w.shape[-1]
    M = int(min(0.2 * n, 3 * math.sqrt(n)))
    if M < LEAST_TAIL:
        return torch.full_like(log_w[..., 0], math.nan)
    top = log_w.topk(M + 1).values.double().flip(-1)  # ascending, the threshold first
    w = (top - top[..., -1:]).exp()
    x = (w[..., 1:] - w[..., :1]).clamp(min=1e-300)
    m = 30 + int(math.sqrt(M))
    j = torch.arange(1, m + 1, dtype=x.dtype, device=x.device)
    quartile = x[..., int(M / 4 + 0.5) - 1 : int(M / 4 + 0.5)]
    theta = 1 / x[..., -1:] + (1 - (m / (j - 0.5)).sqrt()) / (3 * quartile)  # (..., m)
    shape = torch.log1p(-theta[..., None] * x[..., None, :]).mean(-1)
    likelihood = M * ((-theta / shape).log() - shape - 1)
    best = (likelihood.nan_to_num(nan=-math.inf).softmax(-1) * theta).sum(-1)
    k = torch.log1p(-best[..., None] * x).mean(-1)
    k = (M * k + 10 * 0.5) / (M + 10)
    return torch.where(x[..., -1] > 1e-10, k, 0.0)
