"""Lazega's lawyers: 36 partners of a New England law firm, 1988 to 1991, and who works with whom.

A tie is a mutual nomination as a strong co-worker: the 115 ties of "New specifications for exponential random graph
models" (Snijders, Pattison, Robins and Handcock, 2006). The study is "The collegial phenomenon" (Lazega, 2001); the
tables are those that accompany Siena, whose terms ask for that citation and name no licence.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gencli.core.spec import Graph
from gencli.data.networks import Observed

# Of each partner, those with a greater number to whom there is a tie.
TIES: dict[int, tuple[int, ...]] = {
    1: (17,), 2: (7, 16, 17, 22, 26, 29), 3: (18, 25, 28), 4: (12, 17, 19, 20, 22, 26, 28, 29, 31),
    5: (18, 24, 28, 31, 32, 33), 6: (24, 28, 30, 31, 32), 7: (18,), 9: (12, 16, 29), 10: (24, 26, 29, 31, 34),
    11: (17,), 12: (15, 16, 17, 19, 26, 29, 34), 13: (31, 33), 14: (16, 17, 25, 28, 30, 32),
    15: (16, 19, 20, 22, 24, 26, 29, 32, 35, 36), 16: (17, 22, 26, 27, 29, 32, 34, 36),
    17: (19, 22, 24, 25, 26, 28, 29, 34), 18: (28, 31, 32, 33, 35), 19: (22, 24, 26, 28, 34, 35), 20: (22, 26),
    21: (27,), 22: (31, 32), 24: (26, 31, 36), 25: (28, 35), 26: (27, 32), 28: (30, 31, 32, 35), 29: (34,), 30: (31,),
    31: (32, 33, 35), 32: (33, 35),
}  # fmt: skip

# Partners are numbered by seniority, 1 the most senior.
ATTRIBUTES: dict[str, tuple[int, ...]] = {
    "gender": (1,) * 26 + (2, 1, 2, 1, 1, 1, 1, 2, 1, 1),  # 1 man, 2 woman
    "office": (  # 1 Boston, 2 Hartford, 3 Providence
        1, 1, 2, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 2, 3, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 2, 1, 2, 2, 2, 2, 1, 2, 1,
    ),
    "years": (  # with the firm
        31, 32, 13, 31, 31, 29, 29, 28, 25, 25, 23, 24, 22, 1, 21, 20, 23, 18, 19, 19, 17, 9, 16, 15, 15, 15, 13, 11,
        10, 7, 8, 8, 8, 8, 8, 5,
    ),
    "age": (
        64, 62, 67, 59, 59, 55, 63, 53, 53, 53, 50, 52, 57, 56, 48, 46, 50, 45, 46, 49, 43, 49, 45, 44, 43, 41, 47, 38,
        38, 39, 34, 33, 37, 36, 33, 43,
    ),
    "practice": (  # 1 litigation, 2 corporate
        1, 2, 1, 2, 1, 1, 2, 1, 2, 2, 1, 2, 1, 2, 2, 2, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 2, 2, 1, 1, 1, 1, 2, 2, 1,
    ),
    "school": (  # 1 Harvard or Yale, 2 Connecticut, 3 other
        1, 1, 1, 3, 2, 1, 3, 3, 1, 3, 1, 2, 2, 1, 3, 1, 1, 2, 1, 1, 2, 3, 2, 2, 2, 3, 1, 2, 3, 3, 2, 3, 3, 2, 3, 3,
    ),
}  # fmt: skip


class Lazega(Observed):
    """The network of 36 partners; attributes ``seniority`` (number / 36), and those of ``ATTRIBUTES``."""

    name = "lazega"
    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def read(self) -> tuple[Graph, np.ndarray]:
        adjacency = np.zeros((36, 36), dtype=np.uint8)
        for i, others in TIES.items():
            for j in others:
                adjacency[i - 1, j - 1] = adjacency[j - 1, i - 1] = 1
        seniority = tuple(i / 36 for i in range(1, 37))
        names = tuple(map(str, range(1, 37)))
        return Graph(36, names=names, attributes=(("seniority", seniority), *ATTRIBUTES.items())), adjacency
