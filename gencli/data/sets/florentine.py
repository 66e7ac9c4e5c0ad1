"""Sixteen families of Florence in the fifteenth century: who married whom, and who did business with whom.

From Padgett's coding of "The Medici" (Kent, "The rise of the Medici", 1978), as used in "Robust action and the rise of
the Medici" (Padgett and Ansell, 1993); the tables are those of UCINET and of the statnet package ergm (statnet.org).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from gencli.core.spec import Graph
from gencli.data.networks import Observed

# wealth in 1427 (thousands of lira), seats in the civic council from 1282 to 1344, ties of all kinds among 116 families
FAMILIES: dict[str, tuple[int, int, int]] = {
    "Acciaiuoli": (10, 53, 2), "Albizzi": (36, 65, 3), "Barbadori": (55, 0, 14), "Bischeri": (44, 12, 9),
    "Castellani": (20, 22, 18), "Ginori": (32, 0, 9), "Guadagni": (8, 21, 14), "Lamberteschi": (42, 0, 14),
    "Medici": (103, 53, 54), "Pazzi": (48, 0, 7), "Peruzzi": (49, 42, 32), "Pucci": (3, 0, 1),
    "Ridolfi": (27, 38, 4), "Salviati": (10, 35, 5), "Strozzi": (146, 74, 29), "Tornabuoni": (48, 0, 7),
}  # fmt: skip

# Of each family by number, those with a greater number to which there is a tie.
TIES: dict[str, dict[int, tuple[int, ...]]] = {
    "marriage": {
        0: (8,), 1: (5, 6, 8), 2: (4, 8), 3: (6, 10, 14), 4: (10, 14), 6: (7, 15), 8: (12, 13, 15), 9: (13,),
        10: (14,), 12: (14, 15),
    },
    "business": {
        2: (4, 5, 8, 10), 3: (6, 7, 10), 4: (7, 10), 5: (8,), 6: (7,), 7: (10,), 8: (9, 13, 15),
    },
}  # fmt: skip


class Florentine(Observed):
    """Ties among 16 families: 20 by marriage, or 15 by business; attributes ``wealth``, ``priorates``, ``totalties``.

    The other kind of tie is a covariate of the dyads, for ``edgecov``.

    Args:
        ties: ``marriage`` or ``business``.
    """

    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def __init__(self, ties: Literal["marriage", "business"] = "marriage") -> None:
        self.ties, self.name = ties, "florentine" if ties == "marriage" else "florentine_business"
        super().__init__()

    def read(self) -> tuple[Graph, np.ndarray]:
        matrices = {}
        for kind, ties in TIES.items():
            matrices[kind] = np.zeros((16, 16), dtype=np.uint8)
            for i, others in ties.items():
                matrices[kind][i, list(others)] = matrices[kind][list(others), i] = 1
        columns = zip(*FAMILIES.values(), strict=True)
        attributes = tuple(zip(("wealth", "priorates", "totalties"), columns, strict=True))
        other = "business" if self.ties == "marriage" else "marriage"
        covariate = tuple(tuple(map(float, row)) for row in matrices[other])
        graph = Graph(16, names=tuple(FAMILIES), attributes=attributes, covariates=((other, covariate),))
        return graph, matrices[self.ties]
