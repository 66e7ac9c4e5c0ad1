"""Normalizing flows: an invertible f takes data x to latents z that are standard normal.

log p(x) = log N(f(x); 0, I) + log|det df/dx|
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from gencli.core.noise import Noise
from gencli.models.base import DataInitialized, ExactLikelihood, Reparameterized


class Transform(nn.Module):
    """An invertible map between data and latents, given an optional context vector (B, C)."""

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data x (B, *) -> latents z, and log|det dz/dx| (B,) in nats."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Latents z -> data x."""

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Set what starts from data, given examples x as they reach this transform; returns their z."""
        return self(x, context)[0]


class HalvesTransform(Transform):
    """A transform that can take the halves of x by themselves: its first C // 2 channels, and the others."""

    couples: ClassVar[bool] = False
    """Whether one half says how the other moves: a run of these and of what lies between keeps halves apart."""

    @abstractmethod
    def halves(
        self, a: Tensor, b: Tensor, context: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """The halves of x -> those of z, and log|det dz/dx| (B,), or () where it is that of every row; None: 0."""

    @abstractmethod
    def inverse_halves(self, a: Tensor, b: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The halves of z -> those of x."""


@dataclass(frozen=True)
class _Run:
    """Transforms from one coupling to another, between which the halves stay apart: no copy to join and to split them.

    It is a view of a chain's transforms, which own the parameters.
    """

    transforms: Sequence[HalvesTransform]

    def __call__(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        halves = split_halves(x)
        changes = []
        for transform in self.transforms:
            halves, change = transform.halves(*halves, context)
            if change is not None:
                changes.append(change)
        return torch.cat(halves, 1), functools.reduce(torch.add, changes)

    def inverse(self, z: Tensor, context: Tensor | None) -> Tensor:
        halves = split_halves(z)
        for transform in reversed(self.transforms):
            halves = transform.inverse_halves(*halves, context)
        return torch.cat(halves, 1)


def split_halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first C // 2 channels, and the others; views."""
    half = x.shape[1] // 2
    return x[:, :half], x[:, half:]


def _runs(transforms: Sequence[Transform]) -> Iterator[Transform | _Run]:
    """The transforms in their order, those from one coupling to the last one that halves reach as a run."""
    for halved, group in itertools.groupby(transforms, lambda t: isinstance(t, HalvesTransform)):
        members = list(group)
        couplings = [k for k, t in enumerate(members) if isinstance(t, HalvesTransform) and t.couples]
        if not halved or len(couplings) < 2:
            yield from members
            continue
        first, last = couplings[0], couplings[-1] + 1
        yield from members[:first]
        yield _Run(cast(list[HalvesTransform], members[first:last]))
        yield from members[last:]


class Chain(Transform):
    """Transforms one after the other, the first nearest to the data."""

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self._parts = tuple(_runs(cast(Sequence[Transform], self.transforms)))  # what owns nothing: no state, no names

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for part in self._parts:
            x, change = part(x, context)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for part in reversed(self._parts):
            z = part.inverse(z, context)
        return z

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for transform in self.transforms:
            x = transform.initialize(x, context)  # type: ignore[operator]
        return x


class Inverse(Transform):
    """A transform read backwards: its fast direction becomes the slow one."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.transform.inverse(x, context)
        return z, -self.transform(z, context)[1]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.transform(z, context)[0]


PIECE = 2048
"""Rows that a CPU takes at a time where no gradient is kept: what goes from layer to layer then stays in its cache."""


def _in_pieces(f: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, context: Tensor | None) -> Tensor:
    """f(x, context) for an f of which each row is by itself."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or len(x) <= PIECE:
        return f(x, context)
    contexts = itertools.repeat(None) if context is None else context.split(PIECE)
    return torch.cat([f(part, own) for part, own in zip(x.split(PIECE), contexts, strict=False)])


class Flow(ExactLikelihood, Reparameterized, DataInitialized):
    """A standard normal on flat latents, pulled back to the data by a transform.

    Log-determinants and the base density are in the precision of x (fp32), even where autocast runs networks in less.

    Args:
        spec: what one example is.
        conditional: model p(x given y).

    ``transform`` takes examples to flat latents (B, D); the constructor of each flow sets it.
    """

    transform: Transform

    def _context(self, y: Tensor | None, like: Tensor) -> Tensor | None:
        context = self.context(y)
        return None if context is None else context.to(like)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return _in_pieces(self._log_prob, x, self._context(y, x))

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        z, log_det = self.transform(x, context)
        return log_det - 0.5 * (z.square().sum(1) + self.spec.dim * math.log(2 * math.pi))

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        parameter = next(self.parameters())
        z = noise.randn(n, self.spec.dim).to(parameter) * temperature
        return _in_pieces(self.transform.inverse, z, self._context(y, z))

    @torch.no_grad()
    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """``round_trip``: max |x - f^-1(f(x))|, which grows before a flow's likelihood becomes meaningless."""
        context = self._context(y, x)
        again = self.transform.inverse(self.transform(x, context)[0], context)
        return {"round_trip": float((again.view_as(x) - x).abs().max())}

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.transform.initialize(x, self._context(y, x))
