"""Energies of a few discrete coordinates, of which every state is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.spec import Spec, Support
from gencli.kernels.base import Energy, Info, Kernel
from gencli.kernels.gibbs import Sites
from gencli.models.base import Unnormalized


def discrete(text: str, dim: int) -> Spec:
    return Spec((dim,), Support.parse(text))


def states(spec: Spec) -> Tensor:
    """All of x, (K^D, D)."""
    every = torch.cartesian_prod(*[torch.arange(spec.support.size)] * spec.dim).view(-1, spec.dim)
    return every.float() if spec.support.kind == "binary" else every


class Pairs(Unnormalized):
    """E(x) = -b . h - sum_{d < e} h_d J_de h_e with h the one-hot values other than 0: minimal, in fp64.

    Args:
        spec: of discrete vectors.
        scale: deviation of the parameters.
        seed: of them.
    """

    supports = ("binary", "levels", "categorical")

    def __init__(self, spec: Spec, scale: float = 0.7, seed: int = 0) -> None:
        super().__init__(spec)
        generator, D, K = torch.Generator().manual_seed(seed), spec.dim, spec.support.size
        pairs = D * (D - 1) // 2
        self.b = nn.Parameter(scale * torch.randn(D, K - 1, generator=generator, dtype=torch.float64))
        self.J = nn.Parameter(scale * torch.randn(pairs, K - 1, K - 1, generator=generator, dtype=torch.float64))

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = F.one_hot(x.long(), self.spec.support.size)[..., 1:].to(self.b)
        d, e = torch.triu_indices(self.spec.dim, self.spec.dim, 1)
        return -(h * self.b).sum((1, 2)) - torch.einsum("npi,pij,npj->n", h[:, d], self.J, h[:, e])

    def log_p(self) -> Tensor:
        """log p of all states, differentiable."""
        return (-self.energy(states(self.spec))).log_softmax(0)

    def log_partition(self) -> Tensor:
        return (-self.energy(states(self.spec))).logsumexp(0)


def spread(log_p: Tensor, n: int) -> Tensor:
    """Indices of n states that have all their shares of n, but for 1/n: samples without the noise."""
    ends = log_p.detach().exp().cumsum(0)
    return torch.searchsorted(ends, (torch.arange(n, dtype=ends.dtype) + 0.5) / n * ends[-1])


class Exact(Kernel[Sites]):
    """Chains that forget where they were: every step is a sample of an enumerable energy, without noise."""

    moves = ("binary", "levels", "categorical")

    def __init__(self, spec: Spec) -> None:
        self.states = states(spec)

    def init(self, energy: Energy, x: Tensor) -> Sites:
        return Sites(x)

    def step(self, energy: Energy, state: Sites, noise: Noise) -> tuple[Sites, Info]:
        x = self.states[spread((-energy(self.states)).log_softmax(0), len(state.x))]
        return Sites(x), Info(x, energy(x))
