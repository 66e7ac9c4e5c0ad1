"""Hierarchical variational autoencoders: L stochastic layers.

    p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L),    q(z | x) = q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1})

All conditionals of z are diagonal normals and p(z_L) = N(0, I). With two layers of 100 and 50 and the tanh networks of
the paper this is the IWAE's 784-200-200-100-100-100-50.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from gencli.core import sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, Range
from gencli.core.spec import Spec
from gencli.core.tensors import LOG_2PI, frozen
from gencli.models.base import DataInitialized, Elbo, LatentVariable
from gencli.models.latent.decoders import DecoderName, Inputs, Variance, make_decoder
from gencli.nn.base import NetworkFactory
from gencli.nn.mlp import MLP, Activation

Moments = tuple[Tensor, Tensor]
"""Mean and log standard deviation of a diagonal normal, of one shape."""


class HVAE(LatentVariable, DataInitialized):
    """L stochastic layers, inferred upwards and generated downwards.

    A code (``encode``, ``decode``) is what the prior's noise would have to be, e_l = (z_l - m_l) / s_l with the moments
    of p(z_l | z_{l+1}), the top layer first: every coordinate is standard normal a priori and moves x, and
    decode(encode(x)) goes through the very z_1 that was inferred. ``encode`` follows the means of q.

    Args:
        spec: what one example is.
        net: makes the networks between x and z_1.
        conditional: model p(x given y): the networks between x and z_1 see y.
        context: network from y to features that all others see; None: they see y itself.
        latent: dimension of each layer, z_1 (next to the data) first; two or more. auto: two, z_1 of twice
            ``sizes.latents`` and at most D, z_2 of half as many.
        hidden: widths of the hidden layers of each network between z_l and z_{l+1}, l = 1 first. auto: two layers each,
            of ``sizes.width`` of z_l.
        activation: of those networks.
        decoder: ``bernoulli``, ``categorical``, ``logistic``, ``gaussian``, or ``auto``: what suits the data's support.
        components: logistics in a logistic decoder's mixture.
        variance: of a Gaussian decoder: ``shared``, ``pixel`` or ``network``.

    Raises:
        ValueError: hidden layers for another number of layers, or an impossible decoder.

    References:
        Rezende, Mohamed and Wierstra, "Stochastic backpropagation and approximate inference in deep generative models",
        2014; Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016.
        Bauer and Mnih, "Generalized doubly reparameterized gradient estimators", 2021 (layers of q).
    """

    supports = ("real", "binary", "levels", "categorical")
    shapes = ("vector", "image")

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        latent: Auto[Annotated[Sequence[Count], Range(low=2)]] = "auto",
        hidden: Auto[Sequence[Sequence[Count]]] = "auto",
        activation: Activation = "tanh",
        decoder: DecoderName = "auto",
        components: Count = 3,
        variance: Variance = "shared",
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        first = min(2 * sizes.latents(spec.dim), spec.dim)
        layers: Sequence[int] = sizes.settle(self, "latent", latent, [first, (first + 1) // 2])
        own = [[sizes.width(low)] * 2 for low in layers[:-1]]
        between: Sequence[Sequence[int]] = sizes.settle(self, "hidden", hidden, own)
        if len(between) != len(layers) - 1:
            raise ValueError(
                f"model.hidden={[list(h) for h in between]}: a list of widths for each of the {len(layers) - 1} steps "
                f"between the layers of model.latent"
            )
        self.latent, self.latent_dim, self.layers = tuple(layers), sum(layers), len(layers)
        self.inputs = Inputs(spec)
        self.encoder = net(self.inputs.shape, (2 * layers[0],), self.context_dim)
        self.decoder = make_decoder(
            decoder, spec, net, layers[0], self.context_dim, components=components, variance=variance
        )
        steps = list(zip(pairwise(layers), between, strict=True))
        self.up = nn.ModuleList(
            MLP((low,), (2 * high,), 0, hidden=widths, activation=activation) for (low, high), widths in steps
        )
        self.down = nn.ModuleList(
            MLP((high,), (2 * low,), 0, hidden=widths, activation=activation) for (low, high), widths in steps
        )

    def _context(self, y: Tensor | None) -> Tensor | None:
        context = self.context(y)
        return None if context is None else context.to(self.decoder.bias.dtype)

    def _moments(self, net: nn.Module, z: Tensor) -> Moments:
        """(B, k, d) -> mean and log standard deviation (B, k, d') of the next layer."""
        out = net(z.flatten(0, 1)).to(self.decoder.bias.dtype).view(*z.shape[:2], -1)
        mean, log_std = out.chunk(2, 2)
        return mean, log_std

    def _prior(self, z: Sequence[Tensor]) -> list[Moments]:
        """p of each layer, z_1's first, given the layers z (B, k, d_l) above."""
        top = torch.zeros_like(z[-1])
        return [*(self._moments(net, above) for net, above in zip(self.down, z[1:], strict=True)), (top, top)]

    def infer(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.encoder(self.inputs(x), self._context(y)).to(self.decoder.bias.dtype).chunk(2, 1)

    def _sample_q(self, inferred: tuple[Tensor, ...], eps: Tensor) -> tuple[list[Tensor], list[Moments]]:
        """Noise (B, k, sum d_l) -> the layers z_l (B, k, d_l) and the moments of q they come from."""
        z: list[Tensor] = []
        moments: list[Moments] = []
        for layer, noise in enumerate(eps.split(self.latent, 2)):
            if layer == 0:
                mean, log_std = (t[:, None] for t in inferred)
            else:
                mean, log_std = self._moments(self.up[layer - 1], z[-1])
            moments.append((mean, log_std))
            z.append(torch.addcmul(mean, log_std.exp(), noise))
        return z, moments

    def log_weights(
        self,
        x: Tensor,
        k: int,
        y: Tensor | None = None,
        *,
        noise: Noise,
        inferred: tuple[Tensor, ...] | None = None,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        inferred = inferred or self.infer(x, y)
        z, q = self._sample_q(inferred, noise.randn(len(x), k, self.latent_dim).to(inferred[0]))
        if through is not None:
            # the densities see this copy of z_l, the samples above it z_l itself: each dependence counts once
            z = [through(layer) for layer in z]
            with frozen(self.up):
                mean, log_std = (t.detach()[:, None] for t in inferred)
                q = [(mean, log_std), *(self._moments(net, below) for net, below in zip(self.up, z, strict=False))]
        log_w = self.decoder.log_prob(x.to(z[0]), z[0], self._context(y))
        for layer, of_p, of_q in zip(z, self._prior(z), q, strict=True):
            log_w = log_w + _log_normal(layer, of_p).sum(2) - _log_normal(layer, of_q).sum(2)
        return log_w

    def elbo(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Elbo:
        """The top layer's rate is in closed form given the layer below, that of the others log q - log p."""
        inferred = self.infer(x, y)
        z, q = self._sample_q(inferred, noise.randn(len(x), 1, self.latent_dim).to(inferred[0]))
        distortion = -self.decoder.log_prob(x.to(z[0]), z[0], self._context(y))[:, 0]
        rates = [
            _log_normal(layer, of_q) - _log_normal(layer, of_p)
            for layer, of_p, of_q in zip(z[:-1], self._prior(z)[:-1], q[:-1], strict=True)
        ]
        mean, log_std = q[-1]
        rates.append(0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std)
        return Elbo(distortion, torch.cat(rates, 2)[:, 0])

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        inferred = self.infer(x, y)
        z, _ = self._sample_q(inferred, inferred[0].new_zeros(len(x), 1, self.latent_dim))
        codes = [(layer - mean) * (-log_std).exp() for layer, (mean, log_std) in zip(z, self._prior(z), strict=True)]
        return torch.cat(codes[::-1], 2)[:, 0]

    def _generate(self, code: Tensor) -> Tensor:
        """Standard normal noise (n, sum d_l), the top layer's first -> z_1 (n, d_1)."""
        top, *rest = code[:, None].split(self.latent[::-1], 2)
        z = top
        for net, noise in zip(reversed(self.down), rest, strict=True):
            mean, log_std = self._moments(net, z)
            z = mean + log_std.exp() * noise
        return z[:, 0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decoder.mean(self._generate(z), self._context(y))

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        """x ~ p(x | z_1), z ~ p(z); temperature is that of z."""
        code = noise.randn(n, self.latent_dim).to(self.decoder.bias) * temperature
        return self.decoder.sample(self._generate(code), self._context(y), noise=noise)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.inputs.initialize(x)
        self.decoder.initialize(x)


def _log_normal(z: Tensor, moments: Moments) -> Tensor:
    """log N(z; m, s^2) of each coordinate."""
    mean, log_std = moments
    return -0.5 * (((z - mean) * (-log_std).exp()).square() + LOG_2PI) - log_std
