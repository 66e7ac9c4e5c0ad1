"""Unadjusted Langevin steps."""

from __future__ import annotations

import math

from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.base import Energy, slope


def langevin(
    energy: Energy, x: Tensor, noise: Noise, *, step: float, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One unadjusted Langevin step, x - step grad E + sqrt(2 step T) xi: its stationary law is p^(1/T) up to O(step).

    Returns:
        the new x, and E (n,) of the old one.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
        approximations", 1996.
    """
    e, gradient = slope(energy, x)
    x = x.add(gradient, alpha=-step)
    if temperature:
        x = x.add(noise.randn(*x.shape).to(x), alpha=math.sqrt(2 * step * temperature))
    return x, e
