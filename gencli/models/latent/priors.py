"""Priors p(z) of a latent variable model that are normalised, and what all priors are."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.core.options import Count, Natural
from gencli.core.spec import Spec, Support
from gencli.core.tensors import LOG_2PI
from gencli.models.flows.coupling import AffineCoupling
from gencli.nn.mlp import MLP


@dataclass(frozen=True)
class FlowOptions:
    """Of a flow on z.

    Args:
        transforms: their number.
        hidden: width of each hidden layer of their networks.
        features: of x, which the transforms of a posterior see.
    """

    transforms: Natural = 2
    hidden: Sequence[Count] = (256,)
    features: Natural = 64


PriorName = Literal["standard", "mixture", "vamp", "flow", "energy"]

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What an encoder's network reads, (N, *), -> mean and log standard deviation of q(z | x), (N, d) each."""


class Prior(nn.Module):
    """A density of codes z: normalised, or ``Unnormalized`` beside, and then known up to log Z."""

    passes: int = 0
    """Sequential network passes before z is drawn; of chains."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """(N, d) -> (N,) nats; of an unnormalised one log p(z) + log Z."""

    @abstractmethod
    def sample(self, n: int, noise: Noise, temperature: float = 1.0) -> Tensor:
        """(n, d); temperature scales the standard deviation of the base noise."""

    def draw(self, n: int, noise: Noise, temperature: float = 1.0) -> tuple[Tensor, dict[str, float]]:
        """``sample``, and what is to be said of how z was drawn; nothing where draws are independent and exact."""
        return self.sample(n, noise, temperature), {}

    def initialize(self, inputs: Tensor) -> None:
        """Set what starts from training examples, as the encoder's network reads them (N, *)."""


class StandardNormal(Prior):
    """N(0, I).

    Args:
        dim: d.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(1) + self.dim * LOG_2PI)

    def sample(self, n: int, noise: Noise, temperature: float = 1.0) -> Tensor:
        return noise.randn(n, self.dim) * temperature


class _Normals(Prior):
    """A mixture of K diagonal normals with equal weights."""

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations, (K, d) each."""

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            mean, log_std = self.moments()
        # |z - m|^2 / s^2 as matrix products, whose terms cancel where a component is narrow: of fp32 too little is left
        where = torch.device("cpu") if z.device.type == "mps" else z.device  # which has no fp64
        found = _log_mixture(*(part.to(where, torch.float64) for part in (z, mean, log_std)))
        return found.to(z.device, torch.promote_types(z.dtype, torch.float32))

    def sample(self, n: int, noise: Noise, temperature: float = 1.0) -> Tensor:
        mean, log_std = self.moments()
        u = noise.rand(n).to(mean.device)
        chosen = (u * len(mean)).long()
        return mean[chosen] + log_std[chosen].exp() * noise.randn(n, mean.shape[1]).to(mean) * temperature


def _log_mixture(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log of the mean density at z (n, d) of K normals, (n,); ``mean`` and ``log_std`` (K, d)."""
    precision = (-2 * log_std).exp()
    centre = mean.mean(0).detach()
    z, mean = z - centre, mean - centre
    distance = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(1)
    log_normal = -0.5 * distance - log_std.sum(1) - 0.5 * z.shape[1] * LOG_2PI
    return log_normal.logsumexp(1) - math.log(len(mean))


class MixturePrior(_Normals):
    """K learned normals of equal weight; they start near the standard normal.

    Args:
        dim: d.
        components: K.
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(0.3 * torch.randn(components, dim))
        self.log_std = nn.Parameter(torch.zeros(components, dim))

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.log_std


class VampPrior(_Normals):
    """p(z) = 1/K sum_k q(z | u_k): the encoder's own posteriors at K learned pseudo-inputs u, started from data.

    Args:
        encoder: gives q; it belongs to the model and is no part of this module.
        shape: of what the encoder's network reads.
        components: K.

    References:
        Tomczak and Welling, "VAE with a VampPrior", 2018.
    """

    def __init__(self, encoder: Encoder, shape: Sequence[int], components: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.inputs = nn.Parameter(torch.randn(components, *shape))

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.encoder(self.inputs)

    def initialize(self, inputs: Tensor) -> None:
        self.inputs.data.copy_(inputs[torch.arange(len(self.inputs), device=inputs.device) % len(inputs)])


class FlowPrior(Prior):
    """A Real NVP on z; it starts as the standard normal.

    Args:
        dim: d, at least 2.
        couplings: number of couplings.
        hidden: width of each hidden layer of their networks.
    """

    def __init__(self, dim: int, couplings: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.flow = AffineCoupling(
            Spec((dim,), Support("real")),
            mixing="random",
            net=functools.partial(MLP, hidden=hidden),
            couplings=couplings,
            bound=3.0,  # that of runs, whose configs do not say it
        )

    def log_prob(self, z: Tensor) -> Tensor:
        return self.flow.log_prob(z)

    def sample(self, n: int, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.flow.sample(n, noise=noise, temperature=temperature)
