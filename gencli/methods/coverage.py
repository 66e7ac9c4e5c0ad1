"""Whether posteriors are calibrated: where the theta that made an observation lies among draws given it.

If draws are of the true posterior, theta and they are exchangeable, so that its rank among n draws is uniform on 0 .. n
in every function of theta. The converse needs all such functions: uniform ranks of the coordinates do not prove that a
posterior is right.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gencli.core.noise import Purpose, stream
from gencli.methods.posteriors import Drawn, pairs, posteriors
from gencli.models.subject import Subject


def ranks(draws: Tensor, theta: Tensor) -> Tensor:
    """The rank 0 .. n of each coordinate of theta (L, D) among draws (L, n, D): (L, D).

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman, "Validating Bayesian inference algorithms with simulation-based
        calibration", 2018.
    """
    return (draws < theta[:, None]).sum(1)


def distance_ranks(draws: Tensor, theta: Tensor, x: Tensor) -> Tensor:
    """The rank 0 .. n of theta (L, D) among draws (L, n, D) by the distance from a point that x (L, C) chooses, (L,).

    Distances are measured in ranges of all thetas. The place of the point in these ranges is that of x's coordinates in
    their order among the L observations. Points that know nothing of x would not find out draws of the prior.

    References:
        Lemos, Coogan, Hezaveh and Perreault-Levasseur, "Sampling-based accuracy testing of posterior estimators for
        general inference", 2023 (TARP).
    """
    low, high = theta.amin(0), theta.amax(0)
    scale = torch.where(high > low, high - low, 1.0)
    place = (x.argsort(0).argsort(0).double() + 0.5) / len(x)
    point = place[:, torch.arange(theta.shape[1]) % x.shape[1]]
    own = ((theta - low) / scale - point).square().sum(1)
    others = ((draws - low) / scale - point[:, None]).square().sum(2)
    return (others < own[:, None]).sum(1)


def chi_squared(rank: Tensor, n: int, bins: int) -> tuple[float, float]:
    """Pearson's statistic of ranks (L,) of 0 .. n in bins, and its p-value; bins need not be of one width."""
    from scipy.stats import chi2

    edges = torch.linspace(0, n + 1, bins + 1, dtype=torch.float64).round()
    counts = torch.histogram(rank.double() + 0.5, edges)[0]
    expected = len(rank) * edges.diff() / (n + 1)
    statistic = float(((counts - expected).square() / expected).sum())
    return statistic, float(chi2.sf(statistic, bins - 1))


def deviation(rank: Tensor, n: int) -> float:
    """The mean over levels of |coverage - level|: how far ranks (L,) of 0 .. n are from uniform, 0 if calibrated."""
    counts = torch.bincount(rank, minlength=n + 1).double()
    covered = counts.cumsum(0) / len(rank)
    level = torch.arange(1, n + 2, dtype=torch.float64) / (n + 1)
    return float((covered - level).abs().mean())


def resampled(rank: Tensor, n: int, generator: torch.Generator, times: int = 200) -> float:
    """The standard error of ``deviation``, by the bootstrap over rows of ranks (L,) or (L, D), averaged over D."""
    wide = rank[:, None] if rank.ndim == 1 else rank
    found = []
    for _ in range(times):
        rows = wide[torch.randint(len(wide), (len(wide),), generator=generator)]
        found.append(sum(deviation(column, n) for column in rows.T) / rows.shape[1])
    return float(np.std(found, ddof=1))


def floor(rows: int) -> float:
    """About what ``deviation`` is of calibrated draws: the mean of |a Brownian bridge| over sqrt(L)."""
    # E |B(t)| = sqrt(2 t (1 - t) / pi), and the mean of sqrt(t (1 - t)) is pi / 8
    return math.sqrt(2 / math.pi) * math.pi / 8 / math.sqrt(rows)


def band(rows: int, bins: int, share: float = 0.95) -> tuple[float, float]:
    """The least and greatest count of a bin that calibrated ranks have with probability ``share`` each."""
    from scipy.stats import binom

    return tuple(map(float, binom.interval(share, rows, 1 / bins)))  # type: ignore[return-value]


def calibrated(subject: Subject, examples: int, draws: int, steps: int = 50) -> tuple[Drawn, Tensor, Tensor]:
    """Draws (L, n, D) for each of the first L examples of a subject's split, and their theta (L, D) and x (L, C).

    Raises:
        ValueError: as ``pairs`` and ``posteriors``.
    """
    theta, x = pairs(subject, examples)
    return posteriors(subject, x, draws, number=1, steps=steps), theta, x


def generator_of(subject: Subject, number: int) -> torch.Generator:
    """A generator of the seed of a subject."""
    return torch.Generator().manual_seed(stream(subject.seed, Purpose.METRICS, 1000 + number))
