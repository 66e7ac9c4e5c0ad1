"""A table of two reals and two categories that no column tells alone: points on a ring, its number and its colour.

    theta ~ U[0, 2 pi),  r ~ N(1.5, 0.015^2),  ring ~ U{0..3},  colour = (floor(8 theta / 2 pi) + 4 ring) mod 16,
    x = r cos theta,  y = r sin theta

The synthetic table of "Energy-based modelling for discrete and mixed data via heat equations on structured spaces"
(Schröder, Ou, Li and Duncan, 2024), where the four rings are shown apart, (x, y) times ring + 1. The colour follows
from the others, and the ring is free of the place, so that

    H = h(r) + E ln(2 pi r) + ln 4,    h(r) = ln(2 pi e 0.015^2) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, near
from gencli.core.options import Count, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import SPLITS, TensorSplit

RADIUS, STD, RINGS, COLOURS, ARCS = 1.5, 0.015, 4, 16, 8

COLUMNS = {
    "x": Support("real"),
    "y": Support("real"),
    "ring": Support("categorical", RINGS),
    "colour": Support("categorical", COLOURS),
}


class SyntheticTabular(Lazy):
    """Columns x, y, ring and colour; the base measure of the NLL is Lebesgue's on x and y and counting on the rest.

    Args:
        train: number of training examples.
        val: number of validation examples.
        test: number of test examples.
        seed: of the examples.
    """

    name = "synthetic_tabular"
    support: ClassVar[str] = "mixed"
    shape_kind: ClassVar[str] = "vector"
    # E ln r to the second order in STD / RADIUS; the next one is below 1e-8
    entropy = (
        0.5 * math.log(2 * math.pi * math.e * STD**2)
        + math.log(2 * math.pi * RADIUS)
        - 0.5 * (STD / RADIUS) ** 2
        + math.log(RINGS)
    )

    def __init__(self, train: Count = 100_000, val: Count = 10_000, test: Count = 20_000, seed: Seed = 0) -> None:
        super().__init__()
        self.spec = Spec((len(COLUMNS),), Support.of_columns([*COLUMNS.values()]))
        self.sizes, self.seed = dict(zip(SPLITS, (train, val, test), strict=True)), seed

    def load(self, name: str) -> TensorSplit:
        rng, n = np.random.default_rng([self.seed, SPLITS.index(name)]), self.sizes[name]
        turn, radius, ring = rng.random(n), rng.normal(RADIUS, STD, n), rng.integers(RINGS, size=n)
        colour = (np.floor(ARCS * turn) + 4 * ring) % COLOURS
        angle = 2 * math.pi * turn
        x = np.stack([radius * np.cos(angle), radius * np.sin(angle), ring, colour], 1)
        return TensorSplit(torch.from_numpy(x).float())

    def to_plane(self, x: Tensor) -> Tensor:
        """The rings apart: (x, y) times ring + 1."""
        return x[:, :2] * (x[:, 2:3] + 1)

    def from_rows(self, cells: Mapping[str, np.ndarray]) -> Tensor:
        for name in sorted(COLUMNS.keys() - cells.keys()):
            raise UsageError(f"x has no column '{name}'. {near(name, cells)}")
        return torch.stack([torch.as_tensor(np.asarray(cells[name], dtype=np.float64)) for name in COLUMNS], 1)

    def to_rows(self, x: Tensor) -> dict[str, list[Any]]:
        columns = zip(COLUMNS.items(), x.T, strict=True)
        return {name: (column.long() if kind.discrete else column).tolist() for (name, kind), column in columns}
