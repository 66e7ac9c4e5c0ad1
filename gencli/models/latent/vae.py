"""Variational autoencoders: one layer of latents.

    p(x) = integral p(x | z) p(z) dz,    z = mu(x) + s(x) eps ~ q(z | x), on top of which a flow may follow.

q may carry a flow (inverse autoregressive or Real NVP, those of ``models/flows``), the prior may be a mixture,
the VampPrior, a flow or an energy, and the decoder's distribution follows the data's support.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from gencli.core import options, sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count
from gencli.core.spec import Spec
from gencli.core.tensors import LOG_2PI, frozen
from gencli.models.base import DataInitialized, Elbo, Unnormalized
from gencli.models.flows.autoregressive import Autoregressive
from gencli.models.flows.coupling import Coupling
from gencli.models.flows.flow import Chain, Transform
from gencli.models.flows.layers import Permutation
from gencli.models.flows.maps import Affine
from gencli.models.latent.decoders import DecoderName, Inputs, Variance, make_decoder
from gencli.models.latent.energy_prior import EnergyOptions, EnergyPrior
from gencli.models.latent.priors import (
    FlowOptions,
    FlowPrior,
    MixturePrior,
    Prior,
    PriorName,
    StandardNormal,
    VampPrior,
)
from gencli.models.structure import PosteriorCodes
from gencli.nn.base import NetworkFactory
from gencli.nn.masked import MaskedMLP
from gencli.nn.mlp import MLP


class VAE(PosteriorCodes, DataInitialized):
    """One layer of d latents.

    Args:
        spec: what one example is.
        net: makes the encoder's and the decoder's network.
        conditional: model p(x given y): encoder and decoder see y, the prior does not.
        context: network from y to features that all others see; None: they see y itself.
        latent: d; auto: ``sizes.latents``.
        decoder: ``bernoulli``, ``categorical``, ``logistic``, ``gaussian``, or ``auto``: what suits the data's support.
        components: logistics in a logistic decoder's mixture.
        variance: of a Gaussian decoder: ``shared``, ``pixel`` or ``network``.
        posterior: ``gaussian`` (diagonal), or a flow on top of it: ``iaf`` or ``realnvp``.
        prior: ``standard``, ``mixture``, ``vamp``, ``flow`` (Real NVP) or ``energy``, which is unnormalised.
        prior_components: normals of a mixture, pseudo-inputs of a VampPrior.
        flow: of a posterior or prior that is one: ``transforms``, ``hidden`` and ``features``, as in ``FlowOptions``.
        energy: of a prior that is one: ``hidden``, ``activation``, ``steps``, ``step_size``, as in ``EnergyOptions``.

    Raises:
        ValueError: an impossible choice, such as a decoder that gives this data no probability.

    References:
        Kingma and Welling, "Auto-encoding variational Bayes", 2014.
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016.
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015.
        Tomczak and Welling, "VAE with a VampPrior", 2018.
        Pang, Han, Nijkamp, Zhu and Wu, "Learning latent space energy-based prior model", 2020.
    """

    supports = ("real", "binary", "levels", "categorical")
    shapes = ("vector", "image")
    compiled = ("infer", "decoder.log_prob")

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        context: NetworkFactory | None = None,
        latent: Auto[Count] = "auto",
        decoder: DecoderName = "auto",
        components: Count = 3,
        variance: Variance = "shared",
        posterior: Literal["gaussian", "iaf", "realnvp"] = "gaussian",
        prior: PriorName = "standard",
        prior_components: Count = 500,
        flow: Mapping[str, Any] | None = None,
        energy: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        if conditional and prior == "vamp":
            raise ValueError("model.prior=vamp: its pseudo-inputs have no y; standard, mixture, flow or energy")
        chosen = FlowOptions(
            **options.check(flow or {}, options.of_dataclass(FlowOptions), "model.flow", "a flow on z")
        )
        tilt = EnergyOptions(
            **options.check(energy or {}, options.of_dataclass(EnergyOptions), "model.energy", "an energy of z")
        )
        features = chosen.features if posterior != "gaussian" else 0
        latent = self.latent_dim = sizes.settle(self, "latent", latent, sizes.latents(spec.dim))
        self.inputs = Inputs(spec)
        self.encoder = net(self.inputs.shape, (2 * latent + features,), self.context_dim)
        self.decoder = make_decoder(
            decoder, spec, net, latent, self.context_dim, components=components, variance=variance
        )
        self.prior = self._make_prior(prior, prior_components, chosen, tilt)
        self.flow = None if posterior == "gaussian" else _posterior_flow(posterior, latent, chosen)

    def _make_prior(self, name: PriorName, components: int, flow: FlowOptions, energy: EnergyOptions) -> Prior:
        """The prior that a config names.

        Raises:
            ValueError: it needs more latents.
        """
        match name:
            case "standard":
                return StandardNormal(self.latent_dim)
            case "mixture":
                return MixturePrior(self.latent_dim, components)
            case "vamp":
                return VampPrior(self._moments, self.inputs.shape, components)
            case "energy":
                return EnergyPrior(self.latent_dim, energy)
        if self.latent_dim < 2:
            raise ValueError("model.prior=flow: a coupling flow needs model.latent of at least 2")
        return FlowPrior(self.latent_dim, flow.transforms, flow.hidden)

    @property
    def latent_energy(self) -> Unnormalized | None:
        return self.prior if isinstance(self.prior, Unnormalized) else None

    def _context(self, y: Tensor | None) -> Tensor | None:
        context = self.context(y)
        return None if context is None else context.to(self.decoder.bias.dtype)

    def _encoded(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """What the encoder's network reads -> mean and log standard deviation (B, d), features (B, F) if any."""
        d = self.latent_dim
        out = self.encoder(inputs, context).to(self.decoder.bias.dtype)
        return out.split([d, d] if self.flow is None else [d, d, out.shape[1] - 2 * d], 1)

    def _moments(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self._encoded(inputs)[:2]
        return mean, log_std

    def infer(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        return self._encoded(self.inputs(x), self._context(y))

    def _sample_q(self, inferred: tuple[Tensor, ...], k: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """k codes z a row (B, k, d) and log q(z | x) (B, k)."""
        mean, log_std = inferred[:2]
        eps = noise.randn(len(mean), k, self.latent_dim).to(mean)
        z = torch.addcmul(mean[:, None], log_std.exp()[:, None], eps)
        log_q = -(0.5 * (eps.square().sum(2) + self.latent_dim * LOG_2PI) + log_std.sum(1)[:, None])
        if self.flow is not None:
            z, log_det = self.flow(z.flatten(0, 1), inferred[2].repeat_interleave(k, 0))
            z, log_q = z.view(eps.shape), log_q - log_det.view(-1, k)
        return z, log_q

    def _log_q(self, z: Tensor, inferred: tuple[Tensor, ...]) -> Tensor:
        """log q(z | x) of given codes (B, k, d) -> (B, k), with q's parameters held constant."""
        mean, log_std, *features = (t.detach() for t in inferred)
        if self.flow is None:
            base, log_det = z, z.new_zeros(())
        else:
            context = features[0].repeat_interleave(z.shape[1], 0)
            with frozen(self.flow):
                flat = self.flow.inverse(z.flatten(0, 1), context)
                base, log_det = flat.view(z.shape), self.flow(flat, context)[1].view(z.shape[:2])
        away = (base - mean[:, None]) * (-log_std).exp()[:, None]
        square = away.square().sum(2) + self.latent_dim * LOG_2PI
        return -(0.5 * square + log_std.sum(1)[:, None]) - log_det

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
        z, log_q = self._sample_q(inferred, k, noise)
        if through is not None:
            z = through(z)
            log_q = self._log_q(z, inferred)
        log_p = self.prior.log_prob(z.flatten(0, 1)).view(-1, k)
        return self.decoder.log_prob(x.to(z), z, self._context(y)) + log_p - log_q

    def elbo(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Elbo:
        inferred = self.infer(x, y)
        z, log_q = self._sample_q(inferred, 1, noise)
        distortion = -self.decoder.log_prob(x.to(z), z, self._context(y))[:, 0]
        if self.flow is None and isinstance(self.prior, StandardNormal | EnergyPrior):
            mean, log_std = inferred
            rate = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
            if isinstance(self.prior, EnergyPrior):  # KL(q || N(0, I)) + E_q f
                rate = torch.cat([rate, self.prior.tilt(z[:, 0])[:, None]], 1)
            return Elbo(distortion, rate)
        return Elbo(distortion, log_q - self.prior.log_prob(z[:, 0])[:, None])

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of a Gaussian q(z | x); with a flow on top, where the flow takes the mean of its base."""
        mean, _, *features = self.infer(x, y)
        return mean if self.flow is None else self.flow(mean, features[0])[0]

    def posterior_codes(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        return self._sample_q(self.infer(x, y), 1, noise)[0][:, 0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decoder.mean(z, self._context(y))

    def codes(self, n: int, noise: Noise) -> Tensor:
        return self.prior.sample(n, noise).to(self.decoder.bias)

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        """x ~ p(x | z), z ~ p(z); temperature is that of z."""
        return self.draw(n, y, noise=noise, temperature=temperature)[0]

    def draw(
        self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0
    ) -> tuple[Tensor, dict[str, float]]:
        z, said = self.prior.draw(n, noise, temperature)
        return self.decoder.sample(z.to(self.decoder.bias), self._context(y), noise=noise), said

    @property
    def passes(self) -> int:
        return self.prior.passes + 1

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.inputs.initialize(x)
        self.decoder.initialize(x)
        self.prior.initialize(self.inputs(x))


def _posterior_flow(kind: str, dim: int, flow: FlowOptions) -> Transform:
    """The flow from the base N(mu, s^2) of q to its z, given features of x: forward is the direction that samples.

    It starts as the identity, up to the order of the coordinates.

    Raises:
        ValueError: too few dimensions for a coupling.
    """
    if kind == "realnvp" and dim < 2:
        raise ValueError("model.posterior=realnvp: a coupling flow needs model.latent of at least 2")
    parts: list[Transform] = []
    for i in range(flow.transforms):
        if i:
            parts.append(Permutation(range(dim - 1, -1, -1)))
        if kind == "iaf":
            parts.append(Autoregressive(MaskedMLP(dim, 2, flow.features, hidden=flow.hidden), Affine()))
        else:
            parts.append(Coupling((dim,), functools.partial(MLP, hidden=flow.hidden), Affine(), flow.features))
    return Chain(parts)
