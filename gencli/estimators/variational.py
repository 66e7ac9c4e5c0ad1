"""log Z of energies over pairs by variational methods: a lower bound, an upper bound, and Bethe's estimate.

They are deterministic but for the starts of the mean field, cost some sweeps over the edges, and take the place of a
standard error by standing on either side of log Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Positive
from gencli.estimators.base import Shared
from gencli.estimators.partition import PartitionEstimator
from gencli.methods.pairs import Field, Found, beliefs, mean_field, tree_shares
from gencli.models.base import Unnormalized
from gencli.models.structure import Pairwise


def _field(model: Unnormalized) -> Field:
    assert isinstance(model, Pairwise)
    return Field.of(model.pairwise())


def _is_tree(rho: Tensor) -> bool:
    """Whether every spanning tree has every edge: there is no loop."""
    return bool((rho > 1 - 1e-9).all())


def _said(found: Found, tolerance: float) -> dict[str, float]:
    return {"sweeps": float(found.sweeps), "converged": float(found.left <= tolerance)}


@dataclass(frozen=True, kw_only=True)
class MeanField(PartitionEstimator):
    """The mean-field bound log Z >= H(q) - E_q[E] over products q; so the NLL is a lower bound.

    Args:
        restarts: starts of q, of which the best end counts; the first is uniform.
        sweeps: the most sweeps of coordinate ascent.
        tolerance: nats by which the last sweep may still raise the bound.
    """

    restarts: Count = 20
    sweeps: Count = 1000
    tolerance: Positive = 1e-9

    requires = (Pairwise,)
    bound = "lower"

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        found, _ = mean_field(_field(model), noise, self.restarts, self.sweeps, self.tolerance)
        return Shared(self.bound, found.log_z, diagnostics=_said(found, self.tolerance))


@dataclass(frozen=True, kw_only=True)
class Bethe(PartitionEstimator):
    """Bethe's approximation of log Z by belief propagation: exact on trees, elsewhere an estimate of unknown sign.

    Of two fixed points, from even messages and from those of the mean field, the one with the larger value counts.

    Args:
        sweeps: the most sweeps of messages.
        tolerance: by how much beliefs may still disagree, in nats over all edges.
    """

    sweeps: Count = 2000
    tolerance: Positive = 1e-9

    requires = (Pairwise,)
    bound = "estimate"

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        field = _field(model)
        rho = tree_shares(field)
        _, q = mean_field(field, noise, MeanField.restarts, MeanField.sweeps, MeanField.tolerance)
        ends = [beliefs(field, torch.ones_like(rho), self.sweeps, self.tolerance, start) for start in (None, q)]
        agreed = [end for end in ends if end.left <= self.tolerance]
        found = max(agreed or ends, key=lambda end: end.log_z)
        tree = _is_tree(rho) and found.left <= self.tolerance
        return Shared("exact" if tree else self.bound, found.log_z, diagnostics=_said(found, self.tolerance))


@dataclass(frozen=True, kw_only=True)
class TreeReweighted(PartitionEstimator):
    """The tree-reweighted bound on log Z from above; so the NLL is an upper bound, and on trees exact.

    Edges count with their share among all spanning trees. What beliefs still disagree on when sweeps end is added, so
    that the number is a bound then too. The mean-field bound from the other side stands beside it as ``log_z_lower``,
    ``log_z_gap`` apart.

    Args:
        sweeps: the most sweeps of messages.
        tolerance: by how much beliefs may still disagree, in nats over all edges.
    """

    sweeps: Count = 2000
    tolerance: Positive = 1e-9

    requires = (Pairwise,)
    bound = "upper"

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        field = _field(model)
        rho = tree_shares(field)
        found = beliefs(field, rho, self.sweeps, self.tolerance)
        below, _ = mean_field(field, noise, MeanField.restarts, MeanField.sweeps, MeanField.tolerance)
        log_z = found.log_z + found.left
        said = _said(found, self.tolerance) | {"log_z_lower": below.log_z, "log_z_gap": log_z - below.log_z}
        tree = _is_tree(rho) and found.left <= self.tolerance
        return Shared("exact" if tree else self.bound, log_z, diagnostics=said)
