"""Distributions of one coordinate that several families share, given what a network says of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class LogisticMixture:
    """A mixture of M logistics, discretised on the K levels v_k = 2k / (K - 1) - 1 of [-1, 1].

        P(k) = sum_m w_m [ sigma((v_k + r - mu_m) / s_m) - sigma((v_k - r - mu_m) / s_m) ],    r = 1 / (K - 1),

    and the two outermost levels take the tails, so that the P(k) sum to 1. The difference is never taken: with
    a < b the ends of a bin, sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)), whose logarithm is stable
    however far x lies from mu and however narrow or wide s is.

    Args:
        levels: K, at least 2.
        log_weights: (*, M) log w, normalised over M.
        mean: (*, M) mu, in units of v.
        log_scale: (*, M) ln s, in units of v.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized logistic mixture
        likelihood and other modifications", 2017.
    """

    def __init__(self, levels: int, log_weights: Tensor, mean: Tensor, log_scale: Tensor) -> None:
        self.levels, self.log_weights, self.mean, self.log_scale = levels, log_weights, mean, log_scale

    def log_components(self, x: Tensor) -> Tensor:
        """log P(k | m) in nats of levels x (*), integers in 0..K-1: (*, M)."""
        return _log_bin(self.levels, x, self.mean, self.log_scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(k) in nats of levels x (*), integers in 0..K-1: (*)."""
        return (self.log_weights + self.log_components(x)).logsumexp(-1)

    def logits(self) -> Tensor:
        """log P(k) of all levels: (*, K)."""
        x = torch.arange(self.levels, device=self.mean.device)
        log_bin = _log_bin(self.levels, x, self.mean[..., None, :], self.log_scale[..., None, :])
        return (self.log_weights[..., None, :] + log_bin).logsumexp(-1)


def _log_bin(levels: int, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log of a logistic's mass in the bin of levels x (*): (*, M)."""
    r = 1 / (levels - 1)
    x = x[..., None].to(mean.dtype)
    inverse = (-log_scale).exp()
    middle = (2 * r * x - 1 - mean) * inverse
    half = r * inverse
    below = torch.where(x == levels - 1, 0.0, F.logsigmoid(middle + half))  # log sigma(b); the top bin has no end
    above = torch.where(x == 0, 0.0, F.logsigmoid(half - middle))  # log sigma(-a)
    inner = torch.where((x == 0) | (x == levels - 1), 0.0, (-torch.expm1(-2 * half)).log())
    return below + above + inner
