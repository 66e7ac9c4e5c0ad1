"""Points of the plane as two words of digits: discrete data whose law is known to the last cell.

A square [-R, R)^2 of N x N cells holds the toy; a point becomes the numbers of its cell,

    k = floor(c (v + R)),    c = N / (2 R) cells a unit,    v = x, y,

and each number a word of D/2 digits. Codes of the same cells only rename them, so that the entropy is that of the
cells, which is h + 2 ln c where they are small against the toy: nats of such data depend on the scale c. It is an
option, fixed and recorded, where the published code measures it anew on random draws.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Count, Seed
from gencli.core.spec import Spec, Support
from gencli.data.cells import entropy, probabilities
from gencli.data.lazy import Lazy
from gencli.data.sets.toys import GENERATORS
from gencli.data.split import SPLITS, TensorSplit

Shape = Literal["spirals", "eight_gaussians", "circles", "moons", "pinwheel", "swissroll", "checkerboard"]

PUBLISHED: dict[Shape, tuple[float, float]] = {
    # name: cells a unit of 2^16 on a side, from 5,000 draws of RandomState(1) ("Generative flow networks for discrete
    # probabilistic modeling", Zhang et al., 2022); h in nats, by quadrature with Richardson's extrapolation in the size
    # of cells, whose error is below 1e-5.
    "spirals": (5978.5, 2.645450),
    "eight_gaussians": (5289.6, 2.831880),
    "circles": (5668.6, 3.268136),
    "moons": (5779.8, 2.393879),
    "pinwheel": (5510.9, 2.317793),
    "swissroll": (6222.6, 2.669646),
    "checkerboard": (5461.9, 3.465736),
}

REACH = 5.2
"""No toy has more than 1e-7 of its mass beyond it in x or y."""

TABLE = 1 << 10
"""Cells on a side up to which the law is tabulated; of more, h + 2 ln c is the entropy to 1e-5."""


class Quantised(Lazy):
    """A toy in the plane, each coordinate written in D/2 digits; what lies outside the square is in its outer cells.

    Args:
        toy: which.
        support: of a digit.
        digits: D.
        scale: c, cells a unit; None: the published square of the toy.
        sizes: train, val and test examples.
        seed: of the examples.

    Raises:
        ValueError: a scale whose square is too small for the toy.
    """

    def __init__(
        self, toy: Shape, support: Support, digits: int, scale: float | None, sizes: tuple[Count, ...], seed: Seed
    ) -> None:
        super().__init__()
        self.toy, self.seed = toy, seed
        self.sizes = dict(zip(SPLITS, sizes, strict=True))
        self.spec = Spec((digits,), support)
        self.cells = support.size ** (digits // 2)
        self.scale = PUBLISHED[toy][0] * self.cells / 2**16 if scale is None else scale
        self.half = self.cells / (2 * self.scale)
        if self.half < REACH:
            raise ValueError(f"data.scale={scale}: at most {self.cells / (2 * REACH):.6g}; the toys reach {REACH}")

    @abstractmethod
    def word(self, k: np.ndarray) -> np.ndarray:
        """Numbers 0..N-1 (n,) int32 -> digits (n, D/2) uint8."""

    @abstractmethod
    def number(self, digits: Tensor) -> Tensor:
        """Digits (n, D/2) -> numbers (n,), long."""

    @cached_property
    def table(self) -> np.ndarray:
        """P[i, j] of the number i of x and j of y, (N, N)."""
        return probabilities(self.toy, self.cells, self.half)

    @cached_property
    def entropy(self) -> float:  # type: ignore[override]
        """H in nats: exact where the law is tabulated, else that of cells which are small against the toy."""
        return entropy(self.table) if self.cells <= TABLE else PUBLISHED[self.toy][1] + 2 * float(np.log(self.scale))

    def protocol(self) -> dict[str, object]:
        return {"scale": float(f"{self.scale:.6g}"), "digits": f"{self.spec.dim} of {self.spec.support}"}

    def load(self, name: str) -> TensorSplit:
        rng = np.random.default_rng([self.seed, SPLITS.index(name)])
        points = GENERATORS[self.toy][0](rng, self.sizes[name])
        return TensorSplit(self.from_plane(torch.from_numpy(points)))

    def numbers(self, x: Tensor) -> Tensor:
        """The numbers (n, 2) of the cells of x and y."""
        half = self.spec.dim // 2
        return torch.stack([self.number(x[:, :half]), self.number(x[:, half:])], 1)

    def from_plane(self, points: Tensor) -> Tensor:
        """Points (n, 2) -> examples (n, D) of their cells."""
        k = np.floor((points.numpy() + self.half) * self.scale).clip(0, self.cells - 1).astype(np.int32)
        return torch.from_numpy(np.concatenate([self.word(k[:, 0]), self.word(k[:, 1])], 1))

    def to_plane(self, x: Tensor) -> Tensor:
        return (self.numbers(x.cpu()).double() + 0.5) / self.scale - self.half

    def law(self) -> tuple[Tensor, Tensor] | None:
        if self.cells > TABLE:
            return None
        middles = (torch.arange(self.cells).double() + 0.5) / self.scale - self.half
        return self.from_plane(torch.cartesian_prod(middles, middles)), torch.from_numpy(self.table).log().flatten()
