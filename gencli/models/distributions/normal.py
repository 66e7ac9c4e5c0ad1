"""Reals: a normal distribution, or a mixture of several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.tensors import LOG_2PI
from gencli.models.distributions.base import Conditional, Head
from gencli.models.distributions.categorical import Categorical
from gencli.models.distributions.scales import NORMAL, SOFT_FLOOR, Bounded, at_quantiles


class Normal(Conditional):
    """N(mean, e^(2 log_std)) of one coordinate.

    Args:
        mean: (n, *).
        log_std: broadcasts to (n, *).
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.mean + temperature * self.log_std.exp() * noise.randn(*self.mean.shape).to(self.mean)


class NormalMixture(Conditional):
    """A mixture of C normals of one coordinate; of one component too, it is drawn which.

    Args:
        log_weight, mean, log_std: (n, *, C).
    """

    def __init__(self, log_weight: Tensor, mean: Tensor, log_std: Tensor) -> None:
        self.weights, self.mean, self.log_std = Categorical(log_weight), mean, log_std

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """The temperature scales the standard deviations and leaves the weights."""
        chosen = self.weights.sample(noise)[..., None]
        mean, log_std = (moment.gather(-1, chosen)[..., 0] for moment in (self.mean, self.log_std))
        return Normal(mean, log_std).sample(noise, temperature)


@dataclass(frozen=True, eq=False)
class NormalHead(Head):
    """A real, N(m, s^2), with a part of ln s that is none of the network's.

    P = 1, the mean; or P = 2, the mean and what the network adds to ln s, within 5 of 0.

    Args:
        log_std: ln s, which broadcasts to (*).
        scaled: whether the network adds to it.
    """

    log_std: Tensor
    scaled: bool

    @property
    def n_params(self) -> int:
        return 2 if self.scaled else 1

    def _log_std(self, params: Tensor) -> Tensor:
        return Bounded(self.log_std, 5.0)(params[..., 1]) if self.scaled else self.log_std

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        log_precision = -self._log_std(params)  # of s, not of s^2
        away = (x - params[..., 0]) * log_precision.exp()
        return -0.5 * away.square() + log_precision - 0.5 * LOG_2PI

    def conditional(self, params: Tensor) -> Normal:
        return Normal(params[..., 0], self._log_std(params))

    def mean(self, params: Tensor) -> Tensor:
        return params[..., 0]

    def fit(self, x: Tensor) -> Tensor:
        """As the contract says, but for ln s, which is none of the parameters: the network adds 0 to it."""
        _, mean = torch.std_mean(x, 0, correction=0)
        return torch.stack([mean, torch.zeros_like(mean)], 1)[:, : self.n_params]


@dataclass(frozen=True)
class NormalMixtureHead(Head):
    """A real: a mixture of C normals, P = 3 C, logits, means and log standard deviations; of one, P = 2.

    Args:
        components: C.
    """

    components: int = 1

    @property
    def n_params(self) -> int:
        return 3 * self.components if self.components > 1 else 2

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        C = self.components
        logits = params[..., :C].log_softmax(-1) if C > 1 else torch.zeros_like(params[..., :1])
        return logits, params[..., -2 * C : -C], SOFT_FLOOR(params[..., -C:])

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        log_weight, mean, log_std = self._split(params)
        square = ((x[..., None] - mean) * (-log_std).exp()).square()
        return (log_weight - 0.5 * square - log_std - 0.5 * LOG_2PI).logsumexp(-1)

    def conditional(self, params: Tensor) -> NormalMixture:
        return NormalMixture(*self._split(params))

    def mean(self, params: Tensor) -> Tensor:
        log_weight, mean, _ = self._split(params)
        return (log_weight.exp() * mean).sum(-1)

    def fit(self, x: Tensor) -> Tensor:
        """As the contract says; components of equal weight lie between the quantiles."""
        mean, log_std = at_quantiles(x, self.components, 1e-3, NORMAL)
        weights = [torch.zeros_like(mean)] if self.components > 1 else []
        return torch.cat([*weights, mean, SOFT_FLOOR.raw(log_std).expand_as(mean)], 1)
