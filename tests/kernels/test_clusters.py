"""Cluster kernels: their transition matrices by enumeration of all bonds, and their steps against these."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from energies import noise, wavy
from lattices import ising, potts, probabilities, states
from scipy.stats import chisquare
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.ising import CRITICAL, torus
from gencli.core.lattice import clusters
from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.kernels.base import Energy
from gencli.kernels.clusters import SwendsenWang, Wolff, by_difference, holding, shifted
from gencli.kernels.energy import Pairs, weighted
from gencli.methods.chains import energy_of, require_kernel
from gencli.models.energy.rbm import RBM
from gencli.models.trained import Learned
from gencli.samplers.chain import Chain

MODELS = {
    "spins": lambda: ising((1, 2, 2), None, K=0.4),
    "spins with couplings of both signs and fields": lambda: ising(
        (1, 2, 3), boundary="free", couplings="edges", fields="sites"
    ),
    "a free row": lambda: ising((4,), boundary="free", fields="shared"),
    "three states": lambda: potts((1, 2, 2), couplings="edges", fields="sites"),
}
KERNELS = {"swendsen_wang": SwendsenWang(), "wolff": Wolff()}


def number(x: Tensor, K: int) -> Tensor:
    """Of a state (.., D) in the order of ``states``."""
    return (x * K ** torch.arange(x.shape[-1] - 1, -1, -1)).sum(-1)


@functools.cache
def matrix(which: str, name: str) -> Tensor:
    """P (S, S): the sum over all sets of bonds of their probability times what the kernel then does."""
    model, kernel = MODELS[which](), KERNELS[name]
    with torch.no_grad():
        pairs = by_difference(model.pairwise())
        every = states(model.spec).flatten(1).long()
        K, D, E, S = model.spec.support.size, every.shape[1], len(pairs.edges), len(every)
        P = torch.zeros(S, S, dtype=torch.float64)
        p = holding(pairs, every)
        for bonds in itertools.product((False, True), repeat=E):
            joined = torch.tensor(bonds).expand(S, E)
            chance = torch.where(joined, p, 1 - p).prod(1)
            cluster = clusters(joined, pairs.edges, D)
            cost = shifted(pairs, every, cluster)
            if isinstance(kernel, SwendsenWang):
                law = (-cost).softmax(-1)
                shift = (every - every[:, None]) % K  # (S, S, D), to each state from each
                alike = (shift == shift.gather(2, cluster[:, None].expand(S, S, D))).all(2)
                each = law[:, None].expand(S, S, D, K).gather(3, shift[..., None])[..., 0]
                root = cluster == torch.arange(D)
                P += chance[:, None] * alike * torch.where(root[:, None], each, 1.0).prod(2)
                continue
            for site, f in itertools.product(range(D), range(1, K)):
                first = cluster[:, site : site + 1]
                new = torch.where(cluster == first, (every + f) % K, every)
                own = cost[torch.arange(S), first[:, 0]]
                accept = (own[:, 0] - own[:, f]).exp().clamp(max=1)
                weight = chance / D / (K - 1)
                P[torch.arange(S), number(new, K)] += weight * accept
                P[torch.arange(S), torch.arange(S)] += weight * (1 - accept)
    return P


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("which", MODELS)
def test_detailed_balance(which, name):
    """pi_x P(x, x') = pi_x' P(x', x) and pi P = pi, to 1e-10, and every state is reached from every other."""
    model = MODELS[which]()
    P, pi = matrix(which, name), probabilities(model)
    assert torch.allclose(P.sum(1), torch.ones(len(P), dtype=torch.float64), atol=1e-10)
    assert torch.allclose(pi[:, None] * P, (pi[:, None] * P).T, atol=1e-10)
    assert torch.allclose(pi @ P, pi, atol=1e-10)
    assert float(torch.linalg.matrix_power(P, 2 * model.spec.dim).min()) > 0


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("which", MODELS)
def test_a_step_is_the_matrix(which, name):
    """From one state, 20,000 times: chi-squared on where it leads, p above 1e-3; states below 5 counts as one."""
    model, kernel = MODELS[which](), KERNELS[name]
    K, energy = model.spec.support.size, energy_of(model)
    x = states(model.spec)
    start = len(x) // 3
    state, _ = kernel.step(energy, kernel.init(energy, x[start].expand(20_000, *x.shape[1:])), noise(1))
    expected = 20_000 * matrix(which, name)[start]
    counts = torch.bincount(number(state.x.flatten(1).long(), K), minlength=len(x)).double()
    rare = expected < 5
    assert not bool((counts[expected == 0] > 0).any())
    table = [(float(c), float(e)) for c, e in zip(counts[~rare], expected[~rare], strict=True)]
    if float(expected[rare].sum()) > 0:
        table.append((float(counts[rare].sum()), float(expected[rare].sum())))
    observed, wanted = zip(*table, strict=True)
    assert chisquare(observed, [w * sum(observed) / sum(wanted) for w in wanted]).pvalue > 1e-3


@pytest.mark.parametrize("name", KERNELS)
def test_a_chain_does_not_know_of_others(name):
    model, kernel = ising((1, 4, 4), couplings="edges"), KERNELS[name]
    x = model.start(6, noise=noise()).double()
    energy, rows = energy_of(model), torch.arange(6)
    whole, info = kernel.step(energy, kernel.init(energy, x), RowNoise(3, rows))
    part, _ = kernel.step(energy, kernel.init(energy, x[2:4]), RowNoise(3, rows[2:4]))
    assert torch.equal(whole.x[2:4], part.x)
    assert torch.allclose(info.energy, model.energy(whole.x))


def test_energies_that_differ_by_chain():
    """beta E with a beta for each chain, and a sum of energies: the pairs are those of the energy."""
    model, other = ising((1, 2, 3), fields="sites"), ising((1, 2, 3), 5, boundary="free", couplings="edges")
    beta = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    x = model.start(3, noise=noise()).double()
    energy = weighted([(beta, energy_of(model)), (0.3, energy_of(other))])
    pairs = energy.pairs()
    flat, (i, j) = x.flatten(1).long(), pairs.edges.T
    rows = torch.arange(3)[:, None]
    unary, tables = pairs.unary.expand(3, 6, 2), pairs.tables.expand(3, -1, 2, 2)
    total = unary.gather(2, flat[..., None]).sum((1, 2)) + tables[
        rows, torch.arange(len(i)), flat[:, i], flat[:, j]
    ].sum(1)
    assert torch.allclose(total, energy(x))
    hot = SwendsenWang().step(energy_of(model).scaled(torch.zeros(3)), SwendsenWang().init(energy, x), noise())[0]
    assert hot.x.shape == x.shape
    assert weighted([(1.0, energy_of(model)), (1.0, Energy(model.energy, model.spec.support))]).pairs is None


def test_couplings_that_clusters_cannot_follow():
    tables = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="depend on x_i - x_j mod K alone; take kernel=gibbs"):
        by_difference(Pairs(torch.zeros(2, 3), torch.tensor([[0, 1]]), tables))
    clock = torch.tensor([[0.3, -0.2, 0.7], [0.7, 0.3, -0.2], [-0.2, 0.7, 0.3]])
    found = by_difference(Pairs(torch.zeros(2, 3), torch.tensor([[0, 1]]), clock[None]))
    assert torch.allclose(found.tables[0] - found.tables[0].mean(), torch.tensor([0.3, 0.7, -0.2]) - 0.8 / 3, atol=1e-6)


def test_other_energies_are_refused_in_time():
    model = wavy()
    with pytest.raises(ValueError, match=r"sampler\.kernel: Wolff needs an energy over pairs, such as model=ising"):
        require_kernel(Wolff(), RBM(Spec((3,), Support("binary", 2)), hidden=2), "sampler.kernel: Wolff")
    with pytest.raises(ValueError, match="moves x that is binary or levels or categorical"):
        Chain(kernel=Wolff()).check(model, Learned())
    bits = Energy(lambda x: x.sum(1), Support("binary", 2))
    with pytest.raises(UsageError, match="kernel: clusters need an energy over pairs"):
        SwendsenWang().step(bits, SwendsenWang().init(bits, torch.zeros(1, 2)), noise())


@pytest.mark.slow
def test_wolff_at_the_critical_coupling():
    """L = 16: energy and specific heat within 3 standard errors of Kaufman's, over 24 chains from the ground states."""
    L, chains = 16, 24
    model = ising((1, L, L), None, K=CRITICAL).float()
    energy, kernel = energy_of(model), Wolff()
    x = (torch.arange(chains) % 2).float().view(-1, 1, 1, 1).expand(chains, 1, L, L)
    state, found = kernel.init(energy, x), []
    for step in range(300):
        state, info = kernel.step(energy, state, noise(step))
        if step >= 100:
            found.append(info.energy.double() / CRITICAL)
    e = torch.stack(found, 1)
    _, energy_per_site, heat = torus(CRITICAL, L, L)
    means = e.mean(1) / L**2
    assert abs(float(means.mean()) - energy_per_site) < 3 * float(means.std()) / math.sqrt(chains)
    squares = CRITICAL**2 * (e - energy_per_site * L**2).square().mean(1) / L**2
    assert abs(float(squares.mean()) - heat) < 3 * float(squares.std()) / math.sqrt(chains)
