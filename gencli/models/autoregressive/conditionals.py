"""What one coordinate is given the parameters that a network says of it, and what the network sees of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.models.distributions import Categorical, Conditional
from gencli.models.likelihoods import LogisticMixture

MIN_LOG_SCALE = -7.0
"""Floor of ln s of densities, reached softly: a narrower peak would only memorise repeated values."""


class Coordinate(ABC):
    """A family of distributions of one coordinate.

    ``n_params``: P, what the network gives for it. ``features``: I, what the network sees of it.
    """

    n_params: int
    features: int = 1

    def encode(self, x: Tensor) -> Tensor:
        """What the network sees: (*,) -> (*, I)."""
        return x[..., None]

    @abstractmethod
    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """log p in nats of x (*) under params (*, P): (*)."""

    @abstractmethod
    def conditional(self, params: Tensor) -> Conditional:
        """Params (n, P) as something that can be drawn from."""

    @abstractmethod
    def start(self, x: Tensor) -> Tensor:
        """Params (D, P) that fit each column of training examples x (N, D) by itself."""


class Bernoulli(Coordinate):
    """A bit: P = 1, the logit of one."""

    n_params = 1

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        logit = params[..., 0]
        return x * logit - F.softplus(logit)

    def conditional(self, params: Tensor) -> Categorical:
        return Bit(torch.cat([torch.zeros_like(params), params], -1))

    def start(self, x: Tensor) -> Tensor:
        return ((x.sum(0) + 1) / (len(x) + 2)).logit()[:, None]


class Bit(Categorical):
    """A value in {0, 1}, drawn as a float, as models see bits."""

    def truncated(self, top_k: int | None = None, top_p: float | None = None) -> Bit:
        return Bit(super().truncated(top_k, top_p).logits)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return super().sample(noise, temperature).to(self.logits.dtype)


class Softmax(Coordinate):
    """A value in 0..K-1: P = K logits.

    Args:
        levels: K.
        encoding: what the network sees: ``onehot``, ``thermometer`` (1 for every k below x, so that near levels look
            alike) or ``value`` (2 x / (K - 1) - 1).
    """

    def __init__(self, levels: int, encoding: str) -> None:
        self.levels, self.encoding = levels, encoding
        self.n_params = levels
        self.features = {"onehot": levels, "thermometer": levels - 1, "value": 1}[encoding]

    def encode(self, x: Tensor) -> Tensor:
        if self.encoding == "onehot":
            return F.one_hot(x, self.levels).float()
        if self.encoding == "thermometer":
            return (x[..., None] > torch.arange(self.levels - 1, device=x.device)).float()
        return (2 * x[..., None].float() / (self.levels - 1)) - 1

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        return params.log_softmax(-1).gather(-1, x[..., None])[..., 0]

    def conditional(self, params: Tensor) -> Categorical:
        return Categorical(params)

    def start(self, x: Tensor) -> Tensor:
        counts = torch.stack([(x == k).sum(0) for k in range(self.levels)], -1)
        return ((counts + 1) / (len(x) + self.levels)).log()


class Logistics(Softmax):
    """An ordered value in 0..K-1: a mixture of C discretised logistics, P = 3 C.

    Args:
        levels: K.
        encoding: as in ``Softmax``.
        components: C.
    """

    def __init__(self, levels: int, encoding: str, components: int) -> None:
        super().__init__(levels, encoding)
        self.components, self.n_params = components, 3 * components

    def _mixture(self, params: Tensor) -> LogisticMixture:
        logits, mean, scale = params.split(self.components, -1)
        return LogisticMixture(self.levels, logits.log_softmax(-1), mean, floored(scale))

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        return self._mixture(params).log_prob(x)

    def conditional(self, params: Tensor) -> Categorical:
        return Categorical(self._mixture(params).logits())

    def start(self, x: Tensor) -> Tensor:
        values = 2 * x.float() / (self.levels - 1) - 1
        return _spread(values, self.components, floor=1 / (self.levels - 1), per_deviation=math.sqrt(3) / math.pi)


class Normals(Coordinate):
    """A real: a mixture of C normals, P = 3 C; of one, P = 2, its mean and log standard deviation.

    Args:
        components: C.
    """

    def __init__(self, components: int) -> None:
        self.components = components
        self.n_params = 3 * components if components > 1 else 2

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        C = self.components
        logits = params[..., :C].log_softmax(-1) if C > 1 else torch.zeros_like(params[..., :1])
        return logits, params[..., -2 * C : -C], floored(params[..., -C:])

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        log_weight, mean, log_std = self._split(params)
        square = ((x[..., None] - mean) * (-log_std).exp()).square()
        return (log_weight - 0.5 * square - log_std - 0.5 * math.log(2 * math.pi)).logsumexp(-1)

    def conditional(self, params: Tensor) -> Conditional:
        return NormalMixture(*self._split(params))

    def start(self, x: Tensor) -> Tensor:
        params = _spread(x, self.components, floor=1e-3, per_deviation=1.0)
        return params if self.components > 1 else params[:, 1:]


class NormalMixture(Conditional):
    """A mixture of normals of one coordinate.

    Args:
        log_weight, mean, log_std: (n, C).
    """

    def __init__(self, log_weight: Tensor, mean: Tensor, log_std: Tensor) -> None:
        self.weights, self.mean, self.log_std = Categorical(log_weight), mean, log_std

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """The temperature scales the standard deviations and leaves the weights."""
        chosen = self.weights.sample(noise)[:, None]
        mean, log_std = self.mean.gather(1, chosen)[:, 0], self.log_std.gather(1, chosen)[:, 0]
        return mean + temperature * log_std.exp() * noise.randn(len(mean)).to(mean.dtype)


def floored(log_scale: Tensor) -> Tensor:
    """A log-scale above ``MIN_LOG_SCALE``; the identity well above it."""
    return MIN_LOG_SCALE + F.softplus(log_scale - MIN_LOG_SCALE)


def _spread(x: Tensor, components: int, floor: float, per_deviation: float) -> Tensor:
    """Equal components between the quantiles of each column: (N, D) -> (D, 3 C), logits, means, log-scales."""
    C = components
    if C == 1:
        mean = x.mean(0)[:, None]
    else:
        at = (torch.arange(C, device=x.device, dtype=x.dtype) + 0.5) / C
        mean = torch.quantile(x, at, dim=0).T
    std = (x.std(0, correction=0)[:, None] / C**0.5).clamp(min=floor)
    log_scale = (per_deviation * std).log().expand(-1, C)
    return torch.cat([torch.zeros_like(mean), mean, log_scale], 1)
