"""At which times a time field is trained: distributions of t on the interval of a path."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from gencli.paths.base import Path

RANGE = 14.0
"""``LogSNR`` covers what a path has within [-RANGE, RANGE]."""


class Times(ABC):
    """Times of training, drawn by inversion of uniform u, so that stratified u give stratified times."""

    @abstractmethod
    def at(self, path: Path, u: Tensor) -> Tensor:
        """t for u in [0, 1)."""


class Distribution(Times):
    """Times with a density on [t_min, t_max]."""

    @abstractmethod
    def density(self, path: Path, t: Tensor) -> Tensor:
        """p(t), for weights that are to make up for it."""


class Uniform(Distribution):
    """t is uniform on [t_min, t_max]."""

    def at(self, path: Path, u: Tensor) -> Tensor:
        return path.t_min + (path.t_max - path.t_min) * u

    def density(self, path: Path, t: Tensor) -> Tensor:
        return torch.full_like(t, 1 / (path.t_max - path.t_min))


class LogitNormal(Distribution):
    """(t - t_min) / (t_max - t_min) = sigmoid(location + spread n), n ~ N(0, 1).

    References:
        Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024.
    """

    def __init__(self, location: float = 0.0, spread: float = 1.0) -> None:
        self.location, self.spread = location, spread

    def at(self, path: Path, u: Tensor) -> Tensor:
        normal = torch.special.ndtri(u.double().clamp(1e-9, 1 - 1e-9)).to(u)
        return path.t_min + (path.t_max - path.t_min) * torch.sigmoid(self.location + self.spread * normal)

    def density(self, path: Path, t: Tensor) -> Tensor:
        width = path.t_max - path.t_min
        s = ((t - path.t_min) / width).clamp(1e-6, 1 - 1e-6)
        away = (torch.logit(s) - self.location) / self.spread
        return (-0.5 * away.square()).exp() / (math.sqrt(2 * math.pi) * self.spread * width * s * (1 - s))


class LogSNR(Distribution):
    """log-SNR is uniform.

    References:
        Kingma, Salimans, Poole and Ho, "Variational diffusion models", 2021 (stratified times too).
    """

    @staticmethod
    def ends(path: Path, like: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest log-SNR in use."""
        low, high = (path.log_snr(torch.tensor(t, dtype=torch.float64)) for t in (path.t_max, path.t_min))
        return low.clamp(min=-RANGE).to(like), high.clamp(max=RANGE).to(like)

    def at(self, path: Path, u: Tensor) -> Tensor:
        bottom, top = self.ends(path, u)
        return path.time(top - u * (top - bottom)).clamp(path.t_min, path.t_max)

    def density(self, path: Path, t: Tensor) -> Tensor:
        bottom, top = self.ends(path, t)
        return -path.d_log_snr(t) / (top - bottom)


class LogNoise(Times):
    """ln(sigma/alpha) is uniform on [ln low, ln high]."""

    def __init__(self, low: float, high: float) -> None:
        self.top, self.bottom = -2 * math.log(low), -2 * math.log(high)

    def at(self, path: Path, u: Tensor) -> Tensor:
        return path.time(self.top - u * (self.top - self.bottom)).clamp(path.t_min, path.t_max)


def stratified(u: Tensor) -> Tensor:
    """Independent uniform u (n,) -> one in each of n equal pieces of [0, 1)."""
    return (torch.arange(len(u), device=u.device) + u) / len(u)
