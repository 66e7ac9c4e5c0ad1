"""Small energies of discrete x whose states can be counted: rings of coordinates that see their neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.spec import Spec, Support
from gencli.models.base import DirectSampling
from gencli.models.structure import Relaxed


def discrete(support: str, *shape: int) -> Spec:
    return Spec(shape, Support.parse(support))


def states(spec: Spec) -> Tensor:
    """All K^D values of x (K^D, *), in the dtype of models."""
    K, D = spec.support.size, spec.dim
    x = torch.cartesian_prod(*[torch.arange(K)] * D).view(-1, *spec.shape)
    return x.float() if spec.support.kind == "binary" else x


class Ring(Relaxed):
    """E(x) = sum_i u[i, x_i] + sum_i t[i, x_i, x_i+1], periodic, of seeded normal u and t.

    Args:
        spec: of D coordinates, an even number.
        seed: of the tables.
        scale: deviation of t; u has half of it.
        coupled: add this where neighbours are equal.
        blocks: whether it says that every other coordinate can be drawn at once.
    """

    supports = ("binary", "levels", "categorical")

    def __init__(
        self, spec: Spec, seed: int = 0, scale: float = 1.0, coupled: float = 0.0, blocks: bool = True
    ) -> None:
        super().__init__(spec)
        generator = torch.Generator().manual_seed(seed)
        K, D = spec.support.size, spec.dim
        self.u = 0.5 * scale * torch.randn(D, K, generator=generator, dtype=torch.float64)
        self.t = scale * torch.randn(D, K, K, generator=generator, dtype=torch.float64) - coupled * torch.eye(K)
        self.known = blocks

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        values = x.flatten(1).long()
        i = torch.arange(values.shape[1])
        return (self.u[i, values] + self.t[i, values, values.roll(-1, 1)]).sum(1)

    def relaxed(self, p: Tensor, y: Tensor | None = None) -> Tensor:
        p = p.double()
        return (p * self.u).sum((1, 2)) + torch.einsum("nik,ikl,nil->n", p, self.t, p.roll(-1, 1))

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        values = x.flatten(1).long()
        left, right = values.roll(1, 1)[:, where], values.roll(-1, 1)[:, where]
        before = (where - 1) % values.shape[1]
        local = self.u[where] + self.t[before, left] + self.t.transpose(1, 2)[where, right]
        return local - local.gather(2, values[:, where, None])

    def blocks(self) -> tuple[Tensor, ...] | None:
        i = torch.arange(self.spec.dim)
        return (i[::2], i[1::2]) if self.known else None

    def log_partition(self) -> float:
        return float((-self.energy(states(self.spec))).logsumexp(0))


class Drawn(Ring, DirectSampling):
    """A ring with exact samples, from the list of its states."""

    def sample(self, n: int, y: Tensor | None = None, *, noise, temperature: float = 1.0) -> Tensor:
        every = states(self.spec)
        total = (-self.energy(every)).softmax(0).cumsum(0)
        return every[torch.searchsorted(total, noise.rand(n).double()).clamp(max=len(every) - 1)]


def exact(model: Ring, n: int, seed: int = 0) -> Tensor:
    """n independent samples of a ring."""
    p = (-model.energy(states(model.spec))).softmax(0)
    return states(model.spec)[torch.multinomial(p, n, True, generator=torch.Generator().manual_seed(seed))]
