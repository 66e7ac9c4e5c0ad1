"""At which times a time field is trained: distributions of t on the interval of a path."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.paths.base import Path

NAMES = ("uniform", "logit_normal", "log_snr")
RANGE = 14.0
"""``log_snr`` covers what a path has within [-RANGE, RANGE]."""


class Times:
    """A distribution of t, drawn by inversion of uniform u, so that stratified u give stratified times.

    ``uniform`` on [t_min, t_max]; ``logit_normal``: (t - t_min) / (t_max - t_min) = sigmoid(location + spread n);
    ``log_snr``: log-SNR is uniform.

    Args:
        name: one of the above.
        location: of ``logit_normal``.
        spread: of ``logit_normal``.

    Raises:
        ValueError: an unknown name, or a spread that is not above 0.

    References:
        logit_normal: Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024.
        log_snr, stratified: Kingma, Salimans, Poole and Ho, "Variational diffusion models", 2021.
    """

    def __init__(self, name: str, location: float = 0.0, spread: float = 1.0) -> None:
        if name not in NAMES:
            raise ValueError(f"objective.times={name}: one of {', '.join(NAMES)}")
        if not spread > 0:
            raise ValueError(f"objective.spread={spread}: above 0")
        self.name, self.location, self.spread = name, location, spread

    @staticmethod
    def ends(path: Path, like: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest log-SNR in use."""
        low, high = (path.log_snr(torch.tensor(t, dtype=torch.float64)) for t in (path.t_max, path.t_min))
        return low.clamp(min=-RANGE).to(like), high.clamp(max=RANGE).to(like)

    def at(self, path: Path, u: Tensor) -> Tensor:
        """t for u in [0, 1)."""
        low, width = path.t_min, path.t_max - path.t_min
        if self.name == "uniform":
            return low + width * u
        if self.name == "logit_normal":
            normal = torch.special.ndtri(u.double().clamp(1e-9, 1 - 1e-9)).to(u)
            return low + width * torch.sigmoid(self.location + self.spread * normal)
        bottom, top = self.ends(path, u)
        return path.time(top - u * (top - bottom)).clamp(path.t_min, path.t_max)

    def density(self, path: Path, t: Tensor) -> Tensor:
        """p(t), for weights that are to make up for it."""
        width = path.t_max - path.t_min
        if self.name == "uniform":
            return torch.full_like(t, 1 / width)
        if self.name == "logit_normal":
            s = ((t - path.t_min) / width).clamp(1e-6, 1 - 1e-6)
            away = (torch.logit(s) - self.location) / self.spread
            return (-0.5 * away.square()).exp() / (math.sqrt(2 * math.pi) * self.spread * width * s * (1 - s))
        bottom, top = self.ends(path, t)
        return -path.d_log_snr(t) / (top - bottom)


def stratified(u: Tensor) -> Tensor:
    """Independent uniform u (n,) -> one in each of n equal pieces of [0, 1)."""
    return (torch.arange(len(u), device=u.device) + u) / len(u)
