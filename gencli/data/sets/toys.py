"""Two-dimensional toys with known entropy: the generators that the literature of flows and energy-based models shares.

They are those of "FFJORD: Free-form continuous dynamics for scalable reversible generative models" (Grathwohl et al.,
2019), drawn here as independent examples (angles and modes at random, not on a grid), which leaves their density
unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Count, Seed
from gencli.core.spec import Spec, Support
from gencli.data.base import Modes
from gencli.data.lazy import Lazy
from gencli.data.sets import toy_densities
from gencli.data.split import SPLITS, TensorSplit

Generate = Callable[[np.random.Generator, int], np.ndarray]


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def moons(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two interleaved half circles with noise 0.1, then 2 x + (-1, -0.2)."""
    angle, lower = rng.uniform(0, math.pi, n), rng.random(n) < 0.5
    arc = _polar(np.ones(n), angle)
    arc[lower] = [1.0, 0.5] - arc[lower]
    return 2 * (arc + 0.1 * rng.normal(size=(n, 2))) + [-1.0, -0.2]


def circles(rng: np.random.Generator, n: int) -> np.ndarray:
    """Circles of radius 3 and 1.5 with noise 0.24."""
    radius = rng.choice([3.0, 1.5], n)
    return _polar(radius, rng.uniform(0, 2 * math.pi, n)) + 0.24 * rng.normal(size=(n, 2))


def rings(rng: np.random.Generator, n: int) -> np.ndarray:
    """Circles of radius 3, 2.25, 1.5 and 0.75 with noise 0.08, in equal shares."""
    radius = rng.choice([3.0, 2.25, 1.5, 0.75], n)
    return _polar(radius, rng.uniform(0, 2 * math.pi, n)) + 0.08 * rng.normal(size=(n, 2))


def pinwheel(rng: np.random.Generator, n: int) -> np.ndarray:
    """Five arms: (1 + 0.3 e, 0.1 e') turned by the arm's angle + exp(radius) / 4, times 2."""
    r = 1 + 0.3 * rng.normal(size=n)
    t = 0.1 * rng.normal(size=n)
    angle = 2 * math.pi * rng.integers(5, size=n) / 5 + 0.25 * np.exp(r)
    cos, sin = np.cos(angle), np.sin(angle)
    return 2 * np.stack([r * cos + t * sin, -r * sin + t * cos], 1)


def swissroll(rng: np.random.Generator, n: int) -> np.ndarray:
    """t (cos t, sin t) + e for t ~ U[1.5 pi, 4.5 pi), divided by 5."""
    t = 1.5 * math.pi * (1 + 2 * rng.random(n))
    return (_polar(t, t) + rng.normal(size=(n, 2))) / 5


def spirals(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two arms: (-t cos t + u / 2, t sin t + u' / 2) / 3 for t = 3 pi sqrt(u''), mirrored or not, with noise 0.1."""
    t = 3 * math.pi * np.sqrt(rng.random(n))
    arm = np.stack([-t * np.cos(t), t * np.sin(t)], 1) + 0.5 * rng.random((n, 2))
    sign = rng.choice([-1.0, 1.0], (n, 1))
    return sign * arm / 3 + 0.1 * rng.normal(size=(n, 2))


def checkerboard(rng: np.random.Generator, n: int) -> np.ndarray:
    """Uniform on the eight dark squares of side 2 in [-4, 4)^2."""
    x = rng.uniform(-2, 2, n)
    y = rng.random(n) - 2 * rng.integers(2, size=n) + np.floor(x) % 2
    return 2 * np.stack([x, y], 1)


def eight_gaussians(rng: np.random.Generator, n: int) -> np.ndarray:
    """Modes on a circle of radius 4 with deviation 0.5, divided by 1.414."""
    centre = _polar(np.full(n, 4.0), 2 * math.pi * rng.integers(8, size=n) / 8)
    return (centre + 0.5 * rng.normal(size=(n, 2))) / 1.414


def twentyfive_gaussians(rng: np.random.Generator, n: int) -> np.ndarray:
    """Modes on a 5 x 5 grid of spacing 4 with deviation 0.2, divided by 1.414."""
    return (4.0 * rng.integers(-2, 3, size=(n, 2)) + 0.2 * rng.normal(size=(n, 2))) / 1.414


def two_gaussians(rng: np.random.Generator, n: int) -> np.ndarray:
    """Modes at (-4, 0) and (4, 0) with deviation 1 and weights 0.2 and 0.8: far apart and unequal."""
    x = rng.normal(size=(n, 2))
    x[:, 0] += np.where(rng.random(n) < 0.2, -4.0, 4.0)
    return x


Name = Literal[
    "moons", "circles", "rings", "pinwheel", "swissroll", "spirals", "checkerboard", "eight_gaussians",
    "twentyfive_gaussians", "two_gaussians",
]  # fmt: skip

GENERATORS: dict[Name, tuple[Generate, float, float]] = {
    # name: generator, H in nats, error of H. Histograms of 30 million examples, with Richardson's extrapolation in the
    # size of the bins, give +-0.002.
    # The density of circles and rings is known as a function of the radius (Bessel functions), those of eight_gaussians
    # and two_gaussians in the plane: quadrature.
    "moons": (moons, 2.3935, 0.002),
    "circles": (circles, 3.268136, 1e-5),
    "rings": (rings, 2.623183, 1e-5),
    "pinwheel": (pinwheel, 2.3181, 0.002),
    "swissroll": (swissroll, 2.6695, 0.002),
    "spirals": (spirals, 2.6455, 0.002),
    "checkerboard": (checkerboard, math.log(32), 0.0),
    "eight_gaussians": (eight_gaussians, 2.831880, 1e-5),
    # ln 25 + ln(2 pi e s^2), s = 0.2 / 1.414: the modes do not overlap
    "twentyfive_gaussians": (twentyfive_gaussians, math.log(25 * 2 * math.pi * math.e * (0.2 / 1.414) ** 2), 1e-6),
    "two_gaussians": (two_gaussians, 3.338206, 1e-6),
}

_ANGLES = torch.arange(8, dtype=torch.float64) * 2 * math.pi / 8
_GRID = torch.arange(-2, 3, dtype=torch.float64)

MODES: dict[str, Modes] = {
    "eight_gaussians": Modes(torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1) * 4 / 1.414, 0.5 / 1.414),
    "twentyfive_gaussians": Modes(torch.cartesian_prod(_GRID, _GRID) * 4 / 1.414, 0.2 / 1.414),
}


class Toy(Lazy):
    """One of the toys, with fixed seeded splits.

    Args:
        which: name of the generator.
        train: number of training examples.
        val: number of validation examples.
        test: number of test examples.
        seed: of the examples.
    """

    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self, which: Name, train: Count = 100_000, val: Count = 10_000, test: Count = 20_000, seed: Seed = 0
    ) -> None:
        super().__init__()
        self.name = which
        self.spec = Spec((2,), Support.parse(self.support))
        self.generate, self.entropy, self.entropy_error = GENERATORS[which]
        self.modes = MODES.get(which)
        self.sizes, self.seed = dict(zip(SPLITS, (train, val, test), strict=True)), seed

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor | None:
        return toy_densities.log_density(self.name, x)

    def load(self, name: str) -> TensorSplit:
        rng = np.random.default_rng([self.seed, SPLITS.index(name)])
        return TensorSplit(torch.from_numpy(self.generate(rng, self.sizes[name])).float())
