"""Perturbations of discrete x: noise on bits, in the neighbourhood, in windows, and diffusions on the values.

All of them are symmetric, q(y | x) = q(x | y), so that a second draw from y has the density that energy discrepancy
asks for, and nothing is to be corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Spec
from gencli.objectives.energy.perturbations import Perturbation

DISCRETE = ("binary", "levels", "categorical")


def among(u: Tensor, values: int) -> Tensor:
    """Uniform numbers in [0, 1) as integers 0..values - 1."""
    return (u * values).long().clamp_(max=values - 1)  # the product may round up


@dataclass(frozen=True, kw_only=True)
class Bernoulli(Perturbation):
    """Each bit is flipped with probability epsilon.

    Args:
        epsilon: at 1/2 nothing is left of x.
    """

    kinds: ClassVar[tuple[str, ...]] = ("binary",)

    epsilon: float = 0.1

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        first = noise.rand(*x.shape).to(x.device) < self.epsilon
        second = noise.rand(len(x), samples, *x.shape[1:]).to(x.device) < self.epsilon
        return torch.where(first[:, None] ^ second, 1 - x[:, None], x[:, None]), None


@dataclass(frozen=True, kw_only=True)
class Uniform(Perturbation):
    """Each coordinate is drawn anew with probability epsilon, uniformly on its K values.

    Args:
        values: K.
        epsilon: at 1 nothing is left of x.
    """

    kinds: ClassVar[tuple[str, ...]] = DISCRETE

    values: int
    epsilon: float = 0.1

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        y = self._anew(x, noise)
        return self._anew(y[:, None].expand(-1, samples, *x.shape[1:]), noise), None

    def _anew(self, x: Tensor, noise: Noise) -> Tensor:
        chosen = noise.rand(*x.shape).to(x.device) < self.epsilon
        return torch.where(chosen, among(noise.rand(*x.shape).to(x.device), self.values).to(x.dtype), x)


@dataclass(frozen=True, kw_only=True)
class Grid(Perturbation):
    """One coordinate, each as likely, takes another of its K values: a step to a neighbour, and one from there.

    Args:
        values: K.
    """

    kinds: ClassVar[tuple[str, ...]] = DISCRETE

    values: int

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        flat = self._step(x.flatten(1)[:, None], noise).expand(-1, samples, -1)
        return self._step(flat, noise).view(len(x), samples, *x.shape[1:]), None

    def _step(self, x: Tensor, noise: Noise) -> Tensor:
        """A neighbour of each of x (B, M, D)."""
        u = noise.rand(*x.shape[:2], 2).to(x.device)
        where = among(u[..., :1], x.shape[2])
        value = (x.gather(2, where).long() + 1 + among(u[..., 1:], self.values - 1)) % self.values
        return x.scatter(2, where, value.to(x.dtype))


@dataclass(frozen=True, kw_only=True)
class Shuffling(Perturbation):
    """Pooling of discrete x: y is what each window holds, without the order, and x' any order of it.

    Windows are 2 neighbours in a vector, 2 x 2 pixels of a channel in an image. For bits y is the mean of a window.
    """

    kinds: ClassVar[tuple[str, ...]] = DISCRETE

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        window = windows(x.shape[1:]).to(x.device)
        n, D = len(x), len(window)
        u = noise.rand(n, samples, D).to(x.device).double()  # in float32 a window's number would swallow its digits
        place = window.argsort(stable=True).expand(n, samples, D)
        order = (window + u).argsort(2)
        flat = x.flatten(1)[:, None].expand(n, samples, D)
        return torch.empty_like(flat).scatter_(2, place, flat.gather(2, order)).view(n, samples, *x.shape[1:]), None


def windows(shape: tuple[int, ...]) -> Tensor:
    """The number of the window in which each coordinate lies, (D,)."""
    if len(shape) == 1:
        return torch.arange(shape[0]) // 2
    C, H, W = shape
    row, column = torch.arange(H) // 2, torch.arange(W) // 2
    number = row[:, None] * W + column
    return (torch.arange(C)[:, None, None] * H * W + number).flatten()


Values = Literal["line", "ring"]
"""Which values of a coordinate are neighbours: those of 0..K-1 in order, or 0 and K-1 too."""


@lru_cache(maxsize=8)
def heat(values: int, t: float, neighbours: Values) -> Tensor:
    """P = exp(t K^2 R), (K, K) in fp64: what a walk with rate 1 to each neighbour does in a time t K^2."""
    near = torch.diag(torch.ones(values - 1, dtype=torch.float64), 1)
    if neighbours == "ring" and values > 2:
        near[0, -1] = 1
    near = near + near.T
    return torch.linalg.matrix_exp(t * values**2 * (near - near.sum(1).diag()))


@dataclass(frozen=True, kw_only=True)
class Diffusion(Perturbation):
    """Each coordinate walks on its K values for a time t K^2, at rate 1 to each neighbour.

    On the line it is the heat equation with reflecting ends, on the ring that of a circle; in the limit of large K both
    are those of a length of 1 at the time t.

    Args:
        values: K.
        t: time, in units of K^2.
        neighbours: on a line or a ring.

    References:
        Schröder, Ou, Li and Duncan, "Energy-based modelling for discrete and mixed data via heat equations on
        structured spaces", 2024.
    """

    kinds: ClassVar[tuple[str, ...]] = DISCRETE

    values: int
    t: float
    neighbours: Values = "line"

    LARGEST: ClassVar[int] = 1024  # K

    def draw(self, x: Tensor, samples: int, noise: Noise) -> tuple[Tensor, None]:
        # rows of the distribution function one above the other: one search finds u in the row of a value
        cumulative = heat(self.values, self.t, self.neighbours).cumsum(1)
        cumulative[:, -1] = 1
        ends = (cumulative + torch.arange(self.values)[:, None]).flatten().to(x.device)
        y = self._walk(x, ends, noise)
        return self._walk(y[:, None].expand(-1, samples, *x.shape[1:]), ends, noise), None

    def _walk(self, x: Tensor, ends: Tensor, noise: Noise) -> Tensor:
        found = torch.searchsorted(ends, x.double() + noise.rand(*x.shape).to(ends), right=True)
        return (found - self.values * x.long()).to(x.dtype)


def few(dim: int, most: float) -> float:
    """The probability at which about four coordinates of x change, and ``most`` at most.

    Points that differ from x in many coordinates are told from it by any energy, and teach nothing.
    """
    return min(most, 4 / dim)


def local(spec: Spec) -> Perturbation:
    """The perturbation of discrete x that knows least of it: flipped bits, values drawn anew."""
    if spec.support.kind == "binary":
        return Bernoulli(epsilon=few(spec.dim, 0.1))
    return Uniform(values=spec.support.size, epsilon=few(spec.dim, 0.5))
