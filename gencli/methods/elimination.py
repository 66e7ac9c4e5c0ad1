"""Z of an energy over pairs by summing out one coordinate after the other, exactly.

    Z = sum_x prod_i f_i(x_i) prod_e f_e(x_i, x_j)

A table over the coordinates that are begun and not yet finished, the frontier, is carried along: a coordinate joins it
with its factors, and is summed out once all of its neighbours have joined. On a strip of a lattice, site after site,
this is the transfer matrix, of which no more than one factor is ever written down.

References:
    Kramers and Wannier, "Statistics of the two-dimensional ferromagnet", 1941 (the transfer matrix).
    Dechter, "Bucket elimination: a unifying framework for reasoning", 1999.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from gencli.kernels.energy import Pairs


def _neighbours(edges: Tensor, sites: int) -> list[set[int]]:
    near: list[set[int]] = [set() for _ in range(sites)]
    for i, j in edges.tolist():
        near[i].add(j)
        near[j].add(i)
    return near


def _walk(order: Sequence[int], near: Sequence[set[int]]) -> Iterator[tuple[int, list[int], list[int]]]:
    """Each coordinate in order, the frontier that it joins, and which of both together are finished with it."""
    left = [len(some) for some in near]
    frontier: list[int] = []
    for i in order:
        here = [*frontier, i]
        for j in near[i]:
            left[j] -= 1
        # a coordinate is finished when all of its neighbours have joined
        done = [j for j in here if left[j] == 0]
        yield i, frontier, done
        frontier = [j for j in here if left[j]]


def plan(edges: Tensor, sites: int) -> tuple[list[int], int]:
    """An order of the coordinates, and the most that the table ever has on its axes with it.

    The narrower one of the order that they have and of that by reverse Cuthill and McKee, which walks a lattice along
    its longer side.

    Args:
        edges: (E, 2) the coordinates that interact.
        sites: D.
    """
    near = _neighbours(edges, sites)
    ends = edges.cpu().numpy()
    graph = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(sites, sites)).tocsr()
    orders = [list(range(sites)), reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True).tolist()]
    widths = [max(len(frontier) + 1 for _, frontier, _ in _walk(order, near)) for order in orders]
    return min(zip(orders, widths, strict=True), key=lambda found: found[1])


def log_partition(pairs: Pairs) -> Tensor:
    """log Z () in nats, in float64, differentiable in both kinds of tables; K^width numbers are held at once.

    Args:
        pairs: without a dimension of chains.
    """
    unary, tables = (-t.double() for t in (pairs.unary, pairs.tables))
    D, K = unary.shape
    order, _ = plan(pairs.edges, D)
    bonds: dict[tuple[int, int], list[Tensor]] = {}
    for (i, j), table in zip(pairs.edges.tolist(), tables, strict=True):
        bonds.setdefault((i, j), []).append(table)
        bonds.setdefault((j, i), []).append(table.T)
    f, log_z = unary.new_ones(1), unary.new_zeros(())
    for i, frontier, done in _walk(order, _neighbours(pairs.edges, D)):
        level = unary[i].detach().max()
        f = f[:, None] * (unary[i] - level).exp()
        log_z = log_z + level
        for place, j in enumerate(frontier):
            for table in bonds.get((j, i), ()):
                high = table.detach().max()
                wide = f.view(K**place, K, -1, K)
                f = wide * (table - high).exp()[:, None]
                log_z = log_z + high
        here = [*frontier, i]
        for j in done:
            place = here.index(j)
            f = f.reshape(K**place, K, -1).sum(1)
            here.remove(j)
        f = f.reshape(-1)
        top = f.detach().max()
        f, log_z = f / top, log_z + top.log()
    return log_z + f.sum().log()
