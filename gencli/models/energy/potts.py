"""The Potts model: sites of K states that like, or dislike, to be in the state of their neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.spec import Spec
from gencli.models.energy.lattice import LatticeEnergy


class Potts(LatticeEnergy):
    """E(x) = -sum_<ij> J_ij [x_i = x_j] - sum_i h_i[x_i] with every bond counted once, in nats.

    With two states it is an Ising model of half the couplings: [x_i = x_j] = (1 + s_i s_j) / 2. Fields are told up to a
    constant a site.

    Args:
        spec: categories.
        options: of ``LatticeEnergy``: ``conditional``, ``boundary``, ``couplings``, ``fields`` and ``K``.

    References:
        Potts, "Some generalized order-disorder transformations", 1952.
    """

    supports = ("categorical",)

    @staticmethod
    def vectors(spec: Spec) -> Tensor:
        return torch.eye(spec.support.size)
