"""Annealed chains: energies E_beta from a base q with known Z, at beta = 0, to a model, at beta = 1.

    geometric   E_beta = -(1 - beta) log q + beta E
    moments     E_beta = -(1 - beta) log N(m_beta, S_beta) + beta E: a normal whose moments go over to the model's.
    model       the model's own, such as an RBM whose couplings grow.

The first two are products of powers of two densities whose exponents add up to 1, so that they can be normalised
(Hölder).
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.progress import counted
from gencli.core.tensors import cholesky
from gencli.kernels.base import Kernel
from gencli.kernels.energy import Energy, weighted
from gencli.kernels.gibbs import draw_block
from gencli.methods.chains import energy_of
from gencli.models.base import DirectSampling, ExactLikelihood, Unnormalized
from gencli.models.structure import Annealable


class Density(ExactLikelihood, DirectSampling):
    """What a base or proposal must offer; no class of its own, but the name of the type."""


class AnnealingPath(ABC):
    """Energies E_beta, 0 <= beta <= 1, of a normalised density at 0 and of the model at 1.

    summed: coordinates that ``rise`` sums out, as positions in the flattened event; None: it sums out none.
    """

    summed: Tensor | None = None

    @abstractmethod
    def sample(self, n: int, noise: Noise) -> Tensor:
        """Exact samples (n, *) at beta = 0."""

    @abstractmethod
    def at(self, beta: float) -> Energy:
        """E_beta."""

    def rise(self, x: Tensor, low: float, high: float) -> Tensor:
        """What a step of beta adds to the energy, or to that of the coordinates that are not summed out: (n,), fp64."""
        return self.at(high)(x).double() - self.at(low)(x).double()


class GeometricPath(AnnealingPath):
    """Powers of base and model.

    Coordinates A of discrete x that do not interact can be summed out in closed form, which leaves the energy of the
    others, with the same Z and less to fluctuate (Rao-Blackwell):

        E_beta(x_rest) = E_beta(x) - sum_w in A log sum_k exp(-(E_beta(x with x_w = k) - E_beta(x))).

    Args:
        model: E.
        q: the base.
        collapse: sum out the largest block that the energies name; where they name none, nothing.
    """

    def __init__(self, model: Unnormalized, q: Density, collapse: bool = False) -> None:
        self.q, self.zero, self.one = q, energy_of(q), energy_of(model)
        blocks = self.at(0.5).blocks
        if collapse and blocks is not None:
            self.summed = max(blocks, key=len)

    def sample(self, n: int, noise: Noise) -> Tensor:
        return self.q.sample(n, noise=noise)

    def at(self, beta: float) -> Energy:
        if beta <= 0 or beta >= 1:
            return self.one if beta >= 1 else self.zero
        return weighted([(1 - beta, self.zero), (beta, self.one)])

    def rise(self, x: Tensor, low: float, high: float) -> Tensor:
        zero, one = self.zero(x).double(), self.one(x).double()
        if self.summed is None:
            return (high - low) * (one - zero)
        to_zero, to_one = (energy.changes(x, self.summed).double() for energy in (self.zero, self.one))

        def rest(beta: float) -> Tensor:
            mass = -((1 - beta) * to_zero + beta * to_one)
            return (1 - beta) * zero + beta * one - mass.logsumexp(2).sum(1)

        return rest(high) - rest(low)


class MomentsPath(AnnealingPath):
    """Normals with averaged moments, whose power falls while that of the model grows.

    With d = m_1 - m_0,

        m_beta = (1 - beta) m_0 + beta m_1,    S_beta = (1 - beta) S_0 + beta S_1 + beta (1 - beta) d d^T.

    Only a family of densities has moments to average, and an energy at large lies in none. So the family is that of the
    normals: the path starts at the one with the base's mean and covariance, whatever the base's own shape is, and the
    model comes in by its power beta. Moments that are not the model's make the path longer and bias nothing. It is the
    shorter one where base and model lie far apart, as they do not if the base is fitted to the model's data.

    Args:
        model: E.
        zero: rows x (N, *) of the base.
        one: rows (N, *) that stand for the model's.

    References:
        Grosse, Maddison and Salakhutdinov, "Annealing between distributions by averaging moments", 2013.
    """

    RIDGE: ClassVar[float] = 1e-3  # added to every variance, as a share of the mean one

    def __init__(self, model: Unnormalized, zero: Tensor, one: Tensor) -> None:
        self.model, self.like = energy_of(model), zero[:1]
        self.m_0, self.S_0 = self._moments(zero)
        self.m_1, self.S_1 = self._moments(one)

    @classmethod
    def _moments(cls, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.flatten(1).double()
        away = rows - rows.mean(0)
        covariance = away.T @ away / len(rows)
        ridge = cls.RIDGE * covariance.diagonal().mean()
        return rows.mean(0), covariance + ridge * torch.eye(len(covariance)).to(covariance)

    def moments(self, beta: float) -> tuple[Tensor, Tensor]:
        """m_beta (D,) and the Cholesky factor (D, D) of S_beta."""
        d = self.m_1 - self.m_0
        S = (1 - beta) * self.S_0 + beta * self.S_1 + beta * (1 - beta) * d.outer(d)
        return self.m_0 + beta * d, cholesky(S, "estimator.path=geometric")

    def sample(self, n: int, noise: Noise) -> Tensor:
        mean, L = self.moments(0.0)
        eps = noise.randn(n, len(mean)).to(mean)
        return (mean + eps @ L.T).to(self.like).view(n, *self.like.shape[1:])

    def normal(self, beta: float) -> Energy:
        """-log N(m_beta, S_beta)."""
        mean, L = self.moments(beta)
        level = float(L.diagonal().log().sum()) + 0.5 * len(mean) * math.log(2 * math.pi)

        def energy(x: Tensor) -> Tensor:
            white = torch.linalg.solve_triangular(L, (x.flatten(1).to(mean) - mean).T, upper=False)
            return (0.5 * white.square().sum(0) + level).to(x)

        return Energy(energy)

    def at(self, beta: float) -> Energy:
        return self.model if beta >= 1 else weighted([(1 - beta, self.normal(beta)), (beta, self.model)])

    def rise(self, x: Tensor, low: float, high: float) -> Tensor:
        before, after = self.normal(low)(x).double(), self.normal(high)(x).double()
        return (high - low) * self.model(x).double() + (1 - high) * after - (1 - low) * before


class OwnPath(AnnealingPath):
    """The model's own way.

    Args:
        model: the model.
    """

    def __init__(self, model: Annealable) -> None:
        self.model = model

    def sample(self, n: int, noise: Noise) -> Tensor:
        base = self.model.at(0.0)
        assert isinstance(base, DirectSampling)
        return base.sample(n, noise=noise)

    def at(self, beta: float) -> Energy:
        return energy_of(self.model.at(min(max(beta, 0.0), 1.0)))


@dataclass(frozen=True)
class Annealing:
    """How chains go along a path; fixed before they start, so that weights stay unbiased.

    Args:
        path: the energies.
        kernel: a transition that leaves exp(-E_beta) invariant.
        betas: 0 = beta_0 < ... < beta_K = 1, in fp64.
        learned: what a pilot run has learned at evenly spaced betas from 0 to 1: a state of one chain each.
        chains: how many go.
    """

    path: AnnealingPath
    kernel: Kernel[Any]
    betas: Tensor
    learned: Sequence[Any]
    chains: int

    @property
    def steps(self) -> int:
        """K."""
        return len(self.betas) - 1

    @torch.no_grad()
    def rise(self, x: Tensor, k: int) -> Tensor:
        """E at beta_k less that at beta_k-1, (n,) in fp64."""
        return self.path.rise(x, float(self.betas[k - 1]), float(self.betas[k]))

    def move(self, x: Tensor, k: int, noise: Noise, *, back: bool = False) -> tuple[Tensor, Tensor | None]:
        """One transition at beta_k, or its reversal in time; returns x and the mean acceptance, if it refuses any.

        Coordinates that are summed out are no part of the chain: they are drawn given the others first.
        """
        beta = float(self.betas[k])
        energy, kernel = self.path.at(beta), self.kernel.reversal() if back else self.kernel
        if self.path.summed is not None:
            with torch.no_grad():
                sweep = energy.sweep(x)
                draw_block(sweep, self.path.summed, noise)
                x = sweep.x
        state = kernel.retarget(energy, x, self.learned[round(beta * (len(self.learned) - 1))])
        state, info = kernel.step(energy, state, noise)
        return state.x, None if info.accept is None else info.accept.mean()


PILOT_CHAINS, PILOT_BETAS, FIRST = 64, 200, 20


def pilot(
    path: AnnealingPath,
    kernel_of: Callable[[Tensor], Kernel[Any]],
    betas: int,
    adapt: bool,
    noise: Noise,
    fitting: Callable[[float, float], tuple[int, int]],
    longest: float | None = None,
) -> Annealing:
    """Run a few chains along even betas; learn the kernel's settings, and betas along which log weights spread evenly.

    Settings follow the acceptance of all chains as beta goes on. The density of betas is the mean of an even one and
    one in proportion to the deviation of dE_beta / dbeta.

    Args:
        path: the energies.
        kernel_of: the kernel of chains that begin at x (n, *).
        betas: K, at most.
        adapt: choose betas; False: evenly spaced.
        noise: of the pilot run.
        fitting: K and chains, given the seconds of a transition of one chain and those that went by.
        longest: seconds after which the pilot run leaves betas out, to be done in as many again; None: no bound.
    """
    grid = torch.linspace(0, 1, min(betas, PILOT_BETAS) + 1, dtype=torch.float64)
    x = path.sample(PILOT_CHAINS, noise)
    kernel, began = kernel_of(x), time.perf_counter()
    learned, spread, moved = _flown(path, kernel, x, grid, noise, longest)
    spent = time.perf_counter() - began
    betas, chains = fitting(spent / moved / PILOT_CHAINS, spent)
    even = torch.linspace(0, 1, betas + 1, dtype=torch.float64)
    if not adapt:
        return Annealing(path, kernel, even, learned, chains)
    step = (spread[1:] + spread[:-1]) / 2
    density = step / step.sum().clamp(min=1e-30) + 1 / len(step)
    reached = torch.cat([grid.new_zeros(1), density.cumsum(0)]) / density.sum()
    chosen = _interpolate(even, reached, grid)
    chosen[-1] = 1.0
    return Annealing(path, kernel, chosen, learned, chains)


def _flown(
    path: AnnealingPath, kernel: Kernel[Any], x: Tensor, grid: Tensor, noise: Noise, longest: float | None
) -> tuple[list[Any], Tensor, int]:
    """Chains from x (n, *) along a grid of betas: what was learned at each, the spread there, transitions made.

    The spread is the deviation of the rise of the energy to the next beta, one number for each of the grid.
    """
    K = len(grid) - 1
    state: Any = kernel.init(path.at(0.0), x)
    learned: list[Any] = []
    spread: list[Tensor] = []
    began, moved, stride = time.perf_counter(), 0, 1
    for i, beta in enumerate(counted("pilot run", grid.tolist())):
        spent = time.perf_counter() - began
        if longest is not None and moved and stride == 1 and spent > longest:
            stride = max(1, math.ceil((K - i) * spent / moved / longest))
        if i % stride:
            learned.append(learned[-1])
            spread.append(spread[-1])
            continue
        energy = path.at(beta)
        for _ in range(1 if i else FIRST):  # the first settings are a guess
            if longest is not None and not i and moved and time.perf_counter() - began > longest:
                break
            moved += 1
            state = kernel.retarget(energy, state.x, state)
            state, info = kernel.step(energy, state, noise)
            state = kernel.adapt(state, info)
        learned.append(kernel.retarget(energy, state.x[:1], state))
        near = min(i, K - 1)
        with torch.no_grad():
            spread.append(path.rise(state.x, float(grid[near]), float(grid[near + 1])).std())
    return learned, torch.stack(spread).cpu(), moved


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(x) at points, x increasing."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1]).clamp(min=1e-30)).clamp(0, 1)
    return y[right - 1] + share * (y[right] - y[right - 1])
