"""Chains whose steps are accepted or refused, so that exp(-E) is their exact stationary law: MALA and HMC."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.base import Energy
from gencli.kernels.hmc import DualAveraging, Point, hmc
from gencli.samplers.chain import AdaptedChain, Visit


class HMC(AdaptedChain):
    """Hamiltonian Monte Carlo: ``leaps`` leapfrog steps, then accept or refuse. One leap is MALA (step^2 / 2).

    During ``warmup`` transitions each chain adapts its own step size by dual averaging; then it stays. Each trajectory
    takes a step within ``jitter`` of that, so that no period of the dynamics is met.

    Args:
        leaps: leapfrog steps a transition.
        step: first step size.
        steps: transitions after the warm-up.
        warmup: transitions in which the step size adapts; 0: it stays as it is.
        target: acceptance to reach.
        jitter: the step of a trajectory is uniform on (1 +- jitter) times the adapted one.
        options: those of ``Chain``.

    Raises:
        ValueError: an option out of range.

    References:
        Neal, "MCMC using Hamiltonian dynamics", 2011; Hoffman and Gelman, "The No-U-Turn sampler", 2014.
        Roberts and Rosenthal, "Optimal scaling of discrete approximations to Langevin diffusions", 1998 (MALA: 0.574).
    """

    def __init__(
        self,
        leaps: int = 10,
        step: float = 0.1,
        steps: int = 100,
        warmup: int = 100,
        target: float = 0.8,
        jitter: float = 0.2,
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
        if not 0 <= jitter < 1:
            raise ValueError(f"sampler.jitter={jitter}: at least 0, below 1")
        self.jitter = jitter

    def walk(self, energy: Energy, x: Tensor, noise: Noise, visit: Visit) -> tuple[Tensor, dict[str, float]]:
        point = Point.at(energy, x)
        adapt = DualAveraging(x.new_full((len(x),), self.step), self.target)

        def transit(size: Tensor) -> Tensor:
            nonlocal point
            shake = 1 + self.jitter * (2 * noise.rand(len(x)).to(x) - 1) if self.jitter else 1.0
            point, accept = hmc(energy, point, noise, step=size * shake, leaps=self.leaps)
            return accept

        for _ in range(self.warmup):
            adapt.update(transit(adapt.step))
        size, total = adapt.average, torch.zeros_like(adapt.step)
        for _ in range(self.steps):
            total += transit(size)
            visit(point.x, point.energy)
        return point.x, {"acceptance": float(total.mean()) / self.steps, "step_size": float(size.mean())}
