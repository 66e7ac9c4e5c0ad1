"""Ratio matching: p(x) against p of each neighbour of x, in a form that is bounded."""

from __future__ import annotations

from torch import Tensor

from gencli.objectives.energy.conditionals import ConditionalObjective


class RatioMatching(ConditionalObjective):
    """J = 1/N sum_i sum_d g(p(x_i) / p(x_i with bit d flipped))^2 with g(u) = 1 / (1 + u).

    g is the probability of the flipped bit given the rest, 1 - p(x_d | rest), so that J is half the Brier score of each
    conditional. Of K values it is that, 1/2 sum_k (p(x_d = k | rest) - [x_d = k])^2. The truth is its minimum. Unlike
    the pseudo-likelihood it is bounded: no example counts for more than D.

    Args:
        spec: of model space.
        shared: options of ``ConditionalObjective``.

    References:
        Hyvärinen, "Some extensions of score matching", 2007. Lyu, "Interpretation and generalization of score
        matching", 2009. Brier scores: Gneiting and Raftery, "Strictly proper scoring rules, prediction, and
        estimation", 2007.
    """

    static = True

    def terms(self, changes: Tensor, own: Tensor) -> Tensor:
        p = (-changes).softmax(2)
        miss = p.scatter_add(2, own, -p.new_ones(own.shape))
        return 0.5 * miss.square().sum(2)
