"""Parallel tempering: hot replicas cross barriers and hand what they find to the cold one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Positive, ProperFraction, Range
from gencli.kernels.adaptation import Stepping
from gencli.kernels.base import Energy, Info, Kernel, State
from gencli.kernels.hmc import HMC, Point
from gencli.kernels.informed import usual_of_discrete


@dataclass(frozen=True)
class Replicas:
    """State of tempering.

    Args:
        hot: the chains of all temperatures; replica k of chain i lies in row i K + k, energies are divided by T_k.
        kernel: that moves them.
        every: K, the replicas of a chain.
        rounds: taken so far.
    """

    hot: State
    kernel: Kernel[Any]
    every: int
    rounds: int = 0

    @property
    def x(self) -> Tensor:
        """The replicas at T = 1, (n, *)."""
        return self.hot.x[:: self.every]


@dataclass(frozen=True, kw_only=True)
class Tempering(Kernel[Replicas]):
    """K replicas of each chain at temperatures 1 = T_1 < ... < T_K = ``hot``, evenly spaced in the logarithm.

    A step is one transition of every replica at its own temperature, then an exchange of neighbours (even pairs in even
    rounds, odd ones in odd rounds), accepted with probability min(1, exp((1/T_i - 1/T_j)(E_i - E_j))). The chain is the
    replica at T = 1. What adapts in a warm-up does so for each replica of each chain. The energy is asked for n K
    points, the replicas of a chain side by side.

    Args:
        replicas: K.
        hot: T_K; barriers of the energy up to a few times this are crossed.
        leaps: leapfrog steps a transition.
        step_size: the first at T = 1; it grows with sqrt(T).
        target: mean probability of acceptance to reach.
        inner: the transition; None: Hamiltonian by the three options above, on discrete x ``usual_of_discrete``.

    Raises:
        ValueError: an option that the inner kernel says itself.

    References:
        Swendsen and Wang, "Replica Monte Carlo simulation of spin glasses", 1986; Geyer, "Markov chain Monte Carlo
        maximum likelihood", 1991.
    """

    moves = ("real", "binary", "levels", "categorical")

    replicas: Annotated[int, Range(low=2)] = 8
    hot: Annotated[float, Range(above=1)] = 30.0
    leaps: Count = 3
    step_size: Positive = 0.1
    target: ProperFraction = 0.7
    inner: Kernel[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("leaps", "step_size", "target") if self.inner is not None else ():
            value = getattr(self, name)
            if value != getattr(type(self), name):
                raise ValueError(f"{name}={value}: inner={type(self.inner).__name__} says this itself; leave it away")

    @property
    def moved(self) -> tuple[str, ...]:
        return self.moves if self.inner is None else self.inner.moved

    @property
    def invariant(self) -> bool:
        return False  # replicas begin at one point, which is no draw of their laws

    def _beta(self, x: Tensor) -> Tensor:
        """1 / T_k (K,), of the type of x."""
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return torch.exp(-torch.linspace(0, math.log(self.hot), self.replicas, device=x.device, dtype=dtype))

    def init(self, energy: Energy, x: Tensor) -> Replicas:
        usual = usual_of_discrete(energy, x[0].numel())
        betas, x = self._beta(x).repeat(len(x)), x.repeat_interleave(self.replicas, 0)
        tempered = energy.scaled(betas)
        if self.inner is not None or energy.support.discrete:
            kernel = self.inner or usual
            return Replicas(kernel.init(tempered, x), kernel, self.replicas)
        own = HMC(leaps=self.leaps, step_size=self.step_size, target=self.target, jitter=0.0)
        return Replicas(Stepping.start(Point.at(tempered, x), self.step_size * betas.rsqrt()), own, self.replicas)

    def step(self, energy: Energy, state: Replicas, noise: Noise) -> tuple[Replicas, Info]:
        K, x, kernel = self.replicas, state.hot.x, state.kernel
        n, beta = len(x) // K, self._beta(x)
        tempered = energy.scaled(beta.repeat(n))
        hot, info = kernel.step(tempered, state.hot, _Rows(noise, n, K))
        e = (info if info.x is hot.x else Info(hot.x, tempered)).energy
        index, ratio, swaps = exchanges(e, beta, noise, state.rounds % 2)
        if index is not None:
            hot, e = kernel.exchange(tempered, hot, index, ratio), e[index] * ratio
        rates = {name: rate.mean() for name, rate in info.rates.items()} | {"swaps": swaps}
        after = replace(state, hot=hot, rounds=state.rounds + 1)
        return after, Info(after.x, e[::K], info.accept, rates)

    def adapt(self, state: Replicas, info: Info) -> Replicas:
        return replace(state, hot=state.kernel.adapt(state.hot, info))

    def settle(self, state: Replicas) -> Replicas:
        return replace(state, hot=state.kernel.settle(state.hot))

    def exchange(self, energy: Energy, state: Replicas, index: Tensor, ratio: Tensor) -> Replicas:
        K = self.replicas
        every = (index[:, None] * K + torch.arange(K, device=index.device)).flatten()
        tempered = energy.scaled(self._beta(state.hot.x).repeat(len(index)))
        return replace(state, hot=state.kernel.exchange(tempered, state.hot, every, ratio.repeat_interleave(K)))


def exchanges(energy: Tensor, beta: Tensor, noise: Noise, odd: int) -> tuple[Tensor | None, Tensor, Tensor]:
    """Which replicas change places: neighbours (k, k + 1) with k of one parity.

    Args:
        energy: (n K,) beta E of each replica.
        beta: (K,).
        noise: of n rows.
        odd: the parity.

    Returns:
        index: (n K,) the replica to whose place each one goes; None: there is no such pair.
        ratio: (n K,) its beta over that replica's.
        swaps: the mean probability.
    """
    K, n = len(beta), len(energy) // len(beta)
    betas = beta.repeat(n)
    low = torch.arange(odd, K - 1, 2, device=beta.device)
    u = noise.rand(n, K).to(betas)[:, low]
    if len(low) == 0:
        return None, torch.ones_like(betas), betas.new_zeros(())
    plain = (energy / betas).view(n, K)
    log_p = (beta[low] - beta[low + 1]) * (plain[:, low] - plain[:, low + 1])
    swap = u.log() < log_p
    order = torch.arange(K, device=betas.device).repeat(n, 1)
    order[:, low] = torch.where(swap, low + 1, low)
    order[:, low + 1] = torch.where(swap, low, low + 1)
    index = (order + K * torch.arange(n, device=betas.device)[:, None]).flatten()
    return index, betas / betas[index], log_p.clamp(max=0).exp().mean()


class _Rows(Noise):
    """Noise of n chains, dealt to their K replicas."""

    def __init__(self, noise: Noise, n: int, replicas: int) -> None:
        self.noise, self.n, self.replicas = noise, n, replicas

    def rand(self, *shape: int) -> Tensor:
        return self.noise.rand(self.n, self.replicas, *shape[1:]).flatten(0, 1)

    def randn(self, *shape: int) -> Tensor:
        return self.noise.randn(self.n, self.replicas, *shape[1:]).flatten(0, 1)
