"""Statistics of exponential random graphs and their change statistics, under the names of statnet's terms.

The change statistic of a dyad is s(y with the tie) - s(y without it), the rest of the network as it is. Of a network y
with ties y_ij, degrees d_i and P_ij = sum_k y_ik y_kj paths of two ties:

    edges           sum y_ij
    mutual          pairs with ties both ways (directed)
    triangles       sets of three ties; of directed networks transitive and cyclic triples
    kstar(k)        sum_i C(d_i, k)
    gwdegree(a)     sum_i f(d_i),    f(m) = e^a (1 - (1 - e^-a)^m)
    gwesp(a)        sum of f(P_ij) over ties; of directed networks P counts paths i -> k -> j
    nodecov(v)      sum y_ij (v_i + v_j)
    nodefactor(v)   for each value l of v but the first: ends of ties that have it
    nodematch(v)    sum y_ij [v_i = v_j]
    absdiff(v)      sum y_ij |v_i - v_j|
    edgecov(c)      sum y_ij c_ij

"Specification of exponential-family random graph models: terms and computational aspects" (Morris, Handcock and Hunter,
2008); "Curved exponential family models for networks" (Hunter, 2007).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from gencli.core.spec import Graph


class Dyads(nn.Module):
    """Where the dyads of a graph lie among n x n pairs of nodes.

    i, j: (D,) the nodes of each dyad. index: (n, n) the dyad of each pair. between: (n, n) 1 off the diagonal.
    """

    i: Tensor
    j: Tensor
    index: Tensor
    between: Tensor

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        i, j = torch.tensor(graph.dyads).view(-1, 2).T
        index = torch.zeros(graph.nodes, graph.nodes, dtype=torch.int64)
        index[i, j] = torch.arange(graph.size)
        if not graph.directed:
            index[j, i] = torch.arange(graph.size)
        for name, value in (("i", i), ("j", j), ("index", index), ("between", 1 - torch.eye(graph.nodes))):
            self.register_buffer(name, value.contiguous(), persistent=False)


def matchings(graph: Graph) -> list[list[int]]:
    """The dyads in sets of which no two share a node, by the circle method of round-robin tournaments."""
    number = {pair: k for k, pair in enumerate(graph.dyads)}
    n = graph.nodes + graph.nodes % 2  # of an odd number, the one who meets the last sits out
    rounds = []
    for r in range(n - 1):
        pairs = [(n - 1, r), *(((r + k) % (n - 1), (r - k) % (n - 1)) for k in range(1, n // 2))]
        both = [(min(pair), max(pair)) for pair in pairs if max(pair) < graph.nodes]
        rounds.append([number[pair] for pair in both])
        if graph.directed:
            rounds.append([number[j, i] for i, j in both])
    return rounds


class Networks:
    """Networks x (n, D), as one bit a dyad, looked at by their nodes; what is asked for is worked out once.

    Args:
        x: floats.
        dyads: where they lie.
    """

    def __init__(self, x: Tensor, dyads: Dyads) -> None:
        self.x, self.dyads, self.directed = x, dyads, dyads.graph.directed

    @cached_property
    def matrix(self) -> Tensor:
        """y (n, N, N)."""
        n, N = len(self.x), self.dyads.graph.nodes
        return self.x.index_select(1, self.dyads.index.flatten()).view(n, N, N) * self.dyads.between

    @cached_property
    def paths(self) -> Tensor:
        """P (n, N, N)."""
        return self.matrix @ self.matrix

    @cached_property
    def degrees(self) -> Tensor:
        """d (n, N), of undirected networks."""
        return self.matrix.sum(2)


class Neighbourhoods:
    """Dyads ij, W of each of n networks, and the ties of their nodes; what is asked for is worked out once.

    Args:
        networks: n.
        where: (n, W) the dyads.
    """

    def __init__(self, networks: Networks, where: Tensor) -> None:
        self.networks, self.where = networks, where
        dyads = networks.dyads
        self.i, self.j = dyads.i[where], dyads.j[where]

    def _ties(self, index: Tensor, node: Tensor) -> Tensor:
        """y between nodes (n, W) and all others: (n, W, N)."""
        at = index[node]
        return self.networks.x.gather(1, at.flatten(1)).view(at.shape) * self.networks.dyads.between[node]

    @cached_property
    def tie(self) -> Tensor:
        """y_ij (n, W)."""
        return self.networks.x.gather(1, self.where)

    @cached_property
    def back(self) -> Tensor:
        """y_ji (n, W)."""
        return self.networks.x.gather(1, self.networks.dyads.index[self.j, self.i])

    @cached_property
    def from_i(self) -> Tensor:
        """y_ik of all k: (n, W, N)."""
        return self._ties(self.networks.dyads.index, self.i)

    @cached_property
    def from_j(self) -> Tensor:
        """y_jk."""
        return self._ties(self.networks.dyads.index, self.j)

    @cached_property
    def to_i(self) -> Tensor:
        """y_ki."""
        return self._ties(self.networks.dyads.index.T, self.i) if self.networks.directed else self.from_i

    @cached_property
    def to_j(self) -> Tensor:
        """y_kj."""
        return self._ties(self.networks.dyads.index.T, self.j) if self.networks.directed else self.from_j

    @cached_property
    def degrees(self) -> Tensor:
        """Degrees of i and j, but for the tie between them, of undirected networks: (n, W, 2)."""
        return torch.stack([self.from_i.sum(2), self.from_j.sum(2)], -1) - self.tie[..., None]

    def paths_from_i(self) -> Tensor:
        """P_ik of all k, (n, W, N); of few dyads without working out all of P."""
        networks = self.networks
        if self.i.shape[1] < networks.dyads.graph.nodes:
            return self.from_i @ networks.matrix
        return networks.paths.gather(1, self.i[..., None].expand(self.from_i.shape))

    def paths_to_j(self) -> Tensor:
        """P_kj."""
        networks = self.networks
        if self.j.shape[1] < networks.dyads.graph.nodes:
            return self.to_j @ networks.matrix.transpose(1, 2)
        return networks.paths.transpose(1, 2).gather(1, self.j[..., None].expand(self.to_j.shape))


class Term(nn.Module, ABC):
    """One or several statistics.

    ``names``: of each. ``reach``: which other dyads a dyad's change statistics look at: none (``dyad``), that of the
    same nodes the other way (``pair``), those of its nodes (``node``), or any.
    """

    names: tuple[str, ...]
    reach: Literal["dyad", "pair", "node", "any"] = "node"

    @abstractmethod
    def statistic(self, y: Networks) -> Tensor:
        """s(y): (n, K)."""

    @abstractmethod
    def change(self, at: Neighbourhoods) -> Tensor:
        """Change statistics of dyads (n, W): (n, W, K)."""


class DyadCovariates(Term):
    """sum_ij y_ij w_ijk over dyads: each dyad has its weights, whatever the others are.

    Args:
        names: K.
        weights: (N, N, K).
    """

    weights: Tensor
    reach = "dyad"

    def __init__(self, names: tuple[str, ...], weights: Tensor) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("weights", weights.float(), persistent=False)

    def statistic(self, y: Networks) -> Tensor:
        return y.x @ self.weights[y.dyads.i, y.dyads.j]

    def change(self, at: Neighbourhoods) -> Tensor:
        return self.weights[at.i, at.j]


class Mutual(Term):
    """Pairs of nodes with ties both ways; of directed networks."""

    names = ("mutual",)
    reach = "pair"

    def statistic(self, y: Networks) -> Tensor:
        return 0.5 * (y.matrix * y.matrix.transpose(1, 2)).sum((1, 2))[:, None]

    def change(self, at: Neighbourhoods) -> Tensor:
        return at.back[..., None]


class Triangles(Term):
    """Sets of three ties; of directed networks transitive and cyclic triples together."""

    names = ("triangles",)

    def statistic(self, y: Networks) -> Tensor:
        cyclic = (y.matrix * y.paths.transpose(1, 2)).sum((1, 2))[:, None]
        if not y.directed:
            return cyclic / 6
        return cyclic / 3 + (y.matrix * y.paths).sum((1, 2))[:, None]

    def change(self, at: Neighbourhoods) -> Tensor:
        if not at.networks.directed:
            return (at.from_i * at.from_j).sum(2, keepdim=True)
        return ((at.from_i + at.to_i) * (at.from_j + at.to_j)).sum(2, keepdim=True)


class KStars(Term):
    """sum_i C(d_i, k); of undirected networks.

    Args:
        k: 2 or more.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k, self.names = k, (f"kstar({k})",)

    def statistic(self, y: Networks) -> Tensor:
        return _binomial(y.degrees, self.k).sum(1, keepdim=True)

    def change(self, at: Neighbourhoods) -> Tensor:
        return _binomial(at.degrees, self.k - 1).sum(-1, keepdim=True)


class GeometricDegrees(Term):
    """sum_i f(d_i); of undirected networks.

    Args:
        decay: a.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay, self.names = decay, (f"gwdegree({decay:g})",)

    def statistic(self, y: Networks) -> Tensor:
        return _geometric(y.degrees, self.decay).sum(1, keepdim=True)

    def change(self, at: Neighbourhoods) -> Tensor:
        return _further(at.degrees, self.decay).sum(-1, keepdim=True)


class GeometricSharedPartners(Term):
    """sum of f(P_ij) over ties: shared partners, each of which counts (1 - e^-a) as much as the one before.

    Args:
        decay: a.
    """

    reach = "any"

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay, self.names = decay, (f"gwesp({decay:g})",)

    def statistic(self, y: Networks) -> Tensor:
        both = (y.matrix * _geometric(y.paths, self.decay)).sum((1, 2))[:, None]
        return both if y.directed else both / 2

    def change(self, at: Neighbourhoods) -> Tensor:
        own = _geometric((at.from_i * at.to_j).sum(2), self.decay)
        # the tie i -> j makes a path i -> j -> k where there is a tie i -> k, and k -> i -> j where there is k -> j
        tie = at.tie[..., None]
        ahead = at.from_i * at.from_j * _further((at.paths_from_i() - tie).clamp(min=0), self.decay)
        behind = at.to_i * at.to_j * _further((at.paths_to_j() - tie).clamp(min=0), self.decay)
        return (own + ahead.sum(2) + behind.sum(2))[..., None]


def _binomial(d: Tensor, k: int) -> Tensor:
    """C(d, k), a polynomial in d."""
    return torch.stack([(d - m) / (k - m) for m in range(k)]).prod(0) if k else torch.ones_like(d)


def _geometric(m: Tensor, decay: float) -> Tensor:
    """f(m) = e^a (1 - (1 - e^-a)^m)."""
    return math.exp(decay) * (1 - _further(m, decay))


def _further(m: Tensor, decay: float) -> Tensor:
    """f(m + 1) - f(m) = (1 - e^-a)^m; at a = 0, where only the first counts, 0^0 is 1."""
    return torch.pow(-math.expm1(-decay), m)
