"""The energies U1 to U4 of the plane on which flows are tried, with exact samples of exp(-U) and its entropy.

With w1 = sin(pi x1 / 2), w2 = 3 exp(-((x1 - 1) / 0.6)^2 / 2), w3 = 3 / (1 + exp(-(x1 - 1) / 0.3)):

    U1 = ((|x| - 2) / 0.4)^2 / 2 - ln(exp(-((x1 - 2) / 0.6)^2 / 2) + exp(-((x1 + 2) / 0.6)^2 / 2))
    U2 = ((x2 - w1) / 0.4)^2 / 2
    U3 = -ln(exp(-((x2 - w1) / 0.35)^2 / 2) + exp(-((x2 - w1 + w2) / 0.35)^2 / 2))
    U4 = -ln(exp(-((x2 - w1) / 0.4)^2 / 2) + exp(-((x2 - w1 + w3) / 0.35)^2 / 2))

U2 to U4 say nothing of how far x1 goes, so that their Z is infinite; here x1 is normal with deviation 2.

References:
    Rezende and Mohamed, "Variational inference with normalizing flows", 2015 (table 1).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Count, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import SPLITS, TensorSplit

Name = Literal["u1", "u2", "u3", "u4"]

WIDE = 2.0
"""Deviation of x1 in U2, U3 and U4."""

LOG_Z1 = 1.8775016261
"""log Z of U1, by quadrature."""

ENTROPIES: dict[Name, float] = {"u1": 2.66001254, "u2": 2.61473352, "u3": 2.72294414, "u4": 2.81097490}
"""H in nats, by quadrature, to 1e-6."""


def branches(which: Name, x1: Tensor) -> list[tuple[Tensor, float]]:
    """Where x2 lies given x1, in U2 to U4: (centre, deviation) of each branch, which has a share of its deviation."""
    w1 = (math.pi * x1 / 2).sin()
    if which == "u2":
        return [(w1, 0.4)]
    if which == "u3":
        return [(w1, 0.35), (w1 - 3 * (-(((x1 - 1) / 0.6) ** 2) / 2).exp(), 0.35)]
    return [(w1, 0.4), (w1 - 3 * ((x1 - 1) / 0.3).sigmoid(), 0.35)]


def log_density(which: Name, x: Tensor) -> Tensor:
    """log p(x) of points (B, 2), in nats: (B,) in fp64, differentiable."""
    x = x.double()
    x1, x2 = x.unbind(1)
    if which == "u1":
        bumps = torch.logaddexp(-(((x1 - 2) / 0.6) ** 2) / 2, -(((x1 + 2) / 0.6) ** 2) / 2)
        return bumps - (((x.square().sum(1) + 1e-300).sqrt() - 2) / 0.4) ** 2 / 2 - LOG_Z1
    found = branches(which, x1)
    log_norm = math.log(2 * math.pi * WIDE * sum(deviation for _, deviation in found))
    ridges = torch.stack([-(((x2 - centre) / deviation) ** 2) / 2 for centre, deviation in found])
    return ridges.logsumexp(0) - (x1 / WIDE) ** 2 / 2 - log_norm


def draw(which: Name, rng: np.random.Generator, n: int) -> np.ndarray:
    """Exact samples (n, 2): of U1 by rejection, of the others branch by branch."""
    if which == "u1":
        kept, count = [], 0
        while count < n:
            radius, angle = 2 + 0.4 * rng.normal(size=8 * n + 64), rng.uniform(0, 2 * math.pi, 8 * n + 64)
            x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
            bumps = np.exp(-(((x[:, 0] - 2) / 0.6) ** 2) / 2) + np.exp(-(((x[:, 0] + 2) / 0.6) ** 2) / 2)
            new = x[rng.random(len(x)) < radius / 5 * bumps / 1.001]  # radius > 5 is 7 deviations away
            kept.append(new)
            count += len(new)
        return np.concatenate(kept)[:n]
    x1 = WIDE * rng.normal(size=n)
    found = branches(which, torch.from_numpy(x1))
    centres = np.stack([centre.numpy() for centre, _ in found], 1)
    deviations = np.array([deviation for _, deviation in found])
    k = rng.choice(len(found), n, p=deviations / deviations.sum())
    return np.stack([x1, centres[np.arange(n), k] + deviations[k] * rng.normal(size=n)], 1)


class Potential(Lazy):
    """Examples of one of the densities exp(-U), with fixed seeded splits.

    Args:
        which: U1 to U4.
        train: number of training examples.
        val: number of validation examples.
        test: number of test examples.
        seed: of the examples.
    """

    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    entropy_error = 1e-6

    def __init__(
        self, which: Name = "u1", train: Count = 50_000, val: Count = 5_000, test: Count = 10_000, seed: Seed = 0
    ) -> None:
        super().__init__()
        self.name: str = f"potential_{which}"
        self.which = which
        self.spec = Spec((2,), Support.parse(self.support))
        self.entropy = ENTROPIES[which]
        self.sizes, self.seed = dict(zip(SPLITS, (train, val, test), strict=True)), seed

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return log_density(self.which, x)

    def load(self, name: str) -> TensorSplit:
        rng = np.random.default_rng([self.seed, SPLITS.index(name)])
        return TensorSplit(torch.from_numpy(draw(self.which, rng, self.sizes[name])).float())
