"""An energy as the prior of codes: p(z) = exp(-f(z)) N(z; 0, I) / Z, of which Z is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Ahead, Noise
from gencli.core.options import Count, Positive
from gencli.core.spec import Spec, Support
from gencli.core.tensors import LOG_2PI, frozen
from gencli.kernels.energy import Energy
from gencli.kernels.hmc import HMC
from gencli.models.base import DirectSampling, ExactLikelihood, Model, Unnormalized
from gencli.models.latent.priors import Prior
from gencli.nn.mlp import MLP, Activation

LEAPS = 5
"""Leapfrog steps of a transition."""


@dataclass(frozen=True)
class EnergyOptions:
    """Of an energy of codes.

    Args:
        hidden: widths of the hidden layers of f.
        activation: of f.
        steps: transitions of the chains that draw z, of which the first half adapts their step size.
        step_size: the first one.
    """

    hidden: Sequence[Count] = (200, 200, 200)
    activation: Activation = "silu"
    steps: Count = 100
    step_size: Positive = 0.3


class StandardBase(ExactLikelihood, DirectSampling):
    """N(0, I), which the energy tilts."""

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -0.5 * (x.square().sum(1) + self.spec.dim * LOG_2PI)

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        return noise.randn(n, self.spec.dim) * temperature


class EnergyPrior(Prior, Unnormalized):
    """log p(z) = -f(z) + log N(z; 0, I) - log Z, with f a network that starts at 0: p(z) starts as the standard normal.

    Z is finite whatever the parameters are where f grows no faster than |z|, as with every activation here. Samples are
    the ends of chains of Hamiltonian Monte Carlo from N(0, I), on E(z) / T^2 at a temperature T, which is that of a
    standard normal where f is 0.

    Args:
        dim: d.
        options: of f and of the chains.

    References:
        Pang, Han, Nijkamp, Zhu and Wu, "Learning latent space energy-based prior model", 2020.
    """

    def __init__(self, dim: int, options: EnergyOptions) -> None:
        super().__init__(Spec((dim,), Support("real")))
        self.options, self.passes = options, LEAPS * options.steps
        self.net = MLP((dim,), (1,), 0, hidden=options.hidden, activation=options.activation)
        self.base = StandardBase(self.spec)

    @property
    def _like(self) -> Tensor:
        """Has the precision and device of f."""
        return next(self.net.parameters())

    def tilt(self, z: Tensor) -> Tensor:
        """f(z) in nats, (N, d) -> (N,); in fp32 under autocast too, because differences count."""
        with torch.autocast(z.device.type, enabled=False):
            return self.net(z.to(self._like)).squeeze(1)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.tilt(x) - self.base.log_prob(x)

    def log_prob(self, z: Tensor) -> Tensor:
        return -self.energy(z)

    def reference(self) -> Model | None:
        return self.base

    def sample(self, n: int, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.draw(n, noise, temperature)[0]

    def draw(self, n: int, noise: Noise, temperature: float = 1.0) -> tuple[Tensor, dict[str, float]]:
        """Ends (n, d) of chains, their number of steps and the mean acceptance of those after the warm-up.

        Raises:
            UsageError: no chain moves at temperature 0.
        """
        if temperature == 0:
            raise UsageError(
                "sampler.temperature=0: z comes from a chain (model.prior=energy), which needs more than 0"
            )
        energy = Energy(self.energy).scaled(temperature**-2)
        kernel, ahead = HMC(leaps=LEAPS, step_size=self.options.step_size), Ahead(noise)
        z = temperature * noise.randn(n, self.spec.dim).to(self._like)
        steps, warmup = self.options.steps, self.options.steps // 2
        rates = []
        with frozen(self):
            state = kernel.warmed(energy, z, warmup, ahead)
            for _ in range(steps - warmup):
                state, info = kernel.step(energy, state, ahead)
                rates.append(info.rates["acceptance"].mean())
        return state.x, {"latent_chain_steps": float(steps), "latent_acceptance": float(torch.stack(rates).mean())}
