"""Whether chains have mixed: R-hat and effective draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def split_r_hat(trace: Tensor) -> float:
    """Split R-hat of a quantity over chains: sqrt of the variance of all over that within half-chains; near 1 is good.

    Args:
        trace: (chains, draws), at least 4 draws.

    References:
        Gelman et al., "Bayesian data analysis", 3rd edition, 2013, section 11.4.
    """
    half = trace.shape[1] // 2
    if half < 2:
        return math.nan
    halves = torch.cat([trace[:, :half], trace[:, -half:]]).double()
    within = halves.var(1).mean()
    between = half * halves.mean(1).var()
    return float((((half - 1) * within + between) / (half * within)).sqrt())


def effective_draws(trace: Tensor) -> float:
    """Effective sample size of a quantity over all chains, by Geyer's initial monotone sequence.

    Args:
        trace: (chains, draws), at least 4 draws.

    References:
        Geyer, "Practical Markov chain Monte Carlo", 1992; Vehtari, Gelman, Simpson, Carpenter and Bürkner,
        "Rank-normalization, folding, and localization: an improved R-hat", 2021 (section 3.2).
    """
    m, n = trace.shape
    if n < 4:
        return math.nan
    trace = trace.double()
    away = trace - trace.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(away, 2 * n)
    covariance = torch.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:, :n].mean(0) / n
    within = covariance[0] * n / (n - 1)
    total = within * (n - 1) / n + (trace.mean(1).var() if m > 1 else 0.0)
    if not total > 0:
        return math.nan
    rho = 1 - (within - covariance) / total
    pairs = rho[0 : n - n % 2 : 2] + rho[1 : n - n % 2 : 2]
    negative = (pairs < 0).nonzero()
    pairs = pairs[: int(negative[0])] if len(negative) else pairs
    tau = -1 + 2 * float(pairs.cummin(0).values.sum()) if len(pairs) else 1.0
    return m * n / max(tau, 1 / math.log10(max(m * n, 10)))
