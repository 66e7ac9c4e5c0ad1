"""Decoders p(x | z): a network, and the head whose parameters it gives.

The network's output has P parameters for each of the D coordinates of x, which are independent given z. A bias of each
parameter starts so that every p(x | z) is the data's own marginal distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.spec import Spec, Support
from gencli.models.distributions import BernoulliHead, CategoricalHead, Head, LogisticMixtureHead, NormalHead
from gencli.models.distributions.scales import Bounded
from gencli.nn.base import NetworkFactory

DecoderName = Literal["auto", "bernoulli", "categorical", "logistic", "gaussian"]
Variance = Literal["shared", "pixel", "network"]
"""Of a Gaussian decoder: one, one for each coordinate, or a function of z."""

SUPPORTS = {
    "bernoulli": ("binary",),
    "categorical": ("binary", "levels", "categorical"),
    "logistic": ("levels",),
    "gaussian": ("real",),
}
"""What data each distribution gives a probability."""
AUTO = {"binary": "bernoulli", "levels": "logistic", "categorical": "categorical", "real": "gaussian"}


class Decoder(nn.Module, ABC):
    """p(x | z, y).

    Args:
        spec: of x.
        net: makes the network z -> parameters.
        latent: d, the dimension of z.
        context: dimension of the context vector.
        n_params: P.
    """

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int, n_params: int) -> None:
        super().__init__()
        self.spec, self.n_params = spec, n_params
        channels, *sites = spec.shape
        self.net = net((latent,), (n_params * channels, *sites), context)
        self.bias = nn.Parameter(torch.zeros(n_params, spec.dim))

    @property
    @abstractmethod
    def distribution(self) -> Head:
        """The distribution of a coordinate."""

    def params(self, z: Tensor, context: Tensor | None) -> Tensor:
        """z (B, k, d), context (B, C) -> (B, k, D, P), in fp32 though autocast may have run the network in less."""
        B, k, _ = z.shape
        if context is not None and k > 1:
            context = context.repeat_interleave(k, 0)
        out = self.net(z.flatten(0, 1), context).to(self.bias.dtype)
        return out.view(B, k, self.n_params, self.spec.dim).add_(self.bias).mT

    def log_prob(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x | z_i, y) of k codes a row: x (B, *), z (B, k, d) -> (B, k) nats."""
        return self.distribution.total(x.flatten(1)[:, None], self.params(z, context))

    def mean(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """E[x | z], floats also where x is an integer: (n, d) -> (n, *)."""
        return self.distribution.mean(self.params(z[:, None], context)[:, 0]).view(-1, *self.spec.shape)

    def sample(self, z: Tensor, context: Tensor | None = None, *, noise: Noise) -> Tensor:
        """One x a code: (n, d) -> (n, *)."""
        return self.distribution.sample(self.params(z[:, None], context)[:, 0], noise).view(-1, *self.spec.shape)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set the bias from training examples x (N, *)."""
        self.bias.copy_(self.distribution.fit(x.flatten(1)).T)


class DiscreteDecoder(Decoder):
    """A head of integers, all of whose parameters the network gives.

    Args:
        head: of a coordinate.
    """

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int, head: Head) -> None:
        super().__init__(spec, net, latent, context, head.n_params)
        self._head = head

    @property
    def distribution(self) -> Head:
        return self._head


class GaussianDecoder(Decoder):
    """x_j ~ N(m_j(z), s_j^2).

    Args:
        variance: ``shared`` (one s, learned), ``pixel`` (one for each coordinate) or ``network`` (of z).
    """

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int, variance: Variance) -> None:
        super().__init__(spec, net, latent, context, 2 if variance == "network" else 1)
        self.variance = variance
        self.log_std = nn.Parameter(torch.zeros(spec.dim if variance == "pixel" else 1))

    @property
    def distribution(self) -> NormalHead:
        return NormalHead(self.log_std, scaled=self.variance == "network")

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        super().initialize(x)
        std = x.flatten(1).std(0, correction=0)
        width = std.clamp(min=1e-3 * float(std.mean())) if self.variance == "pixel" else std.square().mean().sqrt()
        self.log_std.copy_(width.log())


def _head(name: str, support: Support, components: int) -> Head:
    """The head of integers that a config names."""
    if name == "bernoulli":
        return BernoulliHead()
    if name == "categorical":
        return CategoricalHead(support, pseudocount=0.1)
    # s between e^-9 and e^5 of the range [-1, 1]: a logistic narrower than that is a point, wider ones are all flat
    return LogisticMixtureHead(support.size, components, Bounded(-2, 7), quantiles=False)


def make_decoder(
    name: DecoderName,
    spec: Spec,
    net: NetworkFactory,
    latent: int,
    context: int,
    *,
    components: int,
    variance: Variance,
) -> Decoder:
    """The decoder that a config names, or the one that suits the data's support (``auto``).

    Raises:
        ValueError: it gives this data no probability.
    """
    kind = spec.support.kind
    chosen = AUTO[kind] if name == "auto" else name
    fitting = [other for other, supports in SUPPORTS.items() if kind in supports]
    if chosen not in fitting:
        raise ValueError(
            f"model.decoder={name} is no distribution of {spec.support} data: {' or '.join(fitting)}"
            + (", or binarize the data" if name == "bernoulli" else "")
        )
    if chosen == "gaussian":
        return GaussianDecoder(spec, net, latent, context, variance)
    return DiscreteDecoder(spec, net, latent, context, _head(chosen, spec.support, components))


class Inputs(nn.Module):
    """x of any support as what an encoder's network reads: centred floats, categories as one-hot channels.

    Args:
        spec: of x.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        channels, *sites = spec.shape
        self.categories = spec.support.levels or 0 if spec.support.kind == "categorical" else 0
        self.shape = (channels * (self.categories or 1), *sites)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("scale", torch.ones(()))

    def _floats(self, x: Tensor) -> Tensor:
        if self.categories:
            hot = F.one_hot(x, self.categories).to(self.mean)  # (B, C, *sites, K)
            return hot.movedim(-1, 2 if x.dim() > 2 else 1).reshape(len(x), *self.shape)
        return x.to(self.mean)

    def forward(self, x: Tensor) -> Tensor:
        return (self._floats(x) - self.mean) * self.scale

    def initialize(self, x: Tensor) -> None:
        """Centre at the mean of training examples; all but bits are scaled to a mean variance of 1."""
        floats = self._floats(x)
        self.mean.copy_(floats.mean(0))
        if self.spec.support.kind in ("real", "levels"):
            self.scale.copy_(floats.var(0).mean().clamp(min=1e-8).rsqrt())
