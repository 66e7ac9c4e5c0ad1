"""Seeded randomness as an argument.

``StepNoise`` serves training: everything random at a step is a function of (seed, step, rank), so that a resumed run
repeats without a saved generator. ``RowNoise`` serves sampling and evaluation: one counter-based stream a row, so that
sample 17 is the same whatever the batch size, the device or the number of processes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd, as a signed 64-bit integer


def _mix(z: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
    z = (z ^ _shift(z, 30)) * -4658895280553007687
    z = (z ^ _shift(z, 27)) * -7723592293110705685
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch shifts signed integers arithmetically."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several integers (seed, step, rank ...), well spread even for neighbours."""
    mask = (1 << 64) - 1
    state = 0
    for part in parts:  # the same finalizer on Python integers: this runs at every training step
        z = ((state ^ part) + _GOLDEN) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        state = z ^ (z >> 31)
    return state >> 1


def seed_global(device: torch.device, seed: int) -> None:
    """Seed the global generators of the CPU and of one device; torch.manual_seed, which seeds all, is slower by far."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


class Noise(ABC):
    """A source of uniform and normal variates; the first dimension of every shape counts rows."""

    @abstractmethod
    def rand(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32, of the given shape."""

    @abstractmethod
    def randn(self, *shape: int) -> Tensor:
        """Standard normal, float32, of the given shape."""


class StepNoise(Noise):
    """The noise of one training step, from a generator on the device.

    Args:
        device: where the variates are made.
        parts: integers that name the step: seed, step, rank.
    """

    def __init__(self, device: torch.device, *parts: int) -> None:
        self.generator = torch.Generator(device).manual_seed(mix_seed(*parts))

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


class RowNoise(Noise):
    """One counter-based stream for each row.

    Row i's j-th variate is a hash of (seed, ids[i], j). Rows can be dealt to batches and processes in any way.

    Args:
        seed: the stream's seed.
        ids: (B,) integers that name the rows, such as an example's index in its split.
    """

    def __init__(self, seed: int, ids: Tensor) -> None:
        self.keys = _mix(_mix(ids.to(torch.int64) + _GOLDEN) ^ mix_seed(seed))
        self.used = 0

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        if shape[0] != len(self.keys):
            raise ValueError(f"RowNoise has {len(self.keys)} rows, {shape[0]} were asked for")
        columns = math.prod(shape[1:])
        counter = torch.arange(self.used + 1, self.used + columns + 1, device=self.keys.device)
        self.used += columns
        return _mix(self.keys[:, None] + counter * _GOLDEN).view(shape)

    def rand(self, *shape: int) -> Tensor:
        return _shift(self._bits(shape), 40).float() * 2.0**-24

    def randn(self, *shape: int) -> Tensor:
        # Box-Muller in fp64 on the 53 high bits, so that the tails reach 8.5 standard deviations. MPS has no fp64.
        bits = self._bits((*shape, 2))
        u = (_shift(bits.cpu() if bits.device.type == "mps" else bits, 11).double() + 0.5) * 2.0**-53
        z = (-2.0 * u[..., 0].log()).sqrt() * (2.0 * math.pi * u[..., 1]).cos()
        return z.float().to(bits.device)
