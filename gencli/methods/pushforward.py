"""Chains in the noise of a density q: u = g(eps) with eps ~ N(0, I) has it.

    -log p(eps | z) = |eps|^2 / 2 + f(g(eps)) + |z - A v(g(eps))|^2 / (2 sigma^2) + constant

has the posterior of u for push-forward, without any log-determinant, where the model is exp(-f) q / Z: an energy that
tilts q, or q itself with f = 0. Where a flow has bent the normal law into a thin shape, chains move in eps far more
freely than in u.

References:
    Hoffman et al., "NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural transport", 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.kernels.energy import Of
from gencli.models.base import DirectSampling, Model, Reparameterized
from gencli.models.structure import Tilting


class _Told(Noise):
    """Normal variates that are given, in the order in which they are asked for; of too few the rest is 0."""

    def __init__(self, eps: Tensor) -> None:
        self.eps, self.used = eps, 0

    def rand(self, *shape: int) -> Tensor:
        raise ValueError("uniform noise, which chains on normal noise do not move")

    def randn(self, *shape: int) -> Tensor:
        first, self.used = self.used, self.used + math.prod(shape[1:])
        eps = self.eps[:, first : self.used]
        return F.pad(eps, (0, self.used - first - eps.shape[1])).reshape(shape)


def width(model: DirectSampling, y: Tensor | None) -> int | None:
    """How many normal variates a sample is made of; None: uniform ones are among them.

    Args:
        model: in question.
        y: a context (1, ...), or None.
    """
    told = _Told(next(model.parameters()).new_zeros(1, 0))
    try:
        model.sample(1, y, noise=told)
    except ValueError:
        return None
    return told.used


def pushed(model: DirectSampling, y: Tensor | None, eps: Tensor) -> Tensor:
    """g(eps) of noise (n, K), differentiable: (n, *) in model space."""
    return model.sample(len(eps), y, noise=_Told(eps))


@dataclass(frozen=True)
class Transport:
    """Normal noise in which chains on a model may move.

    Args:
        density: q, whose samples g(eps) are made of it.
        width: K, the coordinates of eps.
        energy: of the model, in nats and without the observation: (n, K) -> (n,).
    """

    density: DirectSampling
    width: int
    energy: Of


def transport(model: Model, y: Tensor | None) -> Transport | None:
    """That of a model whose samples are made of normal noise in one pass, or of the density that an energy tilts.

    Args:
        model: to move in.
        y: a context (1, ...), or None.
    """
    if isinstance(model, Reparameterized):
        K = width(model, y) if model.passes == 1 else None
        return None if K is None else Transport(model, K, _normal)
    if not isinstance(model, Tilting):
        return None
    near = model.reference()
    if not isinstance(near, DirectSampling) or near.passes != 1:
        return None
    K = width(near, y)
    if K is None or not _differentiable(near, K):
        return None
    return Transport(near, K, partial(_tilted, model, near))


def _differentiable(density: DirectSampling, K: int) -> bool:
    """Whether g has a gradient: without one chains would walk blindly."""
    with torch.enable_grad():
        eps = next(density.parameters()).new_zeros(1, K).requires_grad_(True)
        return pushed(density, None, eps).requires_grad


def _normal(eps: Tensor) -> Tensor:
    return 0.5 * eps.square().sum(1)


def _tilted(model: Tilting, near: DirectSampling, eps: Tensor) -> Tensor:
    return _normal(eps) + model.tilt(pushed(near, None, eps))
