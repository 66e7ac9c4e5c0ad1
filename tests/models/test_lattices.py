"""Ising and Potts models: what a bond is, how spins are counted, and that shortcuts agree with the energy."""

import itertools
import math

import pytest
import torch
from energies import noise
from lattices import BITS, ising, log_z, potts, states

from gencli.core.lattice import Lattice, clusters
from gencli.core.spec import Spec
from gencli.kernels.energy import brute_force
from gencli.methods.chains import energy_of
from gencli.models.energy.ising import Ising

SHAPES = [(1, 3, 4), (1, 2, 2), (1, 2, 3), (1, 1, 4), (1, 4, 1), (6,), (2,), (1, 1, 1)]
OPTIONS = [
    {"boundary": boundary, "couplings": couplings, "fields": fields}
    for boundary, couplings, fields in itertools.product(
        ("periodic", "free"), ("shared", "edges"), ("none", "shared", "sites")
    )
]
MODELS = [pytest.param(make, id=make.__name__) for make in (ising, potts)]


def bond_by_bond(model, x):
    """The energy of one state, (H, W) of values, as its definition has it: a right and a lower neighbour a site."""
    lattice, (J, h) = model.lattice, (model.edges()[1], model.h)
    grid = x.reshape(lattice.height, lattice.width).long().tolist()
    V, e, bond = model.V, 0.0, 0
    for down, right in ((0, 1), (1, 0)):
        for r, c in itertools.product(range(lattice.height), range(lattice.width)):
            r2, c2 = r + down, c + right
            if (lattice.height if down else lattice.width) == 1:
                continue
            if not lattice.periodic and (r2 == lattice.height or c2 == lattice.width):
                continue
            other = grid[r2 % lattice.height][c2 % lattice.width]
            e -= float(J[bond]) * float(V[grid[r][c]] @ V[other])
            bond += 1
    assert bond == len(J)
    if h is not None:
        for i, value in enumerate(x.flatten().long().tolist()):
            e -= float((h if h.ndim == 1 else h[i]) @ V[value])
    return e


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o.values()))
@pytest.mark.parametrize("make", MODELS)
def test_shortcuts_are_the_energy(make, options):
    """Energy, changes, pairs, relaxed energy and blocks, all against the sum over bonds; to 1e-10."""
    for shape in SHAPES:
        model = make(shape, **options)
        K = model.spec.support.size
        x = model.start(5, noise=noise()).double() if K == 2 else model.start(5, noise=noise())
        with torch.no_grad():
            e = model.energy(x)
            assert torch.allclose(e, torch.tensor([bond_by_bond(model, row) for row in x]).double(), atol=1e-10)
            flat, pairs = x.flatten(1).long(), model.pairwise()
            by_pairs = pairs.unary.gather(1, flat.T).sum(0)
            for (i, j), table in zip(pairs.edges.tolist(), pairs.tables, strict=True):
                by_pairs = by_pairs + table[flat[:, i], flat[:, j]]
            assert torch.allclose(by_pairs, e, atol=1e-10)
            assert len({frozenset(edge) for edge in pairs.edges.tolist()}) == len(pairs.edges)
            where = torch.arange(model.spec.dim).flip(0)[: 1 + model.spec.dim // 2]
            assert torch.allclose(model.changes(x, where), brute_force(model.energy, x, where, K), atol=1e-10)
            one_hot = torch.nn.functional.one_hot(flat, K).double()
            assert torch.allclose(model.relaxed(one_hot), e, atol=1e-10)
        energy, linear = energy_of(model).expansion(x)  # no site meets itself, so that first order is all there is
        assert torch.allclose(energy.double(), e, atol=1e-5)
        assert torch.allclose(linear.double(), model.changes(x, torch.arange(model.spec.dim)).detach(), atol=1e-5)


@pytest.mark.parametrize("periodic", [True, False])
def test_blocks_are_a_colouring(periodic):
    """No bond lies within a block, blocks are all sites once, and there are as few as a torus allows."""
    for height, width in itertools.product(range(1, 7), repeat=2):
        lattice = Lattice(height, width, periodic)
        blocks, edges = lattice.blocks(), lattice.edges()
        colour = torch.full((height * width,), -1)
        for i, block in enumerate(blocks):
            colour[block] = i
        assert sorted(torch.cat(blocks).tolist()) == list(range(height * width))
        assert bool((colour[edges[:, 0]] != colour[edges[:, 1]]).all())
        odd = periodic and any(side % 2 and side > 1 for side in (height, width))
        assert len(blocks) == (1 if height * width == 1 else 3 if odd else 2)


def test_conventions_of_spins():
    """Four ways to write one law: spins with each bond once, twice (s^T A s), bits of a Boltzmann machine, Potts."""
    model = ising((1, 3, 4), couplings="edges", fields="sites")
    x = states(model.spec)
    s, (edges, J), h = 2 * x.flatten(1) - 1, model.edges(), model.h[:, 0]
    with torch.no_grad():
        e = model.energy(x)
        A = torch.zeros(12, 12, dtype=torch.float64)
        for (i, j), coupling in zip(edges.tolist(), J, strict=True):
            A[i, j] += coupling / 2
            A[j, i] += coupling / 2
        assert torch.allclose(-(s * (s @ A)).sum(1) - s @ h, e, atol=1e-10)
        bits, W = x.flatten(1), 8 * A  # 4 J
        b = 2 * h - 4 * A.sum(1)
        machine = -0.5 * (bits * (bits @ W)).sum(1) - bits @ b
        assert float((machine - e).std()) < 1e-10
        two = potts((1, 3, 4), 2, couplings="edges", fields="sites")
        two.J.copy_(2 * J)
        two.h.copy_(torch.stack([-h, h], 1))
        assert float((two.energy(x.long()) - e).std()) < 1e-10


def test_double_bonds_and_single_sites():
    """A ring of two has two bonds between its sites, a free row of two has one, a side of one has none."""
    for shape, boundary, bonds in (((2,), "periodic", 2), ((2,), "free", 1), ((1, 1, 1), "periodic", 0)):
        model = ising(shape, None, boundary=boundary, K=0.3)
        assert len(model.edges()[0]) == bonds
        assert float(model.energy(torch.ones(1, *shape)).detach()) == pytest.approx(-0.3 * bonds, abs=1e-7)
    assert len(Lattice(2, 3).edges()) == 12
    two = math.log(2) + math.log(2 * math.cosh(0.6))
    assert log_z(ising((2,), None, K=0.3)) == pytest.approx(two, abs=1e-6)


def test_a_gibbs_sweep_leaves_the_law():
    """The matrix of a checkerboard sweep of 2x3 spins: pi P = pi to 1e-10, at couplings and fields of each site."""
    model = ising((1, 2, 3), couplings="edges", fields="sites")
    x = states(model.spec)
    with torch.no_grad():
        energy = energy_of(model)
        p = pi = (-model.energy(x)).softmax(0)
        assert sum(len(block) for block in energy.blocks) == 6
        weight = 2 ** torch.arange(5, -1, -1)
        for block in energy.blocks:
            given = (-energy.changes(x, block)).softmax(-1)  # (64, W, 2)
            to = torch.zeros(64, 64, dtype=torch.float64)
            for values in itertools.product((0, 1), repeat=len(block)):
                new = x.flatten(1).clone()
                new[:, block] = torch.tensor(values, dtype=torch.float64)
                chance = torch.stack([given[:, w, v] for w, v in enumerate(values)]).prod(0)
                to[torch.arange(64), (new.long() * weight).sum(1)] += chance
            p = p @ to
    assert torch.allclose(p, pi, atol=1e-10)


def test_clusters_are_told_by_their_first_site():
    edges = torch.tensor([[0, 1], [3, 2], [2, 4]])
    joined = torch.tensor([[True, False, False], [False, True, True], [False, False, False]])
    assert clusters(joined, edges, 5).tolist() == [[0, 0, 2, 3, 4], [0, 1, 2, 2, 2], [0, 1, 2, 3, 4]]


def test_refusals():
    with pytest.raises(ValueError, match="one channel; this data has 3"):
        Ising(Spec((3, 4, 4), BITS))
    with pytest.raises(ValueError, match=r"model\.conditional=true"):
        Ising(Spec((1, 4, 4), BITS, classes=2), conditional=True)
