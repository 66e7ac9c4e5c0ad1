"""Z by summing all of its terms: exact."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.estimators.base import Shared
from gencli.estimators.partition import PartitionEstimator
from gencli.methods.enumeration import log_partition, require_few, terms
from gencli.models.base import Unnormalized
from gencli.models.structure import Pairwise
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class Enumerate(PartitionEstimator):
    """log Z over all K^D states of discrete x, or over fewer terms where the model knows such a sum; at most 2^22.

    An RBM has one for each state of its hidden units. Energies are worked out and summed in fp64. The record has the
    number of terms as ``terms``.
    """

    bound = "exact"
    supports = ("binary", "levels", "categorical")

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        other = "transfer_matrix, if the graph is narrow, or ais" if isinstance(model, Pairwise) else "ais"
        require_few(model, "estimator=enumerate", f"take estimator={other}")

    @torch.no_grad()
    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        exact = model if x.device.type == "mps" else copy.deepcopy(model).double()  # MPS has no fp64
        return Shared(self.bound, float(log_partition(exact)), diagnostics={"terms": float(terms(model) or 0)})
