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


class Networks:
    """Networks x (n, D), as one bit a dyad, looked at by their nodes; what is asked for is worked out once.

    Args:
        x: floats.
        dyads: where they lie.
    """

    def __init__(self, x: Tensor, dyads: Dyads) -> None:
        self.x, self.dyads = x, dyads

    def _pairs(self, index: Tensor, between: Tensor) -> Tensor:
        """y at pairs of nodes, whose dyads are (n, ...): (n, ...)."""
        return self.x.gather(1, index.flatten(1)).view(index.shape) * between

    @cached_property
    def matrix(self) -> Tensor:
        """y (n, N, N)."""
        n, N = len(self.x), self.dyads.graph.nodes
        return self.x[:, self.dyads.index.flatten()].view(n, N, N) * self.dyads.between

    @cached_property
    def paths(self) -> Tensor:
        """P (n, N, N)."""
        return self.matrix @ self.matrix

    @cached_property
    def degrees(self) -> Tensor:
        """d (n, N), of undirected networks."""
        return self.matrix.sum(2)

    def row(self, i: Tensor) -> Tensor:
        """y_i. of nodes i (n, W): (n, W, N)."""
        return self._pairs(self.dyads.index[i], self.dyads.between[i])

    def column(self, j: Tensor) -> Tensor:
        """y_.j of nodes j (n, W): (n, W, N)."""
        return self._pairs(self.dyads.index.T[j], self.dyads.between[j])

    def tie(self, i: Tensor, j: Tensor) -> Tensor:
        """y_ij of pairs (n, W)."""
        return self._pairs(self.dyads.index[i, j], self.dyads.between[i, j])

    def paths_from(self, i: Tensor) -> Tensor:
        """P_i. of nodes i (n, W): (n, W, N); of few nodes without working out all of P."""
        if i.shape[1] < self.dyads.graph.nodes:
            return self.row(i) @ self.matrix
        return self.paths.gather(1, i[..., None].expand(-1, -1, self.matrix.shape[2]))

    def paths_to(self, j: Tensor) -> Tensor:
        """P_.j of nodes j (n, W): (n, W, N)."""
        if not self.dyads.graph.directed:
            return self.paths_from(j)
        if j.shape[1] < self.dyads.graph.nodes:
            return self.column(j) @ self.matrix.transpose(1, 2)
        return self.paths.transpose(1, 2).gather(1, j[..., None].expand(-1, -1, self.matrix.shape[2]))


class Term(nn.Module, ABC):
    """One or several statistics.

    ``names``: of each. ``independent``: whether a dyad's change statistics do not depend on other dyads.
    """

    names: tuple[str, ...]
    independent = False

    @abstractmethod
    def statistic(self, y: Networks) -> Tensor:
        """s(y): (n, K)."""

    @abstractmethod
    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        """Change statistics of the dyads i, j (n, W), W of each network: (n, W, K)."""


class DyadCovariates(Term):
    """sum_ij y_ij w_ijk over dyads: each dyad has its weights, whatever the others are.

    Args:
        names: K.
        weights: (N, N, K).
    """

    weights: Tensor
    independent = True

    def __init__(self, names: tuple[str, ...], weights: Tensor) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("weights", weights.float(), persistent=False)

    def statistic(self, y: Networks) -> Tensor:
        return y.x @ self.weights[y.dyads.i, y.dyads.j]

    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        return self.weights[i, j]


class Mutual(Term):
    """Pairs of nodes with ties both ways; of directed networks."""

    names = ("mutual",)

    def statistic(self, y: Networks) -> Tensor:
        return 0.5 * (y.matrix * y.matrix.transpose(1, 2)).sum((1, 2))[:, None]

    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        return y.tie(j, i)[..., None]


class Triangles(Term):
    """Sets of three ties; of directed networks transitive and cyclic triples together."""

    names = ("triangles",)

    def statistic(self, y: Networks) -> Tensor:
        cyclic = (y.matrix * y.paths.transpose(1, 2)).sum((1, 2))[:, None]
        if not y.dyads.graph.directed:
            return cyclic / 6
        return cyclic / 3 + (y.matrix * y.paths).sum((1, 2))[:, None]

    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        from_i, from_j = y.row(i), y.row(j)
        if not y.dyads.graph.directed:
            return (from_i * from_j).sum(2, keepdim=True)
        to_i, to_j = y.column(i), y.column(j)
        return (from_i * (to_j + from_j) + to_i * (to_j + from_j)).sum(2, keepdim=True)


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

    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        without = degrees_without(y, i, j)
        return _binomial(without, self.k - 1).sum(-1, keepdim=True)


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

    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        return _further(degrees_without(y, i, j), self.decay).sum(-1, keepdim=True)


class GeometricSharedPartners(Term):
    """sum of f(P_ij) over ties: shared partners, each of which counts (1 - e^-a) as much as the one before.

    Args:
        decay: a.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay, self.names = decay, (f"gwesp({decay:g})",)

    def statistic(self, y: Networks) -> Tensor:
        both = (y.matrix * _geometric(y.paths, self.decay)).sum((1, 2))[:, None]
        return both if y.dyads.graph.directed else both / 2

    def change(self, y: Networks, i: Tensor, j: Tensor) -> Tensor:
        tie, from_i, to_j = y.tie(i, j)[..., None], y.row(i), y.column(j)
        own = _geometric((from_i * to_j).sum(2), self.decay)
        # the tie i -> j makes a path i -> j -> k where there is a tie i -> k, and k -> i -> j where there is k -> j
        ahead = from_i * y.row(j) * _further((y.paths_from(i) - tie).clamp(min=0), self.decay)
        behind = y.column(i) * to_j * _further((y.paths_to(j) - tie).clamp(min=0), self.decay)
        return (own + ahead.sum(2) + behind.sum(2))[..., None]


def degrees_without(y: Networks, i: Tensor, j: Tensor) -> Tensor:
    """Degrees of both ends of dyads (n, W) but for the tie between them: (n, W, 2)."""
    return torch.stack([y.row(i).sum(2), y.row(j).sum(2)], -1) - y.tie(i, j)[..., None]


def _binomial(d: Tensor, k: int) -> Tensor:
    """C(d, k), a polynomial in d."""
    return torch.stack([(d - m) / (k - m) for m in range(k)]).prod(0) if k else torch.ones_like(d)


def _geometric(m: Tensor, decay: float) -> Tensor:
    """f(m) = e^a (1 - (1 - e^-a)^m)."""
    return math.exp(decay) * (1 - _further(m, decay))


def _further(m: Tensor, decay: float) -> Tensor:
    """f(m + 1) - f(m) = (1 - e^-a)^m; at a = 0, where only the first counts, 0^0 is 1."""
    return torch.pow(-math.expm1(-decay), m)
