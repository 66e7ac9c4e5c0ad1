"""Cluster moves of energies over pairs: sites that a coupling holds together change together.

Take a pair's energy t(d) as a function of the difference d = (x_i - x_j) mod K only; what else it holds is a matter of
its two sites alone. Given x, a bond is set on the pair with probability

    p(d) = 1 - exp(t(d) - max t),

that is 1 - exp(-2 J) for spins that are alike. What bonds hold together is a cluster. Its sites may all be shifted by
one number, x -> (x + f) mod K, which leaves every difference within it, and so every bond, as it is.

References:
    Swendsen and Wang, "Nonuniversal critical dynamics in Monte Carlo simulations", 1987.
    Wolff, "Collective Monte Carlo updating for spin systems", 1989.
    Edwards and Sokal, "Generalization of the Fortuin-Kasteleyn-Swendsen-Wang representation", 1988.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.lattice import clusters
from gencli.core.noise import Noise
from gencli.kernels.base import Energy, Info, Kernel
from gencli.kernels.energy import Pairs
from gencli.kernels.gibbs import Sites


def by_difference(pairs: Pairs) -> Pairs:
    """The same energy, up to a constant, with tables (.., E, K) of t(d), d = (x_i - x_j) mod K.

    A table t(k, l) is u(k) + v(l) + g(k, l), where the rows and columns of g have the mean 0; u and v go to the sites.

    Raises:
        UsageError: a g(k, l) does not depend on k - l alone.
    """
    unary, edges, tables = pairs
    K = tables.shape[-1]
    u, v = tables.mean(-1) - tables.mean((-2, -1))[..., None], tables.mean(-2)
    g = tables - u[..., :, None] - v[..., None, :]
    index = (torch.arange(K, device=g.device)[:, None] - torch.arange(K, device=g.device)) % K
    t = torch.stack([g[..., index == d].mean(-1) for d in range(K)], -1)
    if not torch.allclose(t[..., index], g, rtol=1e-4, atol=1e-5):
        raise UsageError("kernel: clusters need couplings that depend on x_i - x_j mod K alone; take kernel=gibbs")
    sites = unary.expand(*tables.shape[:-3], *unary.shape[-2:])
    sites = sites.index_add(-2, edges[:, 0], u).index_add(-2, edges[:, 1], v)
    return Pairs(sites, edges, t)


def holding(pairs: Pairs, x: Tensor) -> Tensor:
    """p(d) of the bond on each pair, (n, E), given x (n, D) integers; pairs are as ``by_difference`` gives them."""
    t = pairs.tables
    p = -torch.expm1(t - t.amax(-1, keepdim=True))
    difference = (x[:, pairs.edges[:, 0]] - x[:, pairs.edges[:, 1]]) % t.shape[-1]
    return p.expand(len(x), *p.shape[-2:]).gather(2, difference[..., None])[..., 0]


def shifted(pairs: Pairs, x: Tensor, cluster: Tensor) -> Tensor:
    """Energy of the sites of each cluster, if they are shifted by f = 0..K-1: (n, D, K) at the first site of each."""
    K = pairs.tables.shape[-1]
    to = (x[..., None] + torch.arange(K, device=x.device)) % K
    single = pairs.unary.expand(len(x), -1, -1).gather(2, to)
    return torch.zeros_like(single).scatter_add(1, cluster[..., None].expand_as(single), single)


@dataclass(frozen=True, kw_only=True)
class Clusters(Kernel[Sites]):
    """What both cluster kernels share: their state, and the energy that they need."""

    moves = ("binary", "levels", "categorical")
    over_pairs = True

    def init(self, energy: Energy, x: Tensor) -> Sites:
        return Sites(x.detach())

    def pairs(self, energy: Energy) -> Pairs:
        """The energy over pairs.

        Raises:
            UsageError: it is not known to be one.
        """
        if energy.pairs is None:
            raise UsageError("kernel: clusters need an energy over pairs, such as model=ising; take kernel=gibbs")
        return by_difference(energy.pairs())

    def clusters(self, pairs: Pairs, x: Tensor, noise: Noise) -> Tensor:
        """The first site of each site's cluster, (n, D), by new bonds given x (n, D)."""
        joined = noise.rand(len(x), len(pairs.edges)).to(pairs.tables) < holding(pairs, x)
        return clusters(joined, pairs.edges, x.shape[1])


@dataclass(frozen=True, kw_only=True)
class SwendsenWang(Clusters):
    """Every cluster is shifted by an f that is drawn from its conditional law: of spins without a field, by a coin.

    Couplings of any sign will do; only where they agree with each other do clusters become as large as the order that
    they have to move. Under a field, large clusters seldom move.
    """

    @torch.no_grad()
    def step(self, energy: Energy, state: Sites, noise: Noise) -> tuple[Sites, Info]:
        pairs, x = self.pairs(energy), state.x.flatten(1).long()
        cluster = self.clusters(pairs, x, noise)
        p = (-shifted(pairs, x, cluster)).softmax(-1)
        u = noise.rand(*x.shape).to(p)
        f = (u[..., None] > p.cumsum(-1)[..., :-1]).sum(-1).gather(1, cluster)
        new = ((x + f) % p.shape[-1]).view_as(state.x).to(state.x.dtype)
        return Sites(new), Info(new, energy)


@dataclass(frozen=True, kw_only=True)
class Wolff(Clusters):
    """The cluster of a random site is shifted by a random f > 0; a field accepts or refuses.

    All bonds of a chain are drawn, those of the one cluster among them, so that a step costs as much as one of
    ``swendsen_wang``, which moves more; ``cluster`` is the mean share of the sites that a step moves, or tries to.
    """

    @torch.no_grad()
    def step(self, energy: Energy, state: Sites, noise: Noise) -> tuple[Sites, Info]:
        pairs, x = self.pairs(energy), state.x.flatten(1).long()
        n, D = x.shape
        cluster = self.clusters(pairs, x, noise)
        u = noise.rand(n, 3).to(pairs.tables)
        K = pairs.tables.shape[-1]
        seed = (u[:, :1] * D).long().clamp(max=D - 1)
        f = 1 + (u[:, 1:2] * (K - 1)).long().clamp(max=K - 2)
        first = cluster.gather(1, seed)
        cost = shifted(pairs, x, cluster).gather(1, first[..., None].expand(n, 1, K))[:, 0]
        accept = (cost[:, :1] - cost.gather(1, f)).exp().clamp(max=1)
        chosen = cluster == first
        moved = torch.where(chosen & (u[:, 2:] < accept), (x + f) % K, x)
        new = moved.view_as(state.x).to(state.x.dtype)
        rates = {"acceptance": accept[:, 0], "cluster": chosen.float().mean(1)}
        return Sites(new), Info(new, energy, rates=rates)
