"""Normalizing flows: an invertible f takes data x to latents z that are standard normal.

log p(x) = log N(f(x); 0, I) + log|det df/dx|
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable

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


class Chain(Transform):
    """Transforms one after the other, the first nearest to the data."""

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for transform in self.transforms:
            x, change = transform(x, context)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for transform in reversed(self.transforms):
            z = transform.inverse(z, context)  # type: ignore[operator]
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
        z, log_det = self.transform(x, self._context(y, x))
        return log_det - 0.5 * (z.square().sum(1) + self.spec.dim * math.log(2 * math.pi))

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        parameter = next(self.parameters())
        z = noise.randn(n, self.spec.dim).to(parameter) * temperature
        return self.transform.inverse(z, self._context(y, z))

    @torch.no_grad()
    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """``round_trip``: max |x - f^-1(f(x))|, which grows before a flow's likelihood becomes meaningless."""
        context = self._context(y, x)
        again = self.transform.inverse(self.transform(x, context)[0], context)
        return {"round_trip": float((again.view_as(x) - x).abs().max())}

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.transform.initialize(x, self._context(y, x))
