"""Lattices of spins at equilibrium: draws of the Ising model on a torus, whose entropy is known."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from gencli.core.ising import torus
from gencli.core.lattice import Lattice, clusters
from gencli.core.noise import mix_seed
from gencli.core.options import Count, NonNegative, Range, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import SPLITS, TensorSplit

_EXACT = 10  # the largest side whose rows are few enough for the transfer matrix
_ROWS = 1024  # examples that are drawn at once
_CHAINS = 64
_BURN_IN = 300  # sweeps of a chain before its first example
_BETWEEN = 10  # sweeps between two examples of a chain


class IsingLattices(Lazy):
    """Bits x = (1 + s) / 2 of L x L spins with log p(s) = K sum_<ij> s_i s_j - log Z, every bond counted once.

    ``entropy`` is exact: H = log Z - K d log Z / dK, by Kaufman's formula. Up to L = 10 examples are exact independent
    draws, row after row by the transfer matrix. Above, they are the states of 64 Swendsen-Wang chains, 300 sweeps after
    a random start and then every 10 sweeps: not exact, and near the critical coupling 0.4406868 those of a chain are
    correlated (its time is some 5 sweeps at L = 32). Each split has chains of its own. With L = 2 each double bond
    counts twice.

    Args:
        size: L.
        K: the coupling, in nats.
        seed: of the examples.
        train: number of training examples.
        val: number of validation examples.
        test: number of test examples.
    """

    name = "ising"
    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "image"

    def __init__(
        self,
        size: Annotated[int, Range(low=2, high=256)] = 8,
        K: NonNegative = 0.4,
        seed: Seed = 0,
        train: Count = 10_000,
        val: Count = 1_000,
        test: Count = 5_000,
    ) -> None:
        super().__init__()
        self.spec = Spec((1, size, size), Support.parse(self.support))
        self.size, self.K, self.seed = size, K, seed
        self.sizes = dict(zip(SPLITS, (train, val, test), strict=True))
        log_z, energy, _ = torus(K, size, size)
        self.entropy = log_z + K * size**2 * energy

    def understood(self) -> list[str]:
        if self.size <= _EXACT:
            return []
        return [
            f"data.size={self.size}: above {_EXACT} examples are states of long Swendsen-Wang chains, no exact draws"
        ]

    def load(self, name: str) -> TensorSplit:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, 1 + SPLITS.index(name)))
        draw = _by_rows if self.size <= _EXACT else _by_clusters
        return TensorSplit(draw(self.size, self.K, self.sizes[name], generator).view(-1, 1, self.size, self.size))


def _by_rows(L: int, K: float, n: int, generator: torch.Generator) -> Tensor:
    """Exact draws (n, L, L): the first row by its marginal, each next one given the row before it and the first one.

    With T the transfer matrix, p(r_1) is proportional to (T^L)[r_1, r_1] and p(r_i+1 given r_i, r_1) to
    T[r_i, r_i+1] (T^(L-i))[r_i+1, r_1].
    """
    bits = (torch.arange(2**L)[:, None] >> torch.arange(L)) & 1
    s = 2.0 * bits.double() - 1
    own = K * (s * s.roll(1, 1)).sum(1)
    T = (K * (s @ s.T) + 0.5 * (own[:, None] + own)).sub_(2 * K * L).exp_()  # at most 1
    powers = [T]
    while len(powers) < L:
        power = powers[-1] @ T
        powers.append(power / power.max())

    def pick(weights: Tensor) -> Tensor:
        steps = weights.cumsum(1)
        u = torch.rand(len(steps), 1, generator=generator, dtype=torch.float64) * steps[:, -1:]
        return torch.searchsorted(steps, u, right=True)[:, 0].clamp(max=2**L - 1)

    found = []
    for start in range(0, n, _ROWS):
        first = pick(powers[-1].diagonal().expand(min(_ROWS, n - start), -1))
        rows = [first]
        for left in range(L - 1, 0, -1):
            rows.append(pick(T[rows[-1]] * powers[left - 1][first]))
        found.append(bits[torch.stack(rows, 1)].to(torch.uint8))
    return torch.cat(found)


def _by_clusters(L: int, K: float, n: int, generator: torch.Generator) -> Tensor:
    """States (n, L * L) of Swendsen-Wang chains, all chains at one time before all of them at the next."""
    edges, D, chains = Lattice(L, L).edges(), L * L, min(_CHAINS, n)
    p = 1 - torch.tensor(-2 * K).exp()
    x = torch.rand(chains, D, generator=generator) < 0.5
    found: list[Tensor] = []
    for sweep in range(_BURN_IN + _BETWEEN * (-(-n // chains) - 1)):
        alike = x[:, edges[:, 0]] == x[:, edges[:, 1]]
        cluster = clusters(alike & (torch.rand(alike.shape, generator=generator) < p), edges, D)
        x = x ^ (torch.rand(chains, D, generator=generator) < 0.5).gather(1, cluster)
        if sweep >= _BURN_IN - 1 and (sweep - _BURN_IN + 1) % _BETWEEN == 0:
            found.append(x.to(torch.uint8))
    return torch.cat(found)[:n]
