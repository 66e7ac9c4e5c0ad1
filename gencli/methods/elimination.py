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
    near = _neighbours(pairs.edges, D)
    order, _ = plan(pairs.edges, D)
    log_f: dict[tuple[int, int], Tensor] = {}  # of i and j, as (x_i, x_j)
    for (i, j), table in zip(pairs.edges.tolist(), tables, strict=True):
        log_f[i, j] = log_f.get((i, j), 0.0) + table
        log_f[j, i] = log_f.get((j, i), 0.0) + table.T
    f, log_z, axes = unary.new_ones(1), unary.new_zeros(()), list[int]()
    for i, _, done in _walk(order, near):
        joined = [j for j in axes if j in near[i]]
        gone = [j for j in joined if j in done]
        own = unary[i].expand(K, K)  # (x_j, x_i) of the neighbour whose axis i takes over
        if gone:
            own = own + log_f[gone[0], i]
        top = own.detach().max()
        log_z, factor = log_z + top, (own - top).exp()
        if gone:
            place = axes.index(gone[0])
            before = f.view(K**place, K, -1)
            parts = [before[:, k, None] * factor[k, :, None] for k in range(K)]  # no product of many tiny matrices
            f = sum(parts[1:], parts[0])
            axes[place] = i
        else:
            f = f[:, None] * factor[0]
            axes.append(i)
        for j in [j for j in joined if j not in gone[:1]]:
            table = log_f[min(i, j, key=axes.index), max(i, j, key=axes.index)]
            low, high = sorted((axes.index(i), axes.index(j)))
            top = table.detach().max()
            f = f.view(K**low, K, K ** (high - low - 1), K, -1) * (table - top).exp()[:, None, :, None]
            log_z = log_z + top
        for j in done:
            if j in axes:
                place = axes.index(j)
                f = f.view(K**place, K, -1).sum(1)
                axes.remove(j)
        f = f.reshape(-1)
        top = f.detach().max()
        f, log_z = f / top, log_z + top.log()
    return log_z + f.sum().log()
