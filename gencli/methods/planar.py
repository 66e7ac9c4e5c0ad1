"""Z of planar Ising models without a field, of any couplings, by one determinant.

E(x) = -sum_e J_e s_i s_j on a graph that is drawn in the plane with straight edges. With t_e = tanh J_e,

    Z^2 = 4^D prod_e cosh^2 J_e det(I - A),    A_fg = t_f exp(i angle(f, g) / 2),

over the 2E directed edges: f ends where g begins, g is not f turned back, and the angle, in (-pi, pi), is that by which
the drawing turns from f to g. Which drawing it is does not matter.

References:
    Kac and Ward, "A combinatorial solution of the two-dimensional Ising model", 1952.
    Lis, "A short proof of the Kac-Ward formula", 2016.
"""

from __future__ import annotations

import math

import networkx as nx
import torch
from torch import Tensor

from gencli.kernels.energy import Pairs


def spins(pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Bits over pairs as spins s = 2x - 1: E(x) = c - sum_e J_e s_i s_j - sum_i h_i s_i, in float64.

    Returns:
        J (E,), h (D,) and c (), differentiable.
    """
    unary, tables = pairs.unary.double(), pairs.tables.double()
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=unary.device)
    J = -torch.einsum("ekl,k,l->e", tables, signs, signs) / 4
    h = -(unary @ signs) / 2
    h = h.index_add(0, pairs.edges[:, 0], -torch.einsum("ekl,k->e", tables, signs) / 4)
    h = h.index_add(0, pairs.edges[:, 1], -torch.einsum("ekl,l->e", tables, signs) / 4)
    return J, h, unary.mean(1).sum() + tables.mean((1, 2)).sum()


def drawing(edges: Tensor, sites: int) -> Tensor | None:
    """Places (D, 2) at which straight edges do not cross; None: the graph is not planar."""
    graph = nx.Graph()
    graph.add_nodes_from(range(sites))
    graph.add_edges_from(edges.tolist())
    planar, embedding = nx.check_planarity(graph)
    if not planar:
        return None
    places = nx.combinatorial_embedding_to_pos(embedding)
    return torch.tensor([places[i] for i in range(sites)], dtype=torch.float64)


def kac_ward(J: Tensor, edges: Tensor, places: Tensor) -> Tensor:
    """log Z () in nats, differentiable in J.

    Args:
        J: (E,) float64.
        edges: (E, 2), no two of which join the same sites.
        places: (D, 2) of a drawing with straight edges.
    """
    E = len(edges)
    start, end = torch.cat([edges, edges.flip(1)]).cpu().T
    along = places[end] - places[start]
    f, g = (end[:, None] == start).nonzero(as_tuple=True)
    f, g = (kept[(g != (f + E) % (2 * E)).nonzero().flatten()] for kept in (f, g))
    cross = along[f, 0] * along[g, 1] - along[f, 1] * along[g, 0]
    angle = torch.atan2(cross, (along[f] * along[g]).sum(1))
    weight = J.tanh().repeat(2)[f] * torch.polar(torch.ones_like(angle), angle / 2).to(J.device)
    A = torch.zeros(2 * E, 2 * E, dtype=torch.complex128, device=J.device).index_put((f, g), weight)
    log_det = torch.linalg.slogdet(torch.eye(2 * E, dtype=A.dtype, device=A.device) - A).logabsdet
    log_cosh = J.abs() + torch.log1p((-2 * J.abs()).exp()) - math.log(2)
    return len(places) * math.log(2) + log_cosh.sum() + 0.5 * log_det
