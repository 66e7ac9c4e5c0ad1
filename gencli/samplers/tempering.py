"""Parallel tempering: hot replicas cross barriers and hand what they find to the cold one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.tensors import rows
from gencli.kernels.base import Energy
from gencli.kernels.hmc import DualAveraging, Point, hmc
from gencli.samplers.chain import AdaptedChain, Visit


class Tempering(AdaptedChain):
    """K replicas of each chain at temperatures 1 = T_1 < ... < T_K = ``hot``, evenly spaced in the logarithm.

    A round is one Hamiltonian transition of every replica at its own temperature, then an exchange of neighbours (even
    pairs in even rounds, odd ones in odd rounds), accepted with probability min(1, exp((1/T_i - 1/T_j)(E_i - E_j))).
    The samples are the replicas at T = 1. Step sizes adapt for each replica of each chain.

    Args:
        replicas: K.
        hot: T_K; barriers of the energy up to a few times this are crossed.
        leaps: leapfrog steps a transition.
        step: first step size at T = 1; it grows with sqrt(T).
        steps: rounds after the warm-up.
        warmup: rounds in which step sizes adapt.
        target: acceptance to reach.
        options: those of ``Chain``.

    Raises:
        ValueError: an option out of range.

    References:
        Swendsen and Wang, "Replica Monte Carlo simulation of spin glasses", 1986; Geyer, "Markov chain Monte Carlo
        maximum likelihood", 1991.
    """

    def __init__(
        self,
        replicas: int = 8,
        hot: float = 30.0,
        leaps: int = 3,
        step: float = 0.1,
        steps: int = 100,
        warmup: int = 50,
        target: float = 0.7,
        init: str = "model",
        init_scale: float = 1.0,
        classes: list[int] | None = None,
    ) -> None:
        super().__init__(
            leaps=leaps,
            step=step,
            steps=steps,
            warmup=warmup,
            target=target,
            init=init,
            init_scale=init_scale,
            classes=classes,
        )
        if replicas < 2:
            raise ValueError(f"sampler.replicas={replicas}: at least 2")
        if hot <= 1:
            raise ValueError(f"sampler.hot={hot}: above 1, the temperature of the samples")
        self.replicas, self.hot = replicas, hot

    def walk(self, energy: Energy, x: Tensor, noise: Noise, visit: Visit) -> tuple[Tensor, dict[str, float]]:
        n, K = len(x), self.replicas
        beta = torch.exp(-torch.linspace(0, math.log(self.hot), K, device=x.device, dtype=x.dtype))
        betas = beta.repeat(n)  # replica k of chain i lies in row i K + k
        flat = _Rows(noise, n, K)

        def tempered(at: Tensor) -> Tensor:
            return betas * energy(at)

        x = x.repeat_interleave(K, 0)
        point = Point.at(tempered, x)
        adapt = DualAveraging(self.step * betas.rsqrt(), self.target)
        accepted, swapped = betas.new_zeros(()), betas.new_zeros(())
        for i in range(self.warmup + self.steps):
            size = adapt.step if i < self.warmup else adapt.average
            point, accept = hmc(tempered, point, flat, step=size, leaps=self.leaps)
            if i < self.warmup:
                adapt.update(accept)
            point, exchange = self._swap(point, betas, beta, noise, n, i % 2)
            if i >= self.warmup:
                accepted, swapped = accepted + accept.mean(), swapped + exchange
                visit(point.x[::K], point.energy[::K])
        said = {"acceptance": float(accepted) / self.steps, "swaps": float(swapped) / self.steps}
        return point.x[::K], said

    def _swap(self, point: Point, betas: Tensor, beta: Tensor, noise: Noise, n: int, odd: int) -> tuple[Point, Tensor]:
        """Exchange neighbours (k, k + 1) with k of one parity; returns the mean probability too."""
        K = self.replicas
        low = torch.arange(odd, K - 1, 2, device=betas.device)
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
