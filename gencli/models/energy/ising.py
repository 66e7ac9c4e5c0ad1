"""The Ising model: spins on a lattice that like, or dislike, to be as their neighbours are."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.spec import Spec
from gencli.models.energy.lattice import LatticeEnergy
from gencli.models.structure import Torus


class Ising(LatticeEnergy, Torus):
    """E(x) = -sum_<ij> J_ij s_i s_j - sum_i h_i s_i with spins s = 2x - 1 and every bond counted once, in nats.

    J is K = J / (k T) of physics. Where log p = s^T A s with a symmetric A, as in the benchmarks of Grathwohl et al.
    (2021), each bond is counted twice: J = 2 A_ij. In bits, E = -sum 4 J_ij x_i x_j + ..: a Boltzmann machine's weight
    is 4 J.

    Args:
        spec: bits.
        options: of ``LatticeEnergy``: ``conditional``, ``boundary``, ``couplings``, ``fields`` and ``K``.

    References:
        Ising, "Beitrag zur Theorie des Ferromagnetismus", 1925.
    """

    supports = ("binary",)

    @staticmethod
    def vectors(spec: Spec) -> Tensor:
        return torch.tensor([[-1.0], [1.0]])

    def torus(self) -> tuple[Tensor, int, int] | None:
        if self.h is not None or not self.shared or not self.lattice.periodic:
            return None
        return self.J, self.lattice.height, self.lattice.width
