"""Log-scales within bounds, and where a fit puts the components of a mixture."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LOG_SCALE = -7.0
"""Floor of ln s of densities: a narrower peak would only memorise repeated values."""


class LogScale(ABC):
    """ln s as a function of what a network gives for it."""

    @abstractmethod
    def __call__(self, raw: Tensor) -> Tensor:
        """A network's output -> ln s, elementwise."""

    @abstractmethod
    def raw(self, log_scale: Tensor) -> Tensor:
        """What gives about this ln s, as far as the bounds let it."""


class SoftFloor(LogScale):
    """ln s = m + softplus(raw - m), above m = -7: the identity but near its floor."""

    def __call__(self, raw: Tensor) -> Tensor:
        return MIN_LOG_SCALE + F.softplus(raw - MIN_LOG_SCALE)

    def raw(self, log_scale: Tensor) -> Tensor:
        return log_scale


SOFT_FLOOR = SoftFloor()


@dataclass(frozen=True, eq=False)
class Bounded(LogScale):
    """ln s = c + r tanh(raw / r), within r of c.

    Args:
        centre: c; a tensor broadcasts.
        reach: r.
    """

    centre: float | Tensor
    reach: float

    def __call__(self, raw: Tensor) -> Tensor:
        return self.centre + self.reach * torch.tanh(raw / self.reach)

    def raw(self, log_scale: Tensor) -> Tensor:
        return self.reach * torch.atanh(((log_scale - self.centre) / self.reach).clamp(-0.99, 0.99))


NORMAL, LOGISTIC = (1.0, 1.0), (math.sqrt(3), math.pi)
"""s of a distribution with standard deviation 1, as a numerator and a denominator."""


def at_quantiles(x: Tensor, components: int, least: float, unit: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Means (D, C) at the quantiles of each column of x (N, D), and ln s (D, 1) of every component.

    Args:
        x: examples.
        components: C.
        least: floor of the standard deviations.
        unit: ``NORMAL`` or ``LOGISTIC``.
    """
    if components == 1:
        mean = x.mean(0)[:, None]
    else:
        at = (torch.arange(components, device=x.device, dtype=x.dtype) + 0.5) / components
        mean = torch.quantile(x, at, dim=0).T
    std = (x.std(0, correction=0)[:, None] / components**0.5).clamp(min=least)
    return mean, (unit[0] / unit[1] * std).log()


def around_mean(x: Tensor, components: int, least: float, unit: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """As ``at_quantiles``, but means lie evenly within a standard deviation of the column's own, which all share."""
    std, mean = (moment[:, None] for moment in torch.std_mean(x, 0, correction=0))
    apart = torch.linspace(-1, 1, components, device=x.device).to(std) if components > 1 else std.new_zeros(1)
    return mean + apart * std, (std.clamp(min=least) * unit[0] / unit[1]).log()
