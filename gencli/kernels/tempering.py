"""Parallel tempering: hot replicas cross barriers and hand what they find to the cold one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Positive, ProperFraction, Range
from gencli.core.tensors import rows
from gencli.kernels.adaptation import DualAveraging
from gencli.kernels.base import Energy, Info, Kernel
from gencli.kernels.hmc import Point, Trajectories, hmc


@dataclass(frozen=True)
class Replicas:
    """State of tempering.

    Args:
        hot: the chains of all temperatures; replica k of chain i lies in row i K + k, energies are divided by T_k.
        every: K, the replicas of a chain.
        rounds: taken so far.
    """

    hot: Trajectories
    every: int
    rounds: int = 0

    @property
    def x(self) -> Tensor:
        """The replicas at T = 1, (n, *)."""
        return self.hot.x[:: self.every]


@dataclass(frozen=True, kw_only=True)
class Tempering(Kernel[Replicas]):
    """K replicas of each chain at temperatures 1 = T_1 < ... < T_K = ``hot``, evenly spaced in the logarithm.

    A step is one Hamiltonian transition of every replica at its own temperature, then an exchange of neighbours (even
    pairs in even rounds, odd ones in odd rounds), accepted with probability min(1, exp((1/T_i - 1/T_j)(E_i - E_j))).
    The chain is the replica at T = 1. In a warm-up step sizes adapt for each replica of each chain. The energy is
    asked for n K points, the replicas of a chain side by side.

    Args:
        replicas: K.
        hot: T_K; barriers of the energy up to a few times this are crossed.
        leaps: leapfrog steps a transition.
        step_size: the first at T = 1; it grows with sqrt(T).
        target: mean probability of acceptance to reach.

    References:
        Swendsen and Wang, "Replica Monte Carlo simulation of spin glasses", 1986; Geyer, "Markov chain Monte Carlo
        maximum likelihood", 1991.
    """

    invariant = False  # replicas begin at one point, which is no draw of their laws

    replicas: Annotated[int, Range(low=2)] = 8
    hot: Annotated[float, Range(above=1)] = 30.0
    leaps: Count = 3
    step_size: Positive = 0.1
    target: ProperFraction = 0.7

    def _beta(self, x: Tensor) -> Tensor:
        """1 / T_k (K,), of the type of x."""
        return torch.exp(-torch.linspace(0, math.log(self.hot), self.replicas, device=x.device, dtype=x.dtype))

    def init(self, energy: Energy, x: Tensor) -> Replicas:
        betas = self._beta(x).repeat(len(x))
        sizes = DualAveraging.start(self.step_size * betas.rsqrt())
        point = Point.at(lambda at: betas * energy(at), x.repeat_interleave(self.replicas, 0))
        return Replicas(Trajectories(point, sizes.step, sizes), self.replicas)

    def step(self, energy: Energy, state: Replicas, noise: Noise) -> tuple[Replicas, Info]:
        K = self.replicas
        n = len(state.hot.size) // K
        beta = self._beta(state.hot.x)
        betas = beta.repeat(n)
        point, accept = hmc(
            lambda at: betas * energy(at),
            state.hot.point,
            _Rows(noise, n, K),
            step=state.hot.size,
            leaps=self.leaps,
        )
        point, swaps = _exchange(point, beta, noise, n, state.rounds % 2)
        after = Replicas(replace(state.hot, point=point), K, state.rounds + 1)
        return after, Info(point.x[::K], point.energy[::K], accept, {"acceptance": accept.mean(), "swaps": swaps})

    def adapt(self, state: Replicas, info: Info) -> Replicas:
        assert info.accept is not None
        return replace(state, hot=state.hot.adapted(info.accept, self.target))

    def settle(self, state: Replicas) -> Replicas:
        return replace(state, hot=state.hot.settled())


def _exchange(point: Point, beta: Tensor, noise: Noise, n: int, odd: int) -> tuple[Point, Tensor]:
    """Exchange neighbours (k, k + 1) with k of one parity; returns the mean probability too."""
    K = len(beta)
    betas = beta.repeat(n)
    low = torch.arange(odd, K - 1, 2, device=beta.device)
    u = noise.rand(n, K).to(betas)[:, low]
    if len(low) == 0:
        return point, betas.new_zeros(())
    plain = (point.energy / betas).view(n, K)
    log_p = (beta[low] - beta[low + 1]) * (plain[:, low] - plain[:, low + 1])
    swap = u.log() < log_p
    order = torch.arange(K, device=betas.device).repeat(n, 1)
    order[:, low] = torch.where(swap, low + 1, low)
    order[:, low + 1] = torch.where(swap, low, low + 1)
    index = (order + K * torch.arange(n, device=betas.device)[:, None]).flatten()
    ratio = betas / betas[index]  # energies and gradients at the new temperature
    moved = Point(point.x[index], point.energy[index] * ratio, point.gradient[index] * rows(ratio, point.gradient))
    return moved, log_p.clamp(max=0).exp().mean()


class _Rows(Noise):
    """Noise of n chains, dealt to their K replicas."""

    def __init__(self, noise: Noise, n: int, replicas: int) -> None:
        self.noise, self.n, self.replicas = noise, n, replicas

    def rand(self, *shape: int) -> Tensor:
        return self.noise.rand(self.n, self.replicas, *shape[1:]).flatten(0, 1)

    def randn(self, *shape: int) -> Tensor:
        return self.noise.randn(self.n, self.replicas, *shape[1:]).flatten(0, 1)
