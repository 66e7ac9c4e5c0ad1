"""The energy that chains move in, and what a discrete one knows of its neighbourhood.

A chain asks an energy E for its value. A chain on discrete x also asks what happens when one coordinate changes,

    changes(x)[i, w, k] = E(x_i with coordinate w set to k) - E(x_i),

from which every conditional follows: p(x_w = k given the rest) is the softmax of -changes over k. Changes add up and
scale as energies do, so that a mixture or a tempered energy has them too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from gencli.core import tensors
from gencli.core.noise import Noise
from gencli.core.spec import Support

REAL = Support("real")

Of = Callable[[Tensor], Tensor]
"""(n, *) -> (n,) nats."""

CELLS = 1 << 22
"""Most coordinates that brute force lays out at once."""


class Pairs(NamedTuple):
    """E(x) = sum_i unary[i, x_i] + sum_e tables[e, x_i, x_j] with (i, j) = edges[e], without a constant of its own.

    Coordinates are positions in the flattened event, and values k = 0..K-1 as ``Support`` counts them. No edge joins a
    coordinate with itself. Where energies differ by chain, ``unary`` and ``tables`` have a leading dimension of n.

    Args:
        unary: (D, K) or (n, D, K) nats.
        edges: (E, 2) int64.
        tables: (E, K, K) or (n, E, K, K) nats.
    """

    unary: Tensor
    edges: Tensor
    tables: Tensor


def brute_force(of: Of, x: Tensor, where: Tensor, values: int, own: Tensor | None = None) -> Tensor:
    """Changes of an energy that is asked for at every neighbour: W (K - 1) points a row; differentiable.

    Args:
        of: E.
        x: (n, *) discrete.
        where: (W,) coordinates, as positions in the flattened event.
        values: K.
        own: E(x), (n,), where it is known; None: it is asked for too.

    Returns:
        (n, W, K) nats, 0 where nothing changes.
    """
    n, flat = len(x), x.flatten(1)
    own = of(x) if own is None else own
    others = torch.arange(1, values, device=x.device)
    found = []
    for part in where.split(max(1, CELLS // max(1, n * (values - 1) * flat.shape[1]))):
        W = len(part)
        new = (flat[:, part, None].long() + others) % values  # (n, W, K - 1)
        near = flat[:, None, None].repeat(1, W, values - 1, 1)
        index = part.view(1, W, 1, 1).expand(n, W, values - 1, 1)
        near.scatter_(3, index, new[..., None].to(x.dtype))
        change = of(near.view(-1, *x.shape[1:])).view(n, W, values - 1) - own[:, None, None]
        found.append(change.new_zeros(n, W, values).scatter(2, new, change))
    return torch.cat(found, 1)


def turned_over(of: Of, x: Tensor, where: Tensor) -> Tensor:
    """What an energy says of one bit (n,) turned over in each row of x (n, *), by asking for it there: (n,) nats."""
    flat, at = x.flatten(1), where[:, None]
    return of(flat.scatter(1, at, 1 - flat.gather(1, at)).view_as(x)) - of(x)


class Sweep(ABC):
    """Coordinates of n chains that are set in turn, each after what it does where the chains are by then."""

    x: Tensor
    """(n, *) where the chains are."""

    @abstractmethod
    def changes(self, where: Tensor) -> Tensor:
        """E(x with coordinate w set to k) - E(x), for coordinates where (W,): (n, W, K)."""

    def put(self, where: Tensor, value: Tensor, rise: Tensor) -> None:
        """Set coordinates (W,) that do not interact to value (n, W); rise: (n, W, K), their ``changes``."""
        index = where.expand(len(self.x), -1)
        self.x = self.x.flatten(1).scatter(1, index, value.to(self.x.dtype)).view_as(self.x)


class Told(Sweep):
    """By an energy that says what a change does."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> None:
        self.change, self.x = change, x

    def changes(self, where: Tensor) -> Tensor:
        return self.change(self.x, where)


class Asked(Sweep):
    """By an energy that is asked for at the neighbours; E(x) follows x, so that it is not asked for at every one."""

    def __init__(self, of: Of, x: Tensor, values: int) -> None:
        self.of, self.x, self.values, self.own = of, x, values, of(x)

    def changes(self, where: Tensor) -> Tensor:
        return brute_force(self.of, self.x, where, self.values, self.own)

    def put(self, where: Tensor, value: Tensor, rise: Tensor) -> None:
        super().put(where, value, rise)
        self.own = self.own + rise.gather(2, value[..., None].long()).sum((1, 2)).to(self.own)


class Added(Sweep):
    """By a weighted sum of energies: each follows x in its own way."""

    def __init__(self, add: Callable[[Iterable[Tensor]], Tensor], sweeps: Sequence[Sweep]) -> None:
        self.add, self.sweeps, self.x = add, sweeps, sweeps[0].x

    def changes(self, where: Tensor) -> Tensor:
        self.rises = [sweep.changes(where) for sweep in self.sweeps]
        return self.add(self.rises)

    def put(self, where: Tensor, value: Tensor, rise: Tensor) -> None:
        for sweep, own in zip(self.sweeps, self.rises, strict=True):
            sweep.put(where, value, own)
        self.x = self.sweeps[0].x


@dataclass(frozen=True)
class Energy:
    """E as a chain sees it: of n chains at once, whose energies do not depend on each other.

    Args:
        of: E(x), (n, *) -> (n,) nats.
        support: where a coordinate of x lies.
        change: ``changes`` of this energy, (x, where) -> (n, W, K); None: by brute force.
        taylor: ``expansion`` of this energy, x -> (n,) and (n, D, K); None: by the gradient of bits, else ``changes``.
        blocks: sets of coordinates (W,), which together are all of them; those of a set do not interact, so that given
            the rest they can be drawn at once. None: each coordinate alone.
        resample: draws all of x anew through auxiliary variables, leaving exp(-E) invariant, (x, noise) -> x; an RBM
            draws its hidden units. None: it has no such way.
        pairs: says the energy as a sum over single coordinates and pairs of them; None: it is none, or is not known to
            be.
        toggle: ``toggles`` of this energy, (x, where) -> (n,); None: the energy is asked for at the neighbours.
        slope: E(x) (n,) and its gradient (n, *) of reals, detached; None: by autograd.
        begin: ``sweep`` of this energy; None: by its ``change``, else by brute force.
    """

    of: Of
    support: Support = REAL
    change: Callable[[Tensor, Tensor], Tensor] | None = None
    taylor: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    blocks: tuple[Tensor, ...] | None = None
    resample: Callable[[Tensor, Noise], Tensor] | None = None
    pairs: Callable[[], Pairs] | None = None
    toggle: Callable[[Tensor, Tensor], Tensor] | None = None
    slope: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    begin: Callable[[Tensor], Sweep] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return self.of(x)

    def changes(self, x: Tensor, where: Tensor | None = None) -> Tensor:
        """E(x with coordinate w set to k) - E(x): (n, W, K).

        Args:
            x: (n, *) discrete.
            where: (W,) coordinates, as positions in the flattened event; None: all of them, in order.
        """
        if where is None:
            where = torch.arange(x[0].numel(), device=x.device)
        if self.change is not None:
            return self.change(x, where)
        return brute_force(self.of, x, where, self.support.size)

    def sweep(self, x: Tensor) -> Sweep:
        """Chains at x (n, *), whose coordinates are then set in turn."""
        if self.begin is not None:
            return self.begin(x)
        return Asked(self.of, x, self.support.size) if self.change is None else Told(self.change, x)

    def toggles(self, x: Tensor, where: Tensor) -> Tensor:
        """E(x with one bit turned over) - E(x), (n,): a bit of its own for each chain.

        Args:
            x: (n, *) bits.
            where: (n,) the bit, as a position in the flattened event.
        """
        if self.toggle is not None:
            return self.toggle(x, where)
        return turned_over(self.of, x, where)

    def expansion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) (n,) and ``changes`` of all coordinates to first order (n, D, K): a pass and its gradient; detached."""
        if self.taylor is not None:
            energy, linear = self.taylor(x)
            return energy.detach(), linear.detach()
        if self.support.kind != "binary":
            with torch.no_grad():
                return self.of(x), self.changes(x)
        energy, gradient = tensors.slope(self.of, x)
        to = torch.arange(2, device=x.device, dtype=x.dtype)
        return energy, gradient.flatten(1)[..., None] * (to - x.flatten(1)[..., None])

    def scaled(self, beta: Tensor | float) -> Energy:
        """beta E, with one beta or one for each chain (n,)."""
        return weighted([(beta, self)])


def weighted(parts: Sequence[tuple[Tensor | float, Energy]]) -> Energy:
    """sum_j w_j E_j, with weights that are numbers or one for each chain (n,).

    Coordinates that do not interact in any part do not interact in the sum; ways through auxiliary variables are lost.
    """

    def wide(w: Tensor | float, like: Tensor) -> Tensor | float:
        return w.to(like).view(-1, *[1] * (like.ndim - 1)) if isinstance(w, Tensor) else w

    counted = [(w, energy) for w, energy in parts if isinstance(w, Tensor) or w != 0]

    def expanded(x: Tensor) -> tuple[Tensor, Tensor]:
        energies, linear = zip(*[energy.expansion(x) for _, energy in counted], strict=True)
        return added(energies), added(linear)

    def added(terms: Iterable[Tensor]) -> Tensor:
        return reduce(torch.add, [wide(w, term) * term for (w, _), term in zip(counted, terms, strict=True)])

    def total(of: Callable[[Energy], Tensor]) -> Tensor:
        return added(of(energy) for _, energy in counted)

    first = parts[0][1]
    if not first.support.discrete:
        slopes = [energy.slope for _, energy in counted if energy.slope is not None]

        def slope(x: Tensor) -> tuple[Tensor, Tensor]:
            energies, gradients = zip(*[of(x) for of in slopes], strict=True)
            return added(energies), added(gradients)

        own = slope if len(slopes) == len(counted) else None
        return Energy(lambda x: total(lambda energy: energy(x)), first.support, slope=own)
    return Energy(
        lambda x: total(lambda energy: energy(x)),
        first.support,
        lambda x, where: total(lambda energy: energy.changes(x, where)),
        expanded,
        _refined([energy.blocks for _, energy in parts]),
        pairs=_joined(parts),
        toggle=lambda x, where: total(lambda energy: energy.toggles(x, where)),
        begin=lambda x: Added(added, [energy.sweep(x) for _, energy in counted]),
    )


def _joined(parts: Sequence[tuple[Tensor | float, Energy]]) -> Callable[[], Pairs] | None:
    """A weighted sum of energies over pairs, each with its own edges."""
    ways = [(w, energy.pairs) for w, energy in parts if energy.pairs is not None]
    if len(ways) < len(parts):
        return None

    def scaled(w: Tensor | float, t: Tensor, dims: int) -> Tensor:
        return (w.to(t).view(-1, *[1] * dims) if isinstance(w, Tensor) else w) * t

    def pairs() -> Pairs:
        terms = [(w, way()) for w, way in ways]
        tables = [scaled(w, term.tables, 3) for w, term in terms]
        chains = max(len(t) if t.ndim == 4 else 1 for t in tables)
        if chains > 1:
            tables = [t.expand(chains, *t.shape[-3:]) for t in tables]
        return Pairs(
            torch.stack(torch.broadcast_tensors(*[scaled(w, term.unary, 2) for w, term in terms])).sum(0),
            torch.cat([term.edges for _, term in terms]),
            torch.cat(tables, -3),
        )

    return pairs


def _refined(partitions: Sequence[tuple[Tensor, ...] | None]) -> tuple[Tensor, ...] | None:
    """The coarsest partition that is as fine as each of several."""
    labels = []
    for blocks in partitions:
        if blocks is None:
            return None
        label = torch.empty(sum(len(block) for block in blocks), dtype=torch.int64, device=blocks[0].device)
        for i, block in enumerate(blocks):
            label[block] = i
        labels.append(label)
    _, joint = torch.unique(torch.stack(labels), dim=1, return_inverse=True)
    return tuple((joint == i).nonzero().flatten() for i in range(int(joint.max()) + 1))
