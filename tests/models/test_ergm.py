"""Exponential random graphs: statistics by their definitions, change statistics, exact laws, where fits start."""

from __future__ import annotations

import math
import re

import networkx as nx
import numpy as np
import pytest
import torch
from graphs import EITHER, UNDIRECTED, ergm, every, graph, random_networks, spec

from gencli.core.spec import Graph, Spec, Support
from gencli.data.networks import to_adjacency
from gencli.data.sets.florentine import Florentine
from gencli.data.sets.karate import Karate
from gencli.data.sets.lazega import Lazega
from gencli.kernels.energy import brute_force, turned_over
from gencli.models.energy.ergm import ERGM
from gencli.models.energy.ergm_start import pseudo_likelihood


def terms(directed: bool) -> list[str]:
    return [*EITHER, *(["mutual"] if directed else UNDIRECTED)]


def started(data, *of: str) -> ERGM:
    model = ERGM(data.spec, terms=of)
    model.initialize(data.split("train").x.float())
    return model


@pytest.mark.parametrize("directed", [False, True])
def test_change_statistics_are_differences_of_statistics(directed):
    """Of every term and every dyad, of few dyads and of all at once."""
    of = graph(7, directed)
    model, x = ERGM(spec(of), terms=terms(directed)).double(), random_networks(of, 5).double()
    where = torch.arange(of.size)
    with_tie, without = (x[:, None].repeat(1, of.size, 1) for _ in range(2))
    with_tie[:, where, where], without[:, where, where] = 1.0, 0.0
    s = [model.statistics(part.flatten(0, 1)).view(5, of.size, -1) for part in (with_tie, without)]
    at_once = model.change_statistics(x, where.expand(5, -1))
    one_by_one = torch.cat([model.change_statistics(x, w.expand(5, -1)) for w in where.split(1)], 1)
    assert at_once.shape[2] == len(model.names)
    torch.testing.assert_close(at_once, s[0] - s[1], atol=1e-9, rtol=0)
    torch.testing.assert_close(one_by_one, at_once, atol=1e-9, rtol=0)


@pytest.mark.parametrize("directed", [False, True])
def test_changes_and_toggles_are_those_of_the_energy(directed):
    of = graph(6, directed)
    model, x = ERGM(spec(of), terms=terms(directed)).double(), random_networks(of, 4).double()
    model.theta_0.copy_(torch.linspace(-0.7, 0.5, len(model.names)))
    where = torch.tensor([0, 3, of.size - 1])
    torch.testing.assert_close(model.changes(x, where), brute_force(model.energy, x, where, 2), atol=1e-9, rtol=0)
    own = torch.tensor([0, 3, 5, 7])
    torch.testing.assert_close(model.toggles(x, own), turned_over(model.energy, x, own), atol=1e-9, rtol=0)


def test_statistics_are_what_networkx_counts():
    """On the karate club: triangles, stars, shared partners of ties, matching ends."""
    data = Karate()
    network = nx.karate_club_graph()
    degree = np.array([d for _, d in network.degree])
    shared = [len(list(nx.common_neighbors(network, i, j))) for i, j in network.edges]
    club = nx.get_node_attributes(network, "club")

    def weight(m, decay):
        return math.exp(decay) * (1 - (1 - math.exp(-decay)) ** m)

    expected = {
        "edges": 78,
        "triangles": sum(nx.triangles(network).values()) / 3,
        "kstar(2)": float((degree * (degree - 1) / 2).sum()),
        "gwdegree(0.5)": sum(weight(d, 0.5) for d in degree.tolist()),
        "gwesp(0.5)": sum(weight(m, 0.5) for m in shared),
        "gwesp(0)": sum(m > 0 for m in shared),
        "nodematch(club)": sum(club[i] == club[j] for i, j in network.edges),
        "nodefactor(club)": sum((club[i] == "Officer") + (club[j] == "Officer") for i, j in network.edges),
    }
    model = ERGM(data.spec, terms=list(expected))
    assert expected["triangles"] == 45
    assert model.names[-1] == "nodefactor(club).Officer"
    assert model.statistics(data.split("train").x.float())[0].tolist() == pytest.approx([*expected.values()], rel=1e-6)


def test_directed_statistics_are_counts_of_triples():
    of = graph(6, directed=True)
    x = random_networks(of, 3)
    y = to_adjacency(x, of).astype(int)
    found = ERGM(spec(of), terms=["mutual", "triangles", "gwesp(0)"]).statistics(x)
    for A, (mutual, triangles, shared) in zip(y, found.tolist(), strict=True):
        transitive = sum(A[i, j] * A[j, k] * A[i, k] for i in range(6) for j in range(6) for k in range(6))
        cyclic = sum(A[i, j] * A[j, k] * A[k, i] for i in range(6) for j in range(6) for k in range(6)) / 3
        assert mutual == (A * A.T).sum() / 2
        assert triangles == pytest.approx(transitive + cyclic)
        assert shared == sum(A[i, j] * bool((A @ A)[i, j]) for i in range(6) for j in range(6))


def test_the_law_of_six_nodes_is_known():
    """log Z, mean edges and entropy by enumeration; a Bernoulli graph in closed form."""
    of = Graph(6)
    x = every(of)
    with torch.no_grad():
        model = ergm(of, edges=-1.0, triangles=0.5, kstar_2=-0.1).double()
        model.theta_0.copy_(torch.tensor([-1.0, 0.5, -0.1]).double())
        log_p = -model.energy(x)
        log_z = log_p.logsumexp(0)
        p = (log_p - log_z).exp()
        bernoulli = ergm(of, edges=0.0).double()
        bernoulli.theta_0.fill_(-0.7)
        flat = (-bernoulli.energy(x)).logsumexp(0)
    assert float(log_z) == pytest.approx(4.48604316, abs=1e-8)
    assert float(p @ x.sum(1)) == pytest.approx(3.85505551, abs=1e-8)
    assert float(-(p * (log_p - log_z)).sum()) == pytest.approx(8.52836993, abs=1e-8)
    assert float(flat) == pytest.approx(6.0477907333, abs=1e-8)


@pytest.mark.parametrize("nodes", [6, 7])
@pytest.mark.parametrize(("directed", "names"), [(False, ["edges", "triangles", "kstar(2)"]), (True, ["mutual"])])
def test_dyads_of_a_block_do_not_interact(nodes, directed, names):
    """All dyads are in one block each, and no tie changes what another of its block does."""
    of = graph(nodes, directed)
    model, x = ERGM(spec(of), terms=names), random_networks(of, 3)
    model.theta_0.normal_(generator=torch.Generator().manual_seed(2))
    blocks = model.blocks()
    assert sorted(torch.cat(blocks).tolist()) == list(range(of.size))
    for block in blocks:
        before = model.change_statistics(x, block.expand(3, -1))
        for w in block.tolist():
            turned = x.clone()
            turned[:, w] = 1 - turned[:, w]
            assert torch.equal(model.change_statistics(turned, block.expand(3, -1)), before)
    assert len(ERGM(spec(of), terms=["edges", "nodematch(side)"]).blocks()) == 1
    assert ERGM(spec(of), terms=["edges", "gwesp(0.5)"]).blocks() is None


def test_fits_without_dependence_are_published_ones():
    """statnet: flomarriage ~ edges is logit(1/6) = -1.609; with nodecov("wealth") -2.594929 and 0.010546.

    The tutorial "Exponential random graph models with statnet" (Krivitsky et al., 2003 on; statnet.org), which prints
    both; nothing is simulated for them, so that the MLE is exact.
    """
    assert float(started(Florentine(), "edges").theta.detach()) == pytest.approx(math.log(20 / 100), abs=1e-6)
    theta = started(Florentine(), "edges", "nodecov(wealth)").theta.tolist()
    assert theta == pytest.approx([-2.594929, 0.010546], abs=2e-6)


def test_the_start_has_the_scale_of_standard_errors():
    """Of a Bernoulli graph the error of theta is 1 / sqrt(D p (1 - p)); S is that, and the reference is the fit."""
    model = started(Florentine(), "edges")
    p = 20 / 120
    assert float(model.scale.detach()) == pytest.approx((120 * p * (1 - p)) ** -0.5, rel=1e-5)
    x = Florentine().split("train").x.float()
    assert float(model.reference().log_prob(x).detach()) == pytest.approx(
        20 * math.log(p) + 100 * math.log(1 - p), rel=1e-5
    )
    mean, count = model.observed
    assert (mean.tolist(), count) == ([20.0], 1)


def test_the_maximum_is_a_maximum():
    """Of dependent terms, too: the gradient of the pseudo-likelihood is zero."""
    model = started(Lazega(), "edges", "gwesp(0.778)", "nodecov(seniority)", "nodematch(office)")
    x = Lazega().split("train").x.float()
    C = model.change_statistics(x, torch.arange(630)[None])[0].double()
    gradient = C.T @ (x[0].double() - (C @ model.theta.double()).sigmoid())
    assert (gradient.abs() / C.abs().sum(0)).max() < 1e-6


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["edgs"], "model.terms: edgs: there is no such term. Did you mean 'edges'"),
        (["gwesp"], "model.terms: gwesp: gwesp(decay) is needed"),
        (["gwesp(x)"], "model.terms: gwesp(x): the decay is a number from 0 to 10"),
        (["kstar(1)"], "model.terms: kstar(1): k is an integer from 2 to 20"),
        (["nodecov(welth)"], "model.terms: nodecov(welth): the data have no 'welth'. Did you mean 'wealth'"),
        (["nodecov(side)"], "model.terms: nodecov(side): attribute 'side' is text"),
        (["edgecov(xyz)"], "model.terms: edgecov(xyz): the data have no 'xyz'. There is: trade"),
        (["mutual"], "model.terms: mutual: needs a directed network"),
        (["edges", "edges"], "model.terms: edges is there twice"),
        ([], "model.terms=[]"),
    ],
)
def test_terms_that_are_none(of, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ERGM(spec(graph(6)), terms=of)


def test_terms_may_be_a_sum():
    """As statnet writes them; names are those of the terms, without spaces around them."""
    model = ERGM(spec(graph(6)), terms=["edges + gwesp(0.5)+ nodecov(wealth)", "nodefactor(side)"])
    assert model.names == ("edges", "gwesp(0.5)", "nodecov(wealth)", "nodefactor(side).m", "nodefactor(side).x")


def test_data_without_nodes_are_refused():
    with pytest.raises(ValueError, match=r"^model=ergm needs networks"):
        ERGM(Spec((10,), Support("binary", 2)))


def test_starts_that_have_no_maximum_are_explained():
    """No triangle was seen, so that theta of triangles goes to -infinity; terms that say the same."""
    of = graph(6)
    path = torch.zeros(1, of.size)
    path[0, [of.dyads.index((k, k + 1)) for k in range(5)]] = 1
    with pytest.raises(ValueError, match=r"theta of triangles goes to -infinity"):
        ERGM(spec(of), terms=["edges", "triangles"]).initialize(path)
    C = torch.ones(15, 2)
    with pytest.raises(ValueError, match=r"^model.terms: a, b say the same"):
        pseudo_likelihood(C, path[0], ("a", "b"))
    with pytest.raises(ValueError, match=r"^model.terms: no tie changes b"):
        pseudo_likelihood(C * torch.tensor([1.0, 0.0]), path[0], ("a", "b"))
