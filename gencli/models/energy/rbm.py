"""Restricted Boltzmann machines: visible units x and hidden bits h that see each other through weights alone.

    E(x, h) = e(x) - h . (c + V x),
    E(x) = -log sum_h exp(-E(x, h)) = e(x) - sum_j softplus(c_j + V_j . x)    (the free energy)

Bits have e(x) = -a . x and V = W. Reals have e(x) = |(x - a) / sigma|^2 / 2 and V = W / sigma, so that given
h they are normal, N(a + sigma W^T h, sigma^2). Z is a sum of 2^H terms, one for each h.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core import sizes
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count
from gencli.core.spec import Spec
from gencli.core.tensors import LOG_2PI
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model, Unnormalized
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.independent import Independent
from gencli.models.energy.reference import Reference
from gencli.models.structure import Annealable, BlockGibbs, Enumerable, HiddenUnits, LinearFeatures

CELLS = 1 << 21
"""Most numbers of a tensor that is laid out for many changes at once."""


def softplus(t: Tensor) -> Tensor:
    """log(1 + e^t), to the precision of fp64 too."""
    return F.softplus(t, threshold=40)


@dataclass(frozen=True)
class Units:
    """An RBM as numbers; x is flattened.

    Args:
        a: (D,) biases of visible bits, or means of visible reals.
        c: (H,) biases of hidden units.
        V: (H, D) what hidden units see.
        precision: (D,) 1 / sigma^2 of visible reals; None: they are bits.
        offset: added to every energy.
    """

    a: Tensor
    c: Tensor
    V: Tensor
    precision: Tensor | None = None
    offset: Tensor | float = 0.0

    def free_energy(self, x: Tensor) -> Tensor:
        """E(x): (n, D) -> (n,)."""
        hidden = softplus(torch.addmm(self.c, x, self.V.T)).sum(1)
        if self.precision is None:
            return self.offset - x @ self.a - hidden
        return self.offset + 0.5 * (x - self.a).square() @ self.precision - hidden

    def changes(self, x: Tensor, where: Tensor) -> Tensor:
        """E(x with bit w set to k) - E(x): (n, W, 2). The sums over x are taken once, so that a flip costs H."""
        seen = torch.addmm(self.c, x, self.V.T)
        own, found = softplus(seen).sum(1), []
        for part in where.split(max(1, CELLS // max(1, seen.numel()))):
            step = 1 - 2 * x[:, part]  # of the flip
            flipped = softplus(seen[:, None] + step[..., None] * self.V.T[part]).sum(2)
            found.append(own[:, None] - flipped - step * self.a[part])
        flip, stays = torch.cat(found, 1), x[:, where, None] == torch.arange(2, device=x.device)
        return flip[..., None].masked_fill(stays, 0.0)

    def hidden(self, x: Tensor) -> Tensor:
        """p(h_j = 1 | x): (n, D) -> (n, H)."""
        return torch.addmm(self.c, x, self.V.T).sigmoid_()

    def visible(self, h: Tensor) -> Tensor:
        """E[x | h]: (n, H) -> (n, D)."""
        if self.precision is None:
            return torch.addmm(self.a, h, self.V).sigmoid_()
        return self.a + (h @ self.V) / self.precision

    def draw_visible(self, h: Tensor, noise: Noise) -> Tensor:
        """x ~ p(x | h): (n, H) -> (n, D)."""
        mean = self.visible(h)
        if self.precision is None:
            return (noise.rand(*mean.shape).to(mean) < mean).to(mean)
        return mean + self.precision.rsqrt() * noise.randn(*mean.shape).to(mean)

    def resample(self, x: Tensor, noise: Noise) -> Tensor:
        """h given x, then x given h: (n, D) -> (n, D)."""
        p = self.hidden(x)
        return self.draw_visible((noise.rand(*p.shape).to(p) < p).to(p), noise)

    @property
    def smaller(self) -> int:
        """Units of the side over whose states the sum is shorter."""
        return len(self.c) if self.precision is not None else min(len(self.c), len(self.a))

    def log_terms(self, index: Tensor) -> Tensor:
        """log of sum_x exp(-E(x, h)), or of exp(-E(x)) where there are fewer visible bits: one for each index (m,)."""
        shift = torch.arange(self.smaller, device=index.device)
        bits = (index[:, None] >> shift & 1).to(self.a)
        if self.smaller < len(self.c):
            return -self.free_energy(bits)
        own, seen = bits @ self.c - self.offset, bits @ self.V
        if self.precision is None:
            return own + softplus(self.a + seen).sum(1)
        level = 0.5 * (LOG_2PI - self.precision.log()).sum()
        return own + level + seen @ self.a + 0.5 * seen.square() @ (1 / self.precision)


class Bipartite(BlockGibbs, Enumerable, HiddenUnits):
    """What follows from the numbers of an RBM, wherever they come from."""

    @abstractmethod
    def units(self) -> Units:
        """The numbers."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.units().free_energy(x.flatten(1))

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.units().changes(x.flatten(1), where)

    @torch.no_grad()
    def resample(self, x: Tensor, noise: Noise, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.units().resample(x.flatten(1), noise).view_as(x)

    @torch.no_grad()
    def hidden(self, x: Tensor) -> Tensor:
        return self.units().hidden(x.flatten(1))

    @torch.no_grad()
    def visible(self, h: Tensor) -> Tensor:
        return self.units().visible(h).view(-1, *self.spec.shape)

    @torch.no_grad()
    def draw_visible(self, h: Tensor, noise: Noise) -> Tensor:
        return self.units().draw_visible(h, noise).view(-1, *self.spec.shape)

    @property
    def terms(self) -> int:
        return 2 ** self.units().smaller

    def log_terms(self, index: Tensor) -> Tensor:
        return self.units().log_terms(index)


class RBM(Bipartite, Annealable, LinearFeatures, DataInitialized):
    """A restricted Boltzmann machine of H hidden bits under visible bits or reals (see the module for E).

    It starts as independent visible units with the frequencies, or the means and deviations, of the data, and with
    small weights. Those units, fixed, are its ``reference``: chains start there, and so does annealing, along

        E_beta(x) = beta e(x) - (1 - beta) log q(x) - sum_j softplus(beta (c_j + V_j . x)) + (1 - beta) H log 2,

    which is -log q at 0 and E at 1 (the path of base rates). Images are flattened inside.

    Args:
        spec: what one example is.
        conditional: refused.
        hidden: H; auto: ``sizes.width``.

    Raises:
        ValueError: conditional.

    References:
        Smolensky, "Information processing in dynamical systems: foundations of harmony theory", 1986.
        Hinton, "A practical guide to training restricted Boltzmann machines", 2012 (where it starts).
        Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks", 2008 (the path).
        Cho, Ilin and Raiko, "Improved learning of Gaussian-Bernoulli restricted Boltzmann machines", 2011 (reals).
    """

    supports = ("binary", "real")
    shapes = ("vector", "image")

    SPREAD = 0.01  # deviation of the weights at the start

    def __init__(self, spec: Spec, *, conditional: bool = False, hidden: Auto[Count] = "auto") -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an energy has another Z for each y; train one model a class")
        units: int = sizes.settle(self, "hidden", hidden, sizes.width(spec.dim))
        bits = spec.support.discrete
        self.a = nn.Parameter(torch.zeros(spec.dim))
        self.c = nn.Parameter(torch.zeros(units))
        self.W = nn.Parameter(self.SPREAD * torch.randn(units, spec.dim))
        self.log_sigma = None if bits else nn.Parameter(torch.zeros(spec.dim))
        self.register_load_state_dict_pre_hook(_in_units_of_sigma)  # type: ignore[no-untyped-call]
        self.base = Reference(spec, kind="independent" if bits else "gaussian", covariance="diagonal")
        self.initial_examples = self.base.initial_examples

    def units(self) -> Units:
        if self.log_sigma is None:
            return Units(self.a, self.c, self.W)
        over = (-self.log_sigma).exp()
        return Units(self.a, self.c, self.W * over, over.square())

    def filters(self) -> Tensor:
        return self.W.detach().view(-1, *self.spec.shape)

    def reference(self) -> Model | None:
        return self.base

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.base.initialize(x)
        location, log_sigma = self._rates()
        self.a.copy_(location)
        if self.log_sigma is not None and log_sigma is not None:
            self.log_sigma.copy_(log_sigma)

    def _rates(self) -> tuple[Tensor, Tensor | None]:
        """The biases of q, or its means and log deviations: (D,)."""
        q = self.base.density
        if isinstance(q, Independent):
            return q.marginals[:, 0], None
        assert isinstance(q, Gaussian)
        return q.normal.mean[0], q.normal.log_diagonal[0]

    def at(self, beta: float) -> Unnormalized:
        if beta >= 1:
            return self
        if beta <= 0:
            return AtBase(self.spec, self._between(0.0), self.base)
        return AnnealedRBM(self.spec, self._between(beta))

    def _between(self, beta: float) -> Units:
        """The numbers at a beta of the path."""
        one, (a_0, log_sigma) = self.units(), self._rates()
        c, V, level = beta * one.c, beta * one.V, one.c.new_tensor(len(one.c) * math.log(2))
        if one.precision is None or log_sigma is None:
            a = (1 - beta) * a_0 + beta * one.a
            return Units(a, c, V, None, (1 - beta) * (level + softplus(a_0).sum()))
        p_0, p_1 = (1 - beta) * (-2 * log_sigma).exp(), beta * one.precision
        a = (p_0 * a_0 + p_1 * one.a) / (p_0 + p_1)
        level = level + (0.5 * LOG_2PI + log_sigma).sum()
        apart = 0.5 * (p_0 * p_1 / (p_0 + p_1) * (a_0 - one.a).square()).sum()  # what completing the square leaves
        return Units(a, c, V, p_0 + p_1, (1 - beta) * level + apart)


def _in_units_of_sigma(module: nn.Module, tensors: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Weights of a run in which V was W / sigma^2, as ``log_s`` shows, in units of sigma."""
    old = f"{prefix}log_s"
    if old in tensors:
        log_sigma = tensors[f"{prefix}log_sigma"] = tensors.pop(old)
        tensors[f"{prefix}W"] = tensors[f"{prefix}W"] * (-log_sigma).exp()


class AnnealedRBM(Bipartite):
    """An RBM on the path of another's, which is one itself but for a constant.

    Args:
        spec: what one example is.
        units: its numbers.
    """

    supports = RBM.supports
    shapes = RBM.shapes

    def __init__(self, spec: Spec, units: Units) -> None:
        super().__init__(spec)
        self.numbers = units

    def units(self) -> Units:
        return self.numbers


class AtBase(AnnealedRBM, ExactLikelihood, DirectSampling):
    """The beginning of the path: independent visible units, which are drawn without a chain.

    Args:
        spec: what one example is.
        units: its numbers, without weights.
        base: the same density.
    """

    def __init__(self, spec: Spec, units: Units, base: Reference) -> None:
        super().__init__(spec, units)
        self.base = base

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.base.log_prob(x, y)

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.base.sample(n, y, noise=noise, temperature=temperature)
