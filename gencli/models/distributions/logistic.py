"""Ordered values 0..K-1: mixtures of discretised logistics, of one coordinate or of the channels of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.models.distributions.base import Head
from gencli.models.distributions.categorical import Categorical
from gencli.models.distributions.scales import LOGISTIC, MIN_LOG_SCALE, SOFT_FLOOR, LogScale, around_mean, at_quantiles


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


@dataclass(frozen=True)
class LogisticMixtureHead(Head):
    """An ordered value in 0..K-1: a mixture of C discretised logistics, P = 3 C: logits, means and log-scales.

    Args:
        levels: K.
        components: C.
        scale: ln s of what a network gives for it.
        quantiles: whether ``fit`` puts the components at quantiles of the data, which suits one coordinate before the
            others are seen; else around the mean, with the data's own width.
    """

    levels: int
    components: int
    scale: LogScale = SOFT_FLOOR
    quantiles: bool = True

    @property
    def n_params(self) -> int:
        return 3 * self.components

    def mixture(self, params: Tensor) -> LogisticMixture:
        """The mixtures (*) with parameters (*, P)."""
        logits, mean, raw = params.split(self.components, -1)
        return LogisticMixture(self.levels, logits.log_softmax(-1), mean, self.scale(raw))

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        return self.mixture(params).log_prob(x)

    def conditional(self, params: Tensor) -> Categorical:
        return Categorical(self.mixture(params).logits())

    def mean(self, params: Tensor) -> Tensor:
        p = self.mixture(params).logits().exp()
        return p @ torch.arange(self.levels, device=p.device, dtype=p.dtype)

    def fit(self, x: Tensor) -> Tensor:
        """As the contract says; components have equal weights, and none is narrower than a bin."""
        v = 2 * x.float() / (self.levels - 1) - 1
        place = at_quantiles if self.quantiles else around_mean
        mean, log_scale = place(v, self.components, 1 / (self.levels - 1), LOGISTIC)
        return torch.cat([torch.zeros_like(mean), mean, self.scale.raw(log_scale).expand_as(mean)], 1)


@dataclass(frozen=True)
class PixelMixtureHead:
    """The C channels of a pixel, each in 0..K-1, as one mixture of M discretised logistics.

        p(x_1 .. x_C) = sum_m w_m prod_c P(x_c; mu_mc + sum_{d<c} tanh(a_mcd) v_d, s_mc),    v = 2 x / (K - 1) - 1.

    Within a component m the mean of a channel moves with the channels before it. The probability of channel c alone
    follows from that of the first c channels divided by that of the first c - 1. P = M (1 + 2 C + C (C - 1) / 2):
    logits, means and log-scales channel by channel, couplings. Dimension 1 of x and of all results counts channels, as
    in images.

    Args:
        levels: K.
        channels: C.
        components: M.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized logistic mixture
        likelihood and other modifications", 2017.
    """

    levels: int
    channels: int
    components: int

    @property
    def pairs(self) -> int:
        """Pairs of channels."""
        return self.channels * (self.channels - 1) // 2

    @property
    def n_params(self) -> int:
        """P."""
        return self.components * (1 + 2 * self.channels + self.pairs)

    def mixture(self, x: Tensor, params: Tensor) -> tuple[Tensor, LogisticMixture]:
        """ln w (B, *, M) and, with those weights for all channels, the mixtures of the channels (B, C, *, M).

        Args:
            x: (B, C, *), of which channel c sees those before it.
            params: (B, *, P).
        """
        C, M = self.channels, self.components
        logits, mean, log_scale, coupling = params.split((M, C * M, C * M, self.pairs * M), -1)
        log_weights = logits.log_softmax(-1)
        means = list(mean.unflatten(-1, (C, M)).unbind(-2))
        v = (2 * x.to(params.dtype) / (self.levels - 1) - 1)[..., None]
        a = iter(coupling.unflatten(-1, (self.pairs, M)).tanh().unbind(-2)) if self.pairs else iter(())
        for c in range(1, C):
            for d in range(c):
                means[c] = means[c] + next(a) * v[:, d]
        scales = log_scale.unflatten(-1, (C, M)).movedim(-2, 1).clamp(min=MIN_LOG_SCALE)
        return log_weights, LogisticMixture(self.levels, log_weights[:, None], torch.stack(means, 1), scales)

    def log_conditionals(self, x: Tensor, params: Tensor) -> Tensor:
        """log p of each channel given those before it, in nats: (B, C, *)."""
        log_weights, mixture = self.mixture(x, params)
        joint = (log_weights[:, None] + mixture.log_components(x).cumsum(1)).logsumexp(-1)  # of the first c channels
        return torch.cat([joint[:, :1], joint[:, 1:] - joint[:, :-1]], 1)

    def logits(self, x: Tensor, params: Tensor) -> Tensor:
        """log p of every value of each channel given those before it in x: (B, C, *, K)."""
        log_weights, mixture = self.mixture(x, params)
        seen = mixture.log_components(x).cumsum(1)[:, :-1]
        weights = torch.cat([log_weights[:, None], log_weights[:, None] + seen], 1).log_softmax(-1)
        return LogisticMixture(self.levels, weights, mixture.mean, mixture.log_scale).logits()

    def start(self) -> Tensor:
        """Parameters (P,) that cover all values: means spread over [-1, 1], scales to match, no coupling."""
        C, M = self.channels, self.components
        means = torch.linspace(-1, 1, M + 2)[1:-1].expand(C, -1).flatten()
        return torch.cat([torch.zeros(M), means, torch.full((C * M,), -1.0), torch.zeros(self.pairs * M)])
