"""Linear maps of examples, and their adjoints: how what was observed came from x, z = A x + noise.

<A x, z> = <x, A' z> for every x and z. Inner products are sums over coordinates.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Operator(ABC):
    """A: x (n, *) -> z (n, m).

    Args:
        shape: the event shape of x.
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def size(self) -> int:
        """m, how many numbers are observed."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, z: Tensor) -> Tensor:
        """A' z, (n, m) -> (n, *)."""

    def seen(self, z: Tensor) -> Tensor:
        """z in the place of x, (n, *): what the observation looks like; A' z unless an operator knows better."""
        return self.adjoint(z)

    def to(self, device: torch.device) -> Operator:
        """The same operator on a device."""
        return self

    def norm(self, device: torch.device, steps: int = 30) -> float:
        """The largest singular value of A, by power iterations from a fixed x; low by a few per cent at most."""
        x = torch.cos(torch.arange(math.prod(self.shape), device=device)).view(1, *self.shape) + 1
        value = x.new_zeros(())
        for _ in range(steps):
            x = self.adjoint(self(x))
            value = x.norm()
            x = x / value
        return float(value.sqrt())


@dataclass(frozen=True)
class Identity(Operator):
    """z = x."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def adjoint(self, z: Tensor) -> Tensor:
        return z.view(-1, *self.shape)


@dataclass(frozen=True)
class Selection(Operator):
    """z = the coordinates of x that are seen.

    Args:
        mask: (*), True where x is seen.
    """

    mask: Tensor

    @property
    def size(self) -> int:
        return int(self.mask.sum())

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, self.mask]

    def adjoint(self, z: Tensor) -> Tensor:
        x = z.new_zeros(len(z), *self.shape)
        x[:, self.mask] = z
        return x

    def to(self, device: torch.device) -> Selection:
        return Selection(self.shape, self.mask.to(device))


@dataclass(frozen=True)
class Separable(Operator):
    """Z = R X C' of each channel of an image: a map of its columns and one of its rows.

    Args:
        rows: R (h, H).
        columns: C (w, W).
    """

    rows: Tensor
    columns: Tensor

    @property
    def size(self) -> int:
        return self.shape[0] * len(self.rows) * len(self.columns)

    def __call__(self, x: Tensor) -> Tensor:
        return (self.rows.to(x) @ x @ self.columns.T.to(x)).flatten(1)

    def adjoint(self, z: Tensor) -> Tensor:
        return self.rows.T.to(z) @ self._image(z) @ self.columns.to(z)

    def seen(self, z: Tensor) -> Tensor:
        return F.interpolate(self._image(z), size=self.shape[1:], mode="nearest")

    def _image(self, z: Tensor) -> Tensor:
        return z.view(-1, self.shape[0], len(self.rows), len(self.columns))

    def to(self, device: torch.device) -> Separable:
        return Separable(self.shape, self.rows.to(device), self.columns.to(device))


@dataclass(frozen=True)
class Matrix(Operator):
    """z = A x of x as a vector, image rows one after the other.

    Args:
        matrix: A (m, D).
    """

    matrix: Tensor

    @property
    def size(self) -> int:
        return len(self.matrix)

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T.to(x)

    def adjoint(self, z: Tensor) -> Tensor:
        return (z @ self.matrix.to(z)).view(-1, *self.shape)

    def to(self, device: torch.device) -> Matrix:
        return Matrix(self.shape, self.matrix.to(device))


def blur(shape: tuple[int, ...], kernel: str, width: float) -> Separable:
    """A blur of images (C, H, W) whose edges are mirrored, so that a constant image stays as it is.

    Args:
        shape: of the image.
        kernel: ``gaussian`` or ``box``.
        width: deviation of the one in pixels, cut at four of them; side of the other, a whole number.
    """

    def along(side: int) -> Tensor:
        unit = np.eye(side)
        if kernel == "gaussian":
            found = ndimage.gaussian_filter1d(unit, width, axis=0, mode="reflect")
        else:
            found = ndimage.uniform_filter1d(unit, round(width), axis=0, mode="reflect")
        return torch.from_numpy(found).float()

    return Separable(shape, along(shape[1]), along(shape[2]))


def block_means(shape: tuple[int, ...], factor: int) -> Separable:
    """The means of blocks of factor x factor pixels of images (C, H, W), whose sides the factor divides."""

    def along(side: int) -> Tensor:
        return torch.eye(side // factor).repeat_interleave(factor, 1) / factor

    return Separable(shape, along(shape[1]), along(shape[2]))
