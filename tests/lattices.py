"""What tests of lattices share: small models with random parameters, all of their states, sums over these."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gencli.core.spec import Spec, Support
from gencli.models.base import Unnormalized
from gencli.models.energy.ising import Ising
from gencli.models.energy.lattice import LatticeEnergy
from gencli.models.energy.potts import Potts

BITS = Support("binary", 2)


def ising(shape: tuple[int, ...], seed: int | None = 0, **options) -> Ising:
    """In fp64; with a seed every parameter is moved by normal draws of deviation 0.5."""
    return _moved(Ising(Spec(shape, BITS), **options), seed)


def potts(shape: tuple[int, ...], values: int = 3, seed: int | None = 0, **options) -> Potts:
    return _moved(Potts(Spec(shape, Support("categorical", values)), **options), seed)


def _moved(model: LatticeEnergy, seed: int | None):
    model = model.double()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def states(spec: Spec) -> Tensor:
    """Every x there is, (K^D, *)."""
    x = torch.tensor(list(itertools.product(range(spec.support.size), repeat=spec.dim))).view(-1, *spec.shape)
    return x.double() if spec.support.kind == "binary" else x


def probabilities(model: Unnormalized) -> Tensor:
    """p of every state, (K^D,), by enumeration."""
    with torch.no_grad():
        return (-model.energy(states(model.spec))).softmax(0)


def log_z(model: Unnormalized) -> float:
    """By enumeration."""
    with torch.no_grad():
        return float((-model.energy(states(model.spec))).logsumexp(0))
