"""Small networks with attributes, their exact laws, and exponential random graphs of fixed parameters."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gencli.core.spec import Graph, Spec, Support
from gencli.models.energy.ergm import ERGM

UNDIRECTED = ("kstar(2)", "kstar(3)", "gwdegree(0.7)", "gwdegree(0)")
EITHER = (
    "edges",
    "triangles",
    "gwesp(0.5)",
    "gwesp(0)",
    "nodecov(wealth)",
    "nodefactor(side)",
    "nodefactor(wealth)",
    "nodematch(side)",
    "absdiff(wealth)",
    "edgecov(trade)",
)


def graph(nodes: int, directed: bool = False) -> Graph:
    source = torch.Generator().manual_seed(nodes)
    wealth = tuple(torch.randint(4, (nodes,), generator=source).tolist())
    trade = torch.randn(nodes, nodes, generator=source)
    trade = trade if directed else trade + trade.T
    side = tuple("fmx"[k % 3] for k in range(nodes))
    return Graph(
        nodes,
        directed,
        attributes=(("wealth", tuple(map(float, wealth))), ("side", side)),
        covariates=(("trade", tuple(map(tuple, trade.tolist()))),),
    )


def spec(of: Graph) -> Spec:
    return Spec((of.size,), Support("binary", 2), graph=of)


def ergm(of: Graph, **theta: float) -> ERGM:
    """A model with the terms and parameters given, as kstar_2=-0.1; never started from data."""
    names = {"kstar_2": "kstar(2)", "gwesp_05": "gwesp(0.5)"}
    model = ERGM(spec(of), terms=[names.get(term, term) for term in theta])
    model.theta_0.copy_(torch.tensor(list(theta.values())))
    return model


def every(of: Graph) -> Tensor:
    """All 2^D networks, in fp64."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=of.size)), dtype=torch.float64)


def random_networks(of: Graph, n: int, density: float = 0.4) -> Tensor:
    return (torch.rand(n, of.size, generator=torch.Generator().manual_seed(1)) < density).float()
