"""Energies of neighbours on a lattice: what the Ising and the Potts model share.

A site has K values, and each value k a vector v_k, a row of V (K, F). With phi_i = v_(x_i),

    E(x) = -sum_<ij> J_ij phi_i . phi_j - sum_i h_i . phi_i,

where every bond <ij> is counted once. Spins have V = (-1, 1), states of a Potts model the unit vectors.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.lattice import Lattice
from gencli.core.options import Finite
from gencli.core.spec import Spec
from gencli.kernels.energy import Pairs
from gencli.models.structure import Pairwise, Parametric, Relaxed


class LatticeEnergy(Pairwise, Relaxed, Parametric):
    """Couplings J, () or (E,), and fields h, (F,) or (D, F), on the sites of an image or on a row of sites.

    Images (1, H, W) are lattices of H x W sites, vectors (D,) are rows: rings, where they are periodic. ``Lattice``
    says what a bond is on sides of 1 and 2.

    Args:
        spec: what one example is.
        conditional: refused.
        boundary: ``periodic``: rows and columns close; ``free``: they end.
        couplings: ``shared``: one J; ``edges``: one for each bond, in the order of ``Lattice.edges``.
        fields: ``none``; ``shared``: one h; ``sites``: one for each site.
        K: where all couplings start, in nats.

    Raises:
        ValueError: conditional, or images of several channels.
    """

    shapes = ("vector", "image")
    layouts = ("vector", "image")
    V: Tensor
    bonds: Tensor
    around: Tensor
    around_bond: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        conditional: bool = False,
        boundary: Literal["periodic", "free"] = "periodic",
        couplings: Literal["shared", "edges"] = "shared",
        fields: Literal["none", "shared", "sites"] = "none",
        K: Finite = 0.0,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an energy has another Z for each y; train one model a class")
        if spec.graph is not None:
            raise ValueError("a lattice has neighbours by place; this data is networks: model=ergm")
        V = self.vectors(spec)
        self.lattice = Lattice.of(spec.shape, boundary == "periodic")
        bonds = self.lattice.edges()
        self.shared = couplings == "shared"
        self.J = nn.Parameter(torch.full((), K) if self.shared else torch.full((len(bonds),), K))
        self.h = None
        if fields != "none":
            self.h = nn.Parameter(torch.zeros(*(() if fields == "shared" else (spec.dim,)), V.shape[1]))
        self.register_buffer("V", V, persistent=False)
        self.register_buffer("bonds", bonds, persistent=False)
        sites, numbers = _around(bonds, spec.dim)
        blocks = self.lattice.blocks()
        self.colours = len(blocks)
        for k, block in enumerate(blocks):
            self.register_buffer(f"block{k}", block, persistent=False)
        self.register_buffer("around", sites, persistent=False)
        self.register_buffer("around_bond", numbers, persistent=False)

    @staticmethod
    @abstractmethod
    def vectors(spec: Spec) -> Tensor:
        """V (K, F), the vector of each value."""

    def edges(self) -> tuple[Tensor, Tensor]:
        """The bonds (E, 2) and the coupling of each, (E,) nats."""
        return self.bonds, self.J.expand(len(self.bonds))

    def of_values(self, x: Tensor) -> Tensor:
        """phi of x (B, *): (B, D, F)."""
        if self.V.shape == (2, 1):  # a tenth of the time of a look into a table
            return self.V[0] + (self.V[1] - self.V[0]) * x.flatten(1)[..., None]
        return self.V[x.flatten(1).long()]

    def forces(self, phi: Tensor) -> Tensor:
        """sum_j J_ij phi_j of the neighbours j of each site: (B, D, F)."""
        B, D, width = phi.shape
        if not self.shared:
            J = F.pad(self.J, (0, 1))[self.around_bond]  # (D, 4)
            near = F.pad(phi, (0, 0, 0, 1))[:, self.around]  # (B, D, 4, F)
            return (J[..., None] * near).sum(2)
        grid = phi.view(B, self.lattice.height, self.lattice.width, width)
        total = torch.zeros_like(grid)
        for axis, length in ((1, self.lattice.height), (2, self.lattice.width)):
            if length == 1:
                continue
            if self.lattice.periodic:
                total.add_(grid.roll(1, axis)).add_(grid.roll(-1, axis))
            else:
                total.narrow(axis, 0, length - 1).add_(grid.narrow(axis, 1, length - 1))
                total.narrow(axis, 1, length - 1).add_(grid.narrow(axis, 0, length - 1))
        return self.J * total.view(B, D, width)

    def of_vectors(self, phi: Tensor) -> Tensor:
        """E of phi (B, D, F): each bond is felt by both of its sites."""
        e = -0.5 * (phi * self.forces(phi)).sum((1, 2))
        return e if self.h is None else e - (phi * self.h).sum((1, 2))

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.of_vectors(self.of_values(x))

    def relaxed(self, p: Tensor, y: Tensor | None = None) -> Tensor:
        return self.of_vectors(p.to(self.V) @ self.V)

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        if self.V.shape == (2, 1):
            return self._flips(x.flatten(1), where)
        phi = self.of_values(x)
        force = self.forces(phi)
        if self.h is not None:
            force = force + self.h
        own, force = phi.index_select(1, where), force.index_select(1, where)
        return (own * force).sum(2, keepdim=True) - force @ self.V.T

    def _flips(self, x: Tensor, where: Tensor) -> Tensor:
        """``changes`` of spins, which look at the neighbours of their sites alone: Gibbs sweeps live on this."""
        low, high = self.V[:, 0].unbind()
        near, bond = self.around[where], self.around_bond[where]  # (W, 4)
        J = (self.J * (near < x.shape[1]) if self.shared else F.pad(self.J, (0, 1))[bond]).unbind(1)
        sites = near.clamp(max=x.shape[1] - 1).unbind(1)
        up = J[0] * x.index_select(1, sites[0])
        for strength, site in zip(J[1:], sites[1:], strict=True):
            up = torch.addcmul(up, x.index_select(1, site), strength)
        level = low * sum(J)
        if self.h is not None:
            level = level + self.h.expand(x.shape[1], 1)[where, 0]
        force = torch.addcmul(level, up, high - low)
        own = low + (high - low) * x.index_select(1, where)
        return torch.addcmul((own * force)[..., None], force[..., None], self.V[:, 0], value=-1)

    def blocks(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(f"block{k}") for k in range(self.colours))

    def pairwise(self) -> Pairs:
        edges, bond = torch.unique(self.bonds.sort(1).values, dim=0, return_inverse=True)
        J = self.J.new_zeros(len(edges)).index_add(0, bond, self.J.expand(len(self.bonds)))
        h = self.V.new_zeros(self.V.shape[1]) if self.h is None else self.h
        unary = -(h @ self.V.T).expand(self.spec.dim, -1)
        return Pairs(unary, edges, -J[:, None, None] * (self.V @ self.V.T))


def _around(bonds: Tensor, sites: int) -> tuple[Tensor, Tensor]:
    """The neighbours of each site and the numbers of the bonds to them, (D, 4); where there are fewer, D and E."""
    ends = torch.cat([bonds, bonds.flip(1)])
    number = torch.arange(len(bonds)).repeat(2)
    order = ends[:, 0].argsort(stable=True)
    ends, number = ends[order], number[order]
    first = torch.searchsorted(ends[:, 0].contiguous(), torch.arange(sites))
    place = torch.arange(len(ends)) - first[ends[:, 0]]
    near, which = torch.full((sites, 4), sites), torch.full((sites, 4), len(bonds))
    near[ends[:, 0], place], which[ends[:, 0], place] = ends[:, 1], number
    return near, which
