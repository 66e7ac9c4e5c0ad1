"""The tie/no tie proposal: detailed balance as a matrix, its bookkeeping, samples against enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch
from energies import noise
from graphs import ergm, every
from torch import Tensor

from gencli.core.spec import Graph
from gencli.kernels.graphs import TieNoTie, Ties
from gencli.methods.chains import energy_of


def matrix(x: Tensor, energy, grid: int) -> Tensor:
    """P (S, S) over all networks x: uniform numbers on a grid fine enough that each proposal has its exact share."""
    S, D = x.shape
    P = torch.zeros(S, S, dtype=torch.float64)
    weights = 2.0 ** torch.arange(D - 1, -1, -1, dtype=torch.float64)
    rows = torch.arange(S)
    for coin, k in itertools.product((0.25, 0.75), range(grid)):
        ties = Ties(x.clone())
        _, where, ratio = ties.propose(torch.full((S,), coin), torch.full((S,), (k + 0.5) / grid))
        accept = (ratio - energy.toggles(x, where)).clamp(max=0).exp()
        to = (x.scatter(1, where[:, None], 1 - x.gather(1, where[:, None])) @ weights).long()
        P.index_put_((rows, to), accept / (2 * grid), accumulate=True)
    return P + torch.diag(1 - P.sum(1))


@pytest.mark.parametrize(("nodes", "grid"), [(3, 6), (4, 60)])
def test_the_matrix_leaves_the_law_as_it_is(nodes, grid):
    """pi P = pi and detailed balance to 1e-10, of an edge-heavy and a sparse model."""
    of = Graph(nodes)
    x = every(of)
    for edges in (-1.3, 0.8):
        model = ergm(of, edges=edges, triangles=0.6, kstar_2=-0.2).double()
        energy = energy_of(model)
        with torch.no_grad():
            pi = (-model.energy(x)).softmax(0)
            P = matrix(x, energy, grid)
        assert P.min() >= 0
        assert (pi @ P - pi).abs().max() < 1e-10
        flow = pi[:, None] * P
        assert (flow - flow.T).abs().max() < 1e-10
        assert torch.linalg.matrix_power(P, 1 << 12)[0] == pytest.approx(pi, abs=1e-8)


def test_ties_are_known_after_every_turn():
    """The first E dyads of the order are the ties, whatever was accepted."""
    x = (torch.rand(50, 15, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    ties, source = Ties(x), noise(1)
    for _ in range(60):
        rank, where, _ = ties.propose(source.rand(50), source.rand(50))
        ties.turn(rank, where, source.rand(50) < 0.7)
        assert torch.equal(ties.count, x.sum(1).long())
        assert torch.equal(x.gather(1, ties.order), (torch.arange(15) < ties.count[:, None]).float())
        assert torch.equal(ties.order.sort(1).values, torch.arange(15).expand(50, -1))


def test_samples_have_the_moments_of_the_law():
    """Mean statistics of 2,000 chains within 4.5 standard errors of enumeration; the state is not changed."""
    of = Graph(5)
    model, x = ergm(of, edges=-0.5, triangles=0.4), every(of)
    kernel, energy = TieNoTie(toggles=40), energy_of(model)
    state = kernel.init(energy, model.start(2000, noise=noise(3)))
    before = state.x.clone()
    for k in range(3):
        after, info = kernel.step(energy, state, noise(10 + k))
        assert torch.equal(state.x, before)
        state, before = after, after.x.clone()
    with torch.no_grad():
        pi = (-model.double().energy(x)).softmax(0)
        s, found = model.statistics(x), model.statistics(state.x.double())
    error = found.std(0) / 2000**0.5
    assert ((found.mean(0) - pi @ s).abs() / error).max() < 4.5
    torch.testing.assert_close(info.energy.double(), model.energy(state.x.double()).detach(), atol=1e-4, rtol=0)
    assert 0.2 < float(info.rates["acceptance"].mean()) < 1
