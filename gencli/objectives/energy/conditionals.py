"""What conditionals say of an energy: each coordinate of discrete x given all others, whose distribution needs no Z.

p(x_d = k | rest) = softmax over k of -(E(x with x_d = k) - E(x)).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch, Spec
from gencli.models.base import Unnormalized
from gencli.objectives.energy.base import RowObjective


class ConditionalObjective(RowObjective):
    """A sum over coordinates d of a proper score of p(x_d | rest).

    Args:
        spec: of model space.
        coordinates: number of coordinates drawn for each example, whose terms stand for all D, each D / W times: the
            expectation is the same. Each costs K - 1 energies. null: all, in the way that the model knows best.
        shared: the options of ``EnergyObjective``.

    Raises:
        ValueError: x is not discrete.
    """

    supports = ("binary", "levels", "categorical")

    def __init__(self, spec: Spec, *, coordinates: Count | None = None, **shared: Any) -> None:
        super().__init__(spec, **shared)
        if not spec.support.discrete:
            raise ValueError(
                f"objective: it is of discrete x, and this model's x is {spec.support}; objective=score_matching is "
                "its counterpart for reals"
            )
        self.coordinates = None if coordinates is None or coordinates >= spec.dim else coordinates

    @abstractmethod
    def terms(self, changes: Tensor, own: Tensor) -> Tensor:
        """The score of each conditional, (B, W).

        Args:
            changes: (B, W, K) E(x with x_w = k) - E(x).
            own: (B, W, 1) the value of x_w.
        """

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        x, D = batch.x, self.spec.dim
        flat = x.flatten(1)
        if self.coordinates is None:
            changes = model.changes(x, torch.arange(D, device=x.device), batch.y)
            return self.terms(changes, flat[..., None].long()).sum(1)
        # of each example its own: a mean over rows then sees all coordinates
        where = noise.rand(len(x), D).to(x.device).argsort(1)[:, : self.coordinates]
        own = flat.gather(1, where)[..., None].long()
        terms = self.terms(changes_at(model, batch, where, self.spec.support.size), own)
        return D / self.coordinates * terms.sum(1)


def changes_at(model: Unnormalized, batch: Batch, where: Tensor, values: int) -> Tensor:
    """``changes`` of coordinates that differ from row to row, in one pass of the energy.

    Args:
        model: E.
        batch: x (B, *).
        where: (B, W) positions in the flattened event.
        values: K.

    Returns:
        (B, W, K) nats, 0 where nothing changes; differentiable.
    """
    x, (n, W) = batch.x, where.shape
    own = x.flatten(1).gather(1, where)[..., None].long()
    new = (own + torch.arange(1, values, device=x.device)) % values  # (B, W, K - 1)
    near = x.flatten(1)[:, None, None].repeat(1, W, values - 1, 1)
    near.scatter_(3, where[..., None, None].expand(n, W, values - 1, 1), new[..., None].to(x.dtype))
    every = torch.cat([x, near.view(-1, *x.shape[1:])])
    y = None if batch.y is None else torch.cat([batch.y, batch.y.repeat_interleave(W * (values - 1), 0)])
    e = model.energy(every, y)
    change = e[n:].view(n, W, values - 1) - e[:n, None, None]
    return change.new_zeros(n, W, values).scatter(2, new, change)
