"""Seeded randomness as an argument.

One seed serves everything in a run: each ``Purpose`` has streams of its own. ``StepNoise`` serves training: everything
random at a step is a function of (seed, step, rank), so that a resumed run repeats without a saved generator.
``RowNoise`` serves sampling and evaluation: one counter-based stream a row, so that sample 17 is the same whatever the
batch size, the device or the number of processes.
"""

from __future__ import annotations

import functools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd, as a signed 64-bit integer


def _mix(z: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
    z = (z ^ _shift(z, 30)).mul_(-4658895280553007687)
    z ^= _shift(z, 27)  # in place: this is a good part of what drawing costs
    z *= -7723592293110705685
    z ^= _shift(z, 31)
    return z


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch shifts signed integers arithmetically."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


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


class Purpose(IntEnum):
    """What noise is for: each has streams of its own, so that one seed can serve all."""

    VALIDATION = 1
    TRAINING = 2
    HELD_OUT = 3  # records and ``Run.log_prob``, which agree example by example
    SAMPLING = 4
    PICTURES = 5
    METRICS = 6


def stream(seed: int, purpose: Purpose, *parts: int) -> int:
    """The seed of a purpose's stream, for ``RowNoise`` or a generator; parts name streams within it.

    Sampling takes the seed as it is: sample i of seed s is older than the other names.
    """
    return seed if purpose is Purpose.SAMPLING else mix_seed(seed, purpose, *parts)


GLOBAL = threading.RLock()
"""Held by whoever draws from torch's global generators, which all threads share: fresh weights, dropout."""


def alone(function: Callable[P, T]) -> Callable[P, T]:
    """A function that draws from the global generators, for one thread at a time."""

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> T:
        with GLOBAL:
            return function(*args, **kwargs)

    return locked


@contextmanager
def seeded_global(device: torch.device, seed: int) -> Iterator[None]:
    """The global generators of the CPU and of one device, seeded, for this thread alone.

    torch.manual_seed, which seeds all devices, is slower by far.
    """
    with GLOBAL:
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


class Noise(ABC):
    """A source of uniform and normal variates; the first dimension of every shape counts rows."""

    @abstractmethod
    def rand(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32, of the given shape."""

    @abstractmethod
    def randn(self, *shape: int) -> Tensor:
        """Standard normal, float32, of the given shape."""


class StepNoise(Noise):
    """Noise from a generator on the device, such as that of one training step.

    Args:
        device: where the variates are made.
        parts: integers that name it: seed, purpose, step, rank.
    """

    def __init__(self, device: torch.device, *parts: int) -> None:
        self.generator = torch.Generator(device).manual_seed(mix_seed(*parts))

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


class Moved(Noise):
    """Noise that is drawn where its source is and used on a device: the same numbers on every device.

    Args:
        noise: the source.
        device: where its variates go.
    """

    def __init__(self, noise: Noise, device: torch.device) -> None:
        self.noise, self.device = noise, device

    def rand(self, *shape: int) -> Tensor:
        return self.noise.rand(*shape).to(self.device)

    def randn(self, *shape: int) -> Tensor:
        return self.noise.randn(*shape).to(self.device)


class RowNoise(Noise):
    """One counter-based stream for each row.

    Row i's j-th variate is a hash of (seed, ids[i], j). Rows can be dealt to batches and processes in any way.

    Args:
        seed: of the stream (``stream``).
        ids: (B,) integers that name the rows, such as an example's index in its split.

    Example:
        >>> alone, among = RowNoise(0, torch.tensor([17])), RowNoise(0, torch.arange(64))
        >>> torch.equal(alone.randn(1, 3)[0], among.randn(64, 3)[17])
        True
    """

    CACHED = 1 << 16

    def __init__(self, seed: int, ids: Tensor) -> None:
        self.keys = _mix(_mix(ids.to(torch.int64) + _GOLDEN) ^ mix_seed(seed))
        self.used = 0

    def _bits(self, rows: int, columns: int) -> Tensor:
        if rows != len(self.keys):
            raise ValueError(f"RowNoise has {len(self.keys)} rows, {rows} were asked for")
        counter = torch.arange(self.used + 1, self.used + columns + 1, device=self.keys.device) * _GOLDEN
        self.used += columns
        if self.keys.device.type != "cpu" or rows * columns <= self.CACHED:
            return _mix(self.keys[:, None] + counter)
        bits = torch.empty(rows, columns, dtype=torch.int64)
        at_once = max(1, self.CACHED // columns)  # the many passes of a hash go over what the processor's cache holds
        for out, keys in zip(bits.split(at_once), self.keys.split(at_once), strict=True):
            out.copy_(_mix(keys[:, None] + counter))
        return bits

    def rand(self, *shape: int) -> Tensor:
        bits = self._bits(shape[0], math.prod(shape[1:]))
        bits >>= 40
        bits &= (1 << 24) - 1
        return bits.float().mul_(2.0**-24).view(shape)

    def randn(self, *shape: int) -> Tensor:
        # Box-Muller, two variates from 64 bits: 40 of them for the radius, so that the tails reach 7.5 standard
        # deviations, 24 for the angle. An even number of columns cut into even pieces gives the same variates.
        columns = math.prod(shape[1:])
        bits = self._bits(shape[0], (columns + 1) // 2)
        angle = (bits & 0xFFFFFF).float().mul_(2.0 * math.pi * 2.0**-24)
        radius = _shift(bits, 24).float().add_(0.5).mul_(2.0**-40).log_().mul_(-2.0).sqrt_()
        z = torch.empty(*bits.shape, 2, device=bits.device)
        torch.mul(angle.cos(), radius, out=z[..., 0])
        torch.mul(angle.sin_(), radius, out=z[..., 1])
        return z.flatten(1)[:, :columns].reshape(shape)


class _Blocks(Noise):
    """Variates of several calls of one shape at once: a hash costs little more for many.

    Args:
        noise: where they come from.
    """

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.block: list[Tensor] = []

    def rand(self, *shape: int) -> Tensor:
        return self.noise.rand(*shape)

    def randn(self, *shape: int) -> Tensor:
        return self.noise.randn(*shape)

    def _next(self, draw: Callable[..., Tensor], shape: tuple[int, ...], calls: int) -> Tensor:
        if not self.block or self.block[-1].shape != shape:
            drawn = draw(shape[0], calls, *shape[1:])
            self.block = list(reversed(drawn.transpose(0, 1).contiguous().unbind()))
        return self.block.pop()


class Ahead(_Blocks):
    """Normal variates ahead of their use, for chains."""

    CALLS, COLUMNS = 16, 4096  # most calls at once, and about the most variates a row

    def randn(self, *shape: int) -> Tensor:
        return self._next(self.noise.randn, shape, min(self.CALLS, 1 + self.COLUMNS // math.prod(shape[1:])))


class Uniforms(_Blocks):
    """Uniform variates ahead of their use, for decoding; of a ``RowNoise`` they are those of single calls."""

    CALLS = 64

    def rand(self, *shape: int) -> Tensor:
        return self._next(self.noise.rand, shape, self.CALLS)
