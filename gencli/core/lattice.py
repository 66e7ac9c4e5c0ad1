"""Square lattices of H x W sites: which sites are joined, and which can be changed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


@dataclass(frozen=True)
class Lattice:
    """H x W sites in the order of rows; each has a bond to its right and to its lower neighbour.

    Where it is periodic, the last site of a row or column has the first one as its neighbour: a torus, or a ring where
    one side is 1. Along a periodic side of 2 two sites are then joined by two bonds, both of which count, as in the
    formulas of the torus. Along a side of 1 there are no bonds: no site is its own neighbour.

    Args:
        height: H.
        width: W.
        periodic: whether rows and columns close.

    Example:
        >>> len(Lattice(4, 4).edges()), len(Lattice(4, 4, periodic=False).edges()), len(Lattice(1, 5).edges())
        (32, 24, 5)
    """

    height: int
    width: int
    periodic: bool = True

    @classmethod
    def of(cls, shape: Sequence[int], periodic: bool = True) -> Lattice:
        """The lattice of images (1, H, W), or of vectors (D,), which lie in one row.

        Raises:
            ValueError: images of several channels.
        """
        if len(shape) == 3 and shape[0] != 1:
            raise ValueError(f"a lattice is an image of one channel; this data has {shape[0]}")
        height, width = shape[-2:] if len(shape) == 3 else (1, shape[0])
        return cls(height, width, periodic)

    def edges(self) -> Tensor:
        """(E, 2) sites that are joined, bonds to the right first, then bonds down; a bond appears once."""
        site = torch.arange(self.height * self.width).view(self.height, self.width)
        found = []
        for axis in (1, 0):
            length = site.shape[axis]
            if length == 1:
                continue
            ends = torch.stack([site, site.roll(-1, axis)], 2)
            kept = length if self.periodic else length - 1
            found.append(ends.narrow(axis, 0, kept).reshape(-1, 2))
        return torch.cat(found) if found else site.new_zeros(0, 2)

    def blocks(self) -> tuple[Tensor, ...]:
        """Sets of sites without a bond within a set: the checkerboard's two, three where a ring of odd length closes.

        A ring of odd length has the colours 0 1 0 1 .. 2. Colours of a row and of a column add up to a colouring of
        their product, modulo their number.
        """

        def colours(length: int) -> Tensor:
            along = torch.arange(length) % 2
            if self.periodic and length % 2 and length > 1:
                along[-1] = 2
            return along

        rows, columns = colours(self.height), colours(self.width)
        number = int(max(rows.max(), columns.max())) + 1
        colour = ((rows[:, None] + columns) % number).flatten()
        return tuple(found for c in range(number) if len(found := (colour == c).nonzero().flatten()))


def clusters(joined: Tensor, edges: Tensor, sites: int) -> Tensor:
    """What hangs together: the first site of each site's cluster, (n, D).

    Args:
        joined: (n, E) whether a bond is there, in each of n graphs.
        edges: (E, 2) the sites that a bond joins.
        sites: D.
    """
    n = len(joined)
    graph, bond = joined.cpu().nonzero(as_tuple=True)
    ends = (edges.cpu()[bond] + sites * graph[:, None]).numpy()
    whole = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(n * sites, n * sites))
    number, labels = connected_components(whole, directed=False)
    first = np.empty(number, np.int64)
    first[labels[::-1]] = np.arange(n * sites)[::-1]  # of several values for one place, the last one stays
    return (torch.from_numpy(first[labels]).view(n, sites) % sites).to(joined.device)
