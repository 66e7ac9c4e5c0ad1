"""What tests of energies share: real specifications, noise and normal rows of fixed seeds."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.noise import StepNoise
from gencli.core.spec import Spec, Support

CPU = torch.device("cpu")


def spec(dim: int) -> Spec:
    return Spec((dim,), Support("real"))


def noise(seed: int = 0) -> StepNoise:
    return StepNoise(CPU, seed)


def normal(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
