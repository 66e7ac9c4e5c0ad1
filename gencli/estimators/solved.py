"""Exact Z of energies over pairs, where it can be had without a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from gencli.core.errors import RunFailed
from gencli.core.ising import torus
from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.estimators.base import Shared
from gencli.estimators.partition import PartitionEstimator
from gencli.methods.elimination import log_partition, plan
from gencli.methods.planar import drawing, kac_ward, spins
from gencli.models.base import Unnormalized
from gencli.models.structure import Pairwise, Torus
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class TransferMatrix(PartitionEstimator):
    """log Z by summing out site after site, in float64: any lattice that is narrow, with any couplings and fields.

    The table that is carried along has one axis for each site of the frontier: min(H, W) + 1 sites of a lattice with
    free boundaries, about twice as many of a torus. Any other energy over pairs will do whose graph is as narrow.

    Args:
        width: most sites on the frontier, for 2 values: the table may have 2^width numbers.

    Raises:
        ValueError: (by ``check``) the table would be larger.
    """

    width: Annotated[int, Range(low=1, high=28)] = 23

    bound = "exact"
    requires = (Pairwise,)

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        assert isinstance(model, Pairwise)
        with torch.no_grad():
            pairs = model.pairwise()
        sites, values = pairs.unary.shape
        frontier = plan(pairs.edges, sites)[1]
        if values**frontier > 2**self.width:
            raise ValueError(
                f"estimator.width={self.width}: {frontier} sites of {values} values are open at once here; for a "
                "torus with one coupling take estimator=kaufman, for free boundaries estimator=kac_ward, else ais"
            )

    @torch.no_grad()
    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        assert isinstance(model, Pairwise)
        return Shared(self.bound, float(log_partition(model.pairwise())))


@dataclass(frozen=True, kw_only=True)
class Kaufman(PartitionEstimator):
    """log Z of the Ising model on a torus of any size, with one coupling and no field, by Kaufman's formula.

    The record has what it says of the model beside ``log_z``: the ``coupling`` K, the ``energy_per_site`` in units of
    the coupling, -1/N d log Z / dK, and the ``specific_heat`` a site, K^2/N d^2 log Z / dK^2.

    Raises:
        ValueError: (by ``check``) another model.
        RunFailed: (by ``prepare``) K < 0 on a torus with an odd side, which is frustrated.

    References:
        Kaufman, "Crystal statistics II: partition function evaluated by spinor analysis", 1949.
    """

    bound = "exact"
    requires = (Torus,)

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        assert isinstance(model, Torus)
        if model.torus() is None:
            raise ValueError(
                "estimator=kaufman is for model.boundary=periodic, model.couplings=shared and model.fields=none; "
                "else take estimator=transfer_matrix, or estimator=kac_ward for free boundaries without fields"
            )

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        assert isinstance(model, Torus)
        found = model.torus()
        assert found is not None
        K, height, width = float(found[0].detach()), *found[1:]
        try:
            log_z, energy, heat = torus(K, height, width)
        except ValueError as error:
            raise RunFailed(f"estimator=kaufman: {error}; take estimator=transfer_matrix") from error
        said = {"coupling": K, "energy_per_site": energy, "specific_heat": heat}
        return Shared(self.bound, log_z, diagnostics=said)


@dataclass(frozen=True, kw_only=True)
class KacWard(PartitionEstimator):
    """log Z of spins without a field on any planar graph, with any couplings, by the determinant of Kac and Ward.

    A lattice with free boundaries is planar, and so is a ring; a torus is not. 2E x 2E complex numbers are held.

    Raises:
        ValueError: (by ``check``) more than two values, a field, or a graph that is not planar.

    References:
        Kac and Ward, "A combinatorial solution of the two-dimensional Ising model", 1952.
    """

    bound = "exact"
    requires = (Pairwise,)
    supports = ("binary",)
    FIELD: ClassVar[float] = 1e-9  # nats that count as none

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        assert isinstance(model, Pairwise)
        if model.spec.support.kind != "binary":
            raise ValueError("estimator=kac_ward is for bits; of more values take estimator=transfer_matrix or ais")
        pairs = model.pairwise()
        if pairs.unary.requires_grad or float(spins(pairs)[1].detach().abs().max()) > self.FIELD:
            raise ValueError("estimator=kac_ward is for spins without fields; take estimator=transfer_matrix or ais")
        if drawing(pairs.edges, model.spec.dim) is None:
            raise ValueError(
                "estimator=kac_ward is for planar graphs, such as model.boundary=free; of a torus with one coupling "
                "take estimator=kaufman, else estimator=transfer_matrix or ais"
            )

    @torch.no_grad()
    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        assert isinstance(model, Pairwise)
        pairs = model.pairwise()
        J, _, constant = spins(pairs)
        places = drawing(pairs.edges, model.spec.dim)
        assert places is not None
        return Shared(self.bound, float(kac_ward(J, pairs.edges, places) - constant))
