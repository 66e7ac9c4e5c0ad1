"""Pseudo-likelihood: the likelihood of each coordinate given all others, as if each were seen alone."""

from __future__ import annotations

from torch import Tensor

from gencli.objectives.energy.conditionals import ConditionalObjective


class PseudoLikelihood(ConditionalObjective):
    """L = -1/N sum_i sum_d log p(x_id | the rest of x_i), in nats; no Z, no chain.

    The truth is its minimum, and an estimate is consistent. It is no bound on the NLL.

    Args:
        spec: of model space.
        shared: options of ``ConditionalObjective``.

    References:
        Besag, "Statistical analysis of non-lattice data", 1975.
    """

    static = True

    def terms(self, changes: Tensor, own: Tensor) -> Tensor:
        return (-changes).logsumexp(2)  # the change to the own value is 0
