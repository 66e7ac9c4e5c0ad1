"""Pictures of networks: distributions against networkx, and files that are images."""

from __future__ import annotations

import io

import networkx as nx
import numpy as np
import pytest
import torch
from PIL import Image

from gencli.core.errors import UsageError
from gencli.core.spec import Graph
from gencli.data.networks import to_adjacency
from gencli.data.preprocess import Preprocess
from gencli.data.sets.florentine import Florentine
from gencli.data.sets.karate import Karate
from gencli.data.sets.toys import Toy
from gencli.kernels.gibbs import Gibbs
from gencli.models.energy.ergm import ERGM
from gencli.models.trained import Learned
from gencli.pictures.goodness_of_fit import GoodnessOfFit, distributions
from gencli.pictures.network_samples import NetworkSamples
from gencli.run.assembly import Parts
from gencli.samplers.chain import Chain


def test_distributions_are_those_of_networkx():
    data, network = Karate(), nx.karate_club_graph()
    found = {
        key: shares(data.adjacency[None], data.spec.graph)[0] for key, shares in distributions(data.spec.graph).items()
    }
    degree = np.bincount([d for _, d in network.degree], minlength=34) / 34
    assert found["degree"] == pytest.approx(degree)
    shared = np.bincount([len([*nx.common_neighbors(network, *tie)]) for tie in network.edges], minlength=33) / 78
    assert found["edgewise_shared_partners"] == pytest.approx(shared)
    paths = dict(nx.all_pairs_shortest_path_length(network))
    lengths = [d for own in paths.values() for d in own.values() if d]
    assert found["geodesic_distance"][:33] == pytest.approx(np.bincount(lengths, minlength=34)[1:] / len(lengths))


def test_dyads_without_a_path_and_directions_are_counted():
    """i -> j -> k alone: three of six dyads are joined, at distances 1, 1, 2."""
    graph = Graph(3, directed=True)
    A = np.zeros((1, 3, 3), dtype=np.uint8)
    A[0, 0, 1] = A[0, 1, 2] = 1
    shares = distributions(graph)
    assert shares["geodesic_distance"](A, graph)[0] == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    assert shares["out_degree"](A, graph)[0] == pytest.approx([1 / 3, 2 / 3, 0])
    A[0, 0, 2] = 1
    assert shares["out_degree"](A, graph)[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert shares["edgewise_shared_partners"](A, graph)[0] == pytest.approx([2 / 3, 1 / 3])


def parts() -> Parts:
    data = Florentine()
    model = ERGM(data.spec, terms=["edges"])
    model.initialize(data.split("train").x.float())
    preprocess = Preprocess(data.spec, ERGM.supports, ERGM.shapes)
    sampler = Chain(kernel=Gibbs(), steps=4, warmup=0)
    return Parts(torch.device("cpu"), data, preprocess, model, None, sampler, None, Learned())


@pytest.mark.slow
def test_the_observed_network_stands_beside_simulated_ones():
    some = parts()
    fit = GoodnessOfFit().make(some, 30, seed=0)
    arrays = np.load(io.BytesIO(fit.files[".npz"]))
    assert arrays["simulated_degree"].shape == (30, 16)
    # the mean degree of the fit is that of the network, 2.5, within 4 errors of 30 networks
    degree = arrays["simulated_degree"] @ np.arange(16)
    assert abs(degree.mean() - 2.5) < 4 * degree.std() / 30**0.5
    assert arrays["observed_degree"][0] @ np.arange(16) == pytest.approx(2.5)
    for files in (fit.contents(), NetworkSamples(columns=2).make(some, 3, seed=0).contents()):
        image = np.asarray(Image.open(io.BytesIO(files[".png"])).convert("L"))
        assert image.min() < 100
        assert image.max() == 255
    assert int(to_adjacency(some.dataset.split("train").x, some.dataset.spec.graph).sum()) == 40


def test_data_without_networks_are_refused():
    some = parts()
    some.dataset = Toy("moons")
    with pytest.raises(UsageError, match=r"^picture=goodness_of_fit is of networks; data=moons has none"):
        GoodnessOfFit().make(some, 4, seed=0)
