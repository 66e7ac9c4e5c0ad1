"""Chains in the noise of a model: u = g(eps) with eps ~ N(0, I) has the model's density.

    -log p(eps | z) = |eps|^2 / 2 + |z - A v(g(eps))|^2 / (2 sigma^2) + constant

has the posterior of u for push-forward, without any log-determinant. Where a flow has bent the normal law into a thin
shape, chains move in eps far more freely than in u.

References:
    Hoffman et al., "NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural transport", 2019.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.models.base import Reparameterized


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


def width(model: Reparameterized, y: Tensor | None) -> int | None:
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


def pushed(model: Reparameterized, y: Tensor | None, eps: Tensor) -> Tensor:
    """g(eps) of noise (n, K), differentiable: (n, *) in model space."""
    return model.sample(len(eps), y, noise=_Told(eps))
