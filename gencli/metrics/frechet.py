"""Fréchet distance between the Gaussians of two sets of features.

d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)), the squared 2-Wasserstein distance of two Gaussians; of
Inception features it is the FID of "GANs trained by a two time-scale update rule converge to a local Nash equilibrium"
(Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(mu_1: Tensor, s_1: Tensor, mu_2: Tensor, s_2: Tensor) -> float:
    """d^2 of means (D,) and covariances (D, D), in fp64; singular covariances are fine."""
    values, vectors = torch.linalg.eigh(s_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # the eigenvalues of S_1 S_2 are those of the symmetric S_1^(1/2) S_2 S_1^(1/2)
    cross = torch.linalg.eigvalsh(root @ s_2 @ root).clamp(min=0).sqrt().sum()
    return float((mu_1 - mu_2).square().sum() + s_1.trace() + s_2.trace() - 2 * cross)


def between(f: Tensor, g: Tensor) -> float:
    """d^2 of features f (n, D) and g (m, D)."""
    return frechet_distance(*_moments(f.double()), *_moments(g.double()))


def jackknife(f: Tensor, g: Tensor, groups: int = 20) -> float:
    """Standard error of ``between`` by leaving out a group of f or of g at a time.

    The delete-a-group jackknife: Var = (G - 1)/G sum_k (d_k - mean d)^2 for each of the two sets, rows dealt in turn.
    """
    f, g, variance = f.double(), g.double(), 0.0
    for left_out, fixed in ((f, _moments(g)), (g, _moments(f))):
        part = torch.arange(len(left_out), device=f.device) % groups
        d = torch.tensor([frechet_distance(*_moments(left_out[part != k]), *fixed) for k in range(groups)])
        variance += (groups - 1) / groups * float((d - d.mean()).square().sum())
    return variance**0.5


def _moments(f: Tensor) -> tuple[Tensor, Tensor]:
    return f.mean(0), torch.cov(f.T).reshape(f.shape[1], f.shape[1])
