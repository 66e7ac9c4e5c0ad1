"""Decoders p(x | z): a network, and the distribution whose parameters it gives.

The network's output has P parameters for each of the D coordinates of x, which are independent given z. A bias of each
parameter starts so that every p(x | z) is the data's own marginal distribution.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.spec import Spec
from gencli.models.likelihoods import LogisticMixture
from gencli.nn.base import NetworkFactory


class Decoder(nn.Module):
    """p(x | z, y).

    Args:
        spec: of x.
        net: makes the network z -> parameters.
        latent: d, the dimension of z.
        context: dimension of the context vector.
        n_params: P.
    """

    supports: ClassVar[tuple[str, ...]]

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int, n_params: int) -> None:
        super().__init__()
        self.spec, self.n_params = spec, n_params
        channels, *sites = spec.shape
        self.net = net((latent,), (n_params * channels, *sites), context)
        self.bias = nn.Parameter(torch.zeros(n_params, spec.dim))

    def params(self, z: Tensor, context: Tensor | None) -> Tensor:
        """z (B, k, d), context (B, C) -> (B, k, P, D), in fp32 though autocast may have run the network in less."""
        B, k, _ = z.shape
        if context is not None and k > 1:
            context = context.repeat_interleave(k, 0)
        out = self.net(z.flatten(0, 1), context).to(self.bias.dtype)
        return out.view(B, k, self.n_params, self.spec.dim).add_(self.bias)

    def log_prob(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x | z_i, y) of k codes a row: x (B, *), z (B, k, d) -> (B, k) nats."""
        return self._log_prob(x.flatten(1), self.params(z, context))

    def mean(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """E[x | z], floats also where x is an integer: (n, d) -> (n, *)."""
        return self._mean(self.params(z[:, None], context)[:, 0]).view(-1, *self.spec.shape)

    def sample(self, z: Tensor, context: Tensor | None = None, *, noise: Noise) -> Tensor:
        """One x a code: (n, d) -> (n, *)."""
        return self._sample(self.params(z[:, None], context)[:, 0], noise).view(-1, *self.spec.shape)

    def initialize(self, x: Tensor) -> None:
        """Set the bias from training examples x (N, *)."""
        self.bias.data.copy_(self._marginal(x.flatten(1)))

    @abstractmethod
    def _log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """x (B, D), params (B, k, P, D) -> (B, k)."""

    @abstractmethod
    def _mean(self, params: Tensor) -> Tensor:
        """(n, P, D) -> (n, D)."""

    @abstractmethod
    def _sample(self, params: Tensor, noise: Noise) -> Tensor:
        """(n, P, D) -> (n, D)."""

    @abstractmethod
    def _marginal(self, x: Tensor) -> Tensor:
        """Examples (N, D) -> the parameters (P, D) of their marginal distribution."""


class Bernoulli(Decoder):
    """P(x_j = 1) = sigma(l_j): for bits, and for nothing else."""

    supports = ("binary",)

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int) -> None:
        super().__init__(spec, net, latent, context, 1)

    def _log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        logits = params[:, :, 0]
        return (logits * x[:, None] - F.softplus(logits)).sum(2)

    def _mean(self, params: Tensor) -> Tensor:
        return params[:, 0].sigmoid()

    def _sample(self, params: Tensor, noise: Noise) -> Tensor:
        p = params[:, 0].sigmoid()
        return (noise.rand(*p.shape) < p).to(p)

    def _marginal(self, x: Tensor) -> Tensor:
        p = (x.sum(0) + 1) / (len(x) + 2)
        return p.logit()[None]


class Categorical(Decoder):
    """K probabilities for each coordinate, of any shape: P(x_j = c) = softmax(l_j)_c."""

    supports = ("binary", "levels", "categorical")

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int) -> None:
        assert spec.support.levels is not None
        super().__init__(spec, net, latent, context, spec.support.levels)

    def _log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        chosen = x.long()[:, None, None].expand(-1, params.shape[1], 1, -1)
        return (params.gather(2, chosen).squeeze(2) - params.logsumexp(2)).sum(2)

    def _mean(self, params: Tensor) -> Tensor:
        if self.spec.support.kind == "categorical":
            return params.argmax(1).to(params)
        values = torch.arange(self.n_params, device=params.device, dtype=params.dtype)
        return torch.einsum("nkd,k->nd", params.softmax(1), values)

    def _sample(self, params: Tensor, noise: Noise) -> Tensor:
        chosen = _pick(params, noise)
        return chosen.to(params) if self.spec.support.kind == "binary" else chosen

    def _marginal(self, x: Tensor) -> Tensor:
        counts = F.one_hot(x.long(), self.n_params).sum(0).T + 0.1
        return (counts / counts.sum(0)).log()


class Logistic(Decoder):
    """A mixture of discretised logistics for each coordinate: few parameters for many ordered levels.

    Args:
        components: M, the number of logistics.

    References:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++: improving the PixelCNN with discretized logistic mixture
        likelihood and other modifications", 2017.
    """

    supports = ("levels",)

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int, components: int = 1) -> None:
        if components < 1:
            raise ValueError(f"model.components={components}: at least 1")
        super().__init__(spec, net, latent, context, 3 * components)
        assert spec.support.levels is not None
        self.levels = spec.support.levels

    def _mixture(self, params: Tensor) -> LogisticMixture:
        """(..., 3M, D) -> a mixture for each coordinate (..., D)."""
        logits, mean, log_scale = params.movedim(-2, -1).chunk(3, -1)
        # between e^-9 and e^5 of the range [-1, 1]: a logistic narrower than that is a point, wider ones are all flat
        return LogisticMixture(self.levels, logits.log_softmax(-1), mean, 7 * torch.tanh(log_scale / 7) - 2)

    def _log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        return self._mixture(params).log_prob(x[:, None]).sum(2)

    def _mean(self, params: Tensor) -> Tensor:
        p = self._mixture(params).logits().exp()
        return p @ torch.arange(self.levels, device=p.device, dtype=p.dtype)

    def _sample(self, params: Tensor, noise: Noise) -> Tensor:
        return _pick(self._mixture(params).logits().movedim(-1, 1), noise)

    def _marginal(self, x: Tensor) -> Tensor:
        v = 2 * x.to(self.bias) / (self.levels - 1) - 1
        std, mean = torch.std_mean(v, 0, correction=0)
        # the logistic's standard deviation is s pi / sqrt 3; a constant pixel gets a width of a bin
        log_scale = (std.clamp(min=1 / (self.levels - 1)) * math.sqrt(3) / math.pi).log() + 2
        M = self.n_params // 3
        apart = torch.linspace(-1, 1, M, device=x.device).to(std) if M > 1 else std.new_zeros(1)
        means = mean + apart[:, None] * std
        raw = 7 * torch.atanh((log_scale / 7).clamp(-0.99, 0.99))
        return torch.cat([torch.zeros_like(means), means, raw.expand(M, -1)])


class Gaussian(Decoder):
    """x_j ~ N(m_j(z), s_j^2).

    Args:
        variance: ``shared`` (one s, learned), ``pixel`` (one for each coordinate) or ``network`` (of z).

    Raises:
        ValueError: an unknown kind of variance.
    """

    supports = ("real",)

    def __init__(self, spec: Spec, net: NetworkFactory, latent: int, context: int, variance: str = "shared") -> None:
        if variance not in ("shared", "pixel", "network"):
            raise ValueError(f"model.variance={variance}: shared, pixel or network")
        super().__init__(spec, net, latent, context, 2 if variance == "network" else 1)
        self.variance = variance
        self.log_std = nn.Parameter(torch.zeros(1 if variance != "pixel" else spec.dim))

    def _log_std(self, params: Tensor) -> Tensor:
        """(..., P, D) -> broadcasts with (..., D); what the network says of it is bounded to e^-5 .. e^5."""
        if self.variance != "network":
            return self.log_std
        return self.log_std + 5 * torch.tanh(params[..., 1, :] / 5)

    def _log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        log_std = self._log_std(params)
        away = (x[:, None] - params[:, :, 0]) * (-log_std).exp()
        return -(0.5 * away.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(2)

    def _mean(self, params: Tensor) -> Tensor:
        return params[:, 0]

    def _sample(self, params: Tensor, noise: Noise) -> Tensor:
        mean = params[:, 0]
        return mean + self._log_std(params).exp() * noise.randn(*mean.shape).to(mean)

    def _marginal(self, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(x, 0, correction=0)
        width = std.clamp(min=1e-3 * float(std.mean())) if self.variance == "pixel" else std.square().mean().sqrt()
        self.log_std.data.copy_(width.log())
        return torch.stack([mean, torch.zeros_like(mean)])[: self.n_params]


def _pick(logits: Tensor, noise: Noise) -> Tensor:
    """One value of each coordinate by inversion: logits (n, K, D) -> (n, D) in 0..K-1."""
    p = logits.double().softmax(1) if logits.device.type != "mps" else logits.softmax(1)
    u = noise.rand(logits.shape[0], logits.shape[2]).to(p)[:, None]
    return (p.cumsum(1)[:, :-1] <= u).sum(1)


DECODERS: dict[str, type[Decoder]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "logistic": Logistic,
    "gaussian": Gaussian,
}
AUTO = {"binary": "bernoulli", "levels": "logistic", "categorical": "categorical", "real": "gaussian"}


def make_decoder(
    name: str, spec: Spec, net: NetworkFactory, latent: int, context: int, *, components: int, variance: str
) -> Decoder:
    """The decoder that a config names, or the one that suits the data's support (``auto``).

    Raises:
        ValueError: there is none of this name, or it gives this data no probability.
    """
    kind = spec.support.kind
    name = AUTO[kind] if name == "auto" else name
    if name not in DECODERS:
        raise ValueError(f"model.decoder={name}: auto, {', '.join(DECODERS)}")
    fitting = [other for other, decoder in DECODERS.items() if kind in decoder.supports]
    if name not in fitting:
        raise ValueError(
            f"model.decoder={name} is no distribution of {spec.support} data: {' or '.join(fitting)}"
            + (", or binarize the data" if name == "bernoulli" else "")
        )
    if name == "logistic":
        return Logistic(spec, net, latent, context, components)
    if name == "gaussian":
        return Gaussian(spec, net, latent, context, variance)
    return (Bernoulli if name == "bernoulli" else Categorical)(spec, net, latent, context)


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
