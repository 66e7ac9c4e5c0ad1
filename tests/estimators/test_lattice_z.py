"""Z of lattices that is known: against enumeration, published values and each other."""

import itertools
import math

import pytest
import torch
from energies import noise
from lattices import ising, log_z, potts

from gencli.core.ising import CRITICAL, kaufman, magnetisation, torus
from gencli.core.spec import Batch
from gencli.estimators.solved import KacWard, Kaufman, TransferMatrix
from gencli.methods.elimination import log_partition, plan
from gencli.methods.planar import drawing, kac_ward, spins
from gencli.models.trained import Learned

PUBLISHED = {
    (4, 0.2): 11.7714703585,
    (10, 0.2): 73.45309780,
    (4, CRITICAL): 15.5219154588,
    (8, CRITICAL): 60.14178079,
    (10, CRITICAL): 93.61030051,
}
"""log Z of L x L tori; three methods agree on them."""


def measured(estimator, model):
    estimator.check(model, Learned())
    x = model.start(4, noise=noise()).to(torch.int64 if model.spec.support.kind == "categorical" else torch.float64)
    shared = estimator.prepare(model, Batch(x), noise())
    assert shared.bound == "exact"
    assert shared.diagnostics["log_z_se"] == 0
    found = estimator.nll(model, Batch(x), noise(), shared).nll
    assert torch.allclose(found, model.energy(x).detach() + shared.state)
    return shared.state


@pytest.mark.parametrize(("side", "K"), PUBLISHED, ids=str)
def test_tori_have_the_published_log_z(side, K):
    """To 1e-6, with K as float32 has it, for both estimators."""
    model = ising((1, side, side), None)
    with torch.no_grad():
        model.J.fill_(K)
    for estimator in (Kaufman(), TransferMatrix()):
        assert measured(estimator, model) == pytest.approx(PUBLISHED[side, K], abs=1e-6)


@pytest.mark.parametrize("boundary", ["periodic", "free"])
@pytest.mark.parametrize("couplings", ["shared", "edges"])
@pytest.mark.parametrize("fields", ["none", "shared", "sites"])
def test_transfer_matrix_is_enumeration(boundary, couplings, fields):
    """To 1e-9, of spins and of three states, at random couplings of both signs."""
    options = {"boundary": boundary, "couplings": couplings, "fields": fields}
    for shape in ((1, 3, 3), (1, 2, 3), (1, 2, 2), (7,), (2,), (1, 1, 1)):
        model = ising(shape, 1, **options)
        assert measured(TransferMatrix(), model) == pytest.approx(log_z(model), abs=1e-9)
    for shape in ((1, 2, 3), (5,)):
        model = potts(shape, 3, 1, **options)
        assert measured(TransferMatrix(), model) == pytest.approx(log_z(model), abs=1e-9)


def test_four_by_four_with_everything():
    model = ising((1, 4, 4), couplings="edges", fields="sites")
    assert measured(TransferMatrix(), model) == pytest.approx(log_z(model), abs=1e-9)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 3), (3, 4), (4, 3), (1, 5), (5, 1), (2, 1), (1, 1)])
def test_kaufman_is_enumeration(height, width):
    """Double bonds, rings and frustration included; to 1e-10 relative to couplings from 0 to 2."""
    for K in (0.0, 3e-7, 2e-6, 0.2, CRITICAL, 2.0, -0.4):
        model = ising((1, height, width), None)
        with torch.no_grad():
            model.J.fill_(K)
        if K < 0 and any(side % 2 and side > 1 for side in (height, width)):
            with pytest.raises(ValueError, match="odd side"):
                kaufman(model.J, height, width)
            continue
        assert float(kaufman(model.J.detach(), height, width)) == pytest.approx(log_z(model), abs=1e-10)


def test_kaufman_far_out():
    """Limits: 200 x 200 at K = 2 is its two ground states and single turned spins; no sinh overflows."""
    K, sites = 2.0, 200 * 200
    found = torus(K, 200, 200)
    assert found[0] == pytest.approx(2 * K * sites + math.log(2) + sites * math.exp(-8 * K), abs=1e-2)
    assert found[1] == pytest.approx(-2 + 8 * math.exp(-8 * K), abs=1e-6)


def test_energy_and_specific_heat_are_derivatives():
    """Of the transfer matrix, twice by autograd, 4 x 5 at the critical coupling, where a factor of Kaufman's is 0."""
    J = torch.tensor(CRITICAL, dtype=torch.float64, requires_grad=True)
    model = ising((1, 4, 5), None)
    pairs = model.pairwise()
    s = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    value = log_partition(pairs._replace(tables=-J * torch.outer(s, s).expand(len(pairs.edges), 2, 2)))
    (first,) = torch.autograd.grad(value, J, create_graph=True)
    (second,) = torch.autograd.grad(first, J)
    log_Z, energy, heat = torus(CRITICAL, 4, 5)
    assert log_Z == pytest.approx(float(value.detach()), abs=1e-10)
    assert energy == pytest.approx(-float(first.detach()) / 20, abs=1e-10)
    assert heat == pytest.approx(CRITICAL**2 * float(second) / 20, abs=1e-9)


def test_limit_of_the_infinite_lattice():
    """Onsager: log Z a site ln 2 / 2 + 2 G / pi, energy -sqrt 2, at the critical coupling; magnetisation of Yang."""
    log_Z, energy, _ = torus(CRITICAL, 200, 200)
    assert log_Z / 200**2 == pytest.approx(0.9296953983, abs=1e-4)
    assert energy == pytest.approx(-math.sqrt(2), abs=5e-3)
    assert torus(0.2, 60, 60)[0] / 3600 == pytest.approx(0.7345308123, abs=1e-9)
    m = magnetisation(torch.tensor([0.4, CRITICAL, 0.5, 1.0], dtype=torch.float64))
    assert m.tolist() == pytest.approx([0.0, 0.0, 0.9113194, 0.9992757], abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 4, 4), (1, 6, 9), (1, 2, 2), (1, 1, 6), (9,)])
@pytest.mark.parametrize("couplings", ["shared", "edges"])
def test_kac_ward_is_the_transfer_matrix(shape, couplings):
    """With free boundaries, to 1e-8, at couplings of both signs."""
    model = ising(shape, couplings=couplings, boundary="free")
    found = measured(KacWard(), model)
    assert found == pytest.approx(measured(TransferMatrix(), model), abs=1e-8)
    if model.spec.dim <= 9:
        assert found == pytest.approx(log_z(model), abs=1e-9)


def test_kac_ward_of_graphs_that_are_no_lattice():
    """Rings, a torus of 2 x 3, which is planar, and a wheel of five spokes with random couplings; but not K_5."""
    for shape in ((5,), (1, 2, 3)):
        model = ising(shape, couplings="edges")
        assert measured(KacWard(), model) == pytest.approx(log_z(model), abs=1e-9)
    edges = torch.tensor([(0, i) for i in range(1, 6)] + [(i, 1 + i % 5) for i in range(1, 6)])
    J = torch.randn(10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)), dtype=torch.float64)
    exact = float(((s[:, edges[:, 0]] * s[:, edges[:, 1]]) @ J).logsumexp(0))
    assert float(kac_ward(J, edges, drawing(edges, 6))) == pytest.approx(exact, abs=1e-10)
    assert drawing(torch.tensor(list(itertools.combinations(range(5), 2))), 5) is None


def test_bits_over_pairs_as_spins():
    """J, h and the constant of any energy of bits over pairs: to 1e-12 at every state."""
    pairs = ising((1, 2, 3), couplings="edges", fields="sites").pairwise()
    tables = (
        pairs.tables.detach() + torch.randn(pairs.tables.shape, generator=torch.Generator().manual_seed(1)).double()
    )
    J, h, constant = spins(pairs._replace(tables=tables))
    x = torch.tensor(list(itertools.product((0, 1), repeat=6)))
    s = 2.0 * x.double() - 1
    direct = pairs.unary.detach().gather(1, x.T).sum(0)
    for (i, j), table in zip(pairs.edges.tolist(), tables, strict=True):
        direct = direct + table[x[:, i], x[:, j]]
    i, j = pairs.edges.T
    assert torch.allclose(constant - (s[:, i] * s[:, j]) @ J - s @ h, direct, atol=1e-12)


def test_frontiers_follow_the_shorter_side():
    for shape, boundary, width in (((1, 3, 40), "free", 5), ((1, 40, 3), "free", 4), ((1, 10, 10), "periodic", 21)):
        model = ising(shape, None, boundary=boundary)
        assert plan(model.pairwise().edges, model.spec.dim)[1] <= width


@pytest.mark.parametrize(
    ("estimator", "shape", "options", "says"),
    [
        (TransferMatrix(), (1, 20, 20), {}, "estimator.width=23: .* take estimator=kaufman, .*kac_ward, else ais"),
        (
            Kaufman(),
            (1, 4, 4),
            {"boundary": "free"},
            "is for model.boundary=periodic.*transfer_matrix",
        ),
        (Kaufman(), (1, 4, 4), {"couplings": "edges"}, "take estimator=transfer_matrix"),
        (Kaufman(), (1, 4, 4), {"fields": "shared"}, "model.fields=none"),
        (KacWard(), (1, 4, 4), {}, "planar graphs, such as model.boundary=free; of a torus .* estimator=kaufman"),
        (
            KacWard(),
            (1, 4, 4),
            {"boundary": "free", "fields": "sites"},
            "without fields; .*=transfer_matrix",
        ),
    ],
)
def test_refusals_name_what_can(estimator, shape, options, says):
    """Before training already, when all couplings are alike and all fields 0."""
    with pytest.raises(ValueError, match=says) as refused:
        estimator.check(ising(shape, None, **options), Learned())
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="for bits; of more values take estimator=transfer_matrix"):
        KacWard().check(potts((1, 3, 3)), Learned())
