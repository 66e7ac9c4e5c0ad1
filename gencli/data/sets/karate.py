"""Zachary's karate club: 34 members of a university club, 78 friendships outside of it, before it split in two.

Ties and sides are those of "An information flow model for conflict and fission in small groups" (Zachary, 1977),
figures 1 and 3, as networkx and UCINET have them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gencli.core.spec import Graph
from gencli.data.networks import Observed

# Of each member, those with a greater number to whom there is a tie.
TIES: dict[int, tuple[int, ...]] = {
    1: (2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 18, 20, 22, 32), 2: (3, 4, 8, 14, 18, 20, 22, 31),
    3: (4, 8, 9, 10, 14, 28, 29, 33), 4: (8, 13, 14), 5: (7, 11), 6: (7, 11, 17), 7: (17,), 9: (31, 33, 34), 10: (34,),
    14: (34,), 15: (33, 34), 16: (33, 34), 19: (33, 34), 20: (34,), 21: (33, 34), 23: (33, 34),
    24: (26, 28, 30, 33, 34), 25: (26, 28, 32), 26: (32,), 27: (30, 34), 28: (34,), 29: (32, 34), 30: (33, 34),
    31: (33, 34), 32: (33, 34), 33: (34,),
}  # fmt: skip

OFFICER = frozenset((10, 15, 16, 19, 21, *range(23, 35)))  # who joined the officers' club after the split


class Karate(Observed):
    """The network of 34 members; attribute ``club``, the side that each took: ``Mr. Hi`` or ``Officer``."""

    name = "karate"
    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def read(self) -> tuple[Graph, np.ndarray]:
        members = range(1, 35)
        adjacency = np.zeros((34, 34), dtype=np.uint8)
        for i, others in TIES.items():
            for j in others:
                adjacency[i - 1, j - 1] = adjacency[j - 1, i - 1] = 1
        club = tuple("Officer" if i in OFFICER else "Mr. Hi" for i in members)
        return Graph(34, names=tuple(map(str, members)), attributes=(("club", club),)), adjacency
