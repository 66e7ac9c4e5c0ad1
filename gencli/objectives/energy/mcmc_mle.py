"""Monte Carlo maximum likelihood: the ratio Z(theta) / Z(psi) from samples of a reference parameter psi."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.noise import Noise, StepNoise
from gencli.core.options import Count, Range
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import ess, frozen, log_mean_exp
from gencli.kernels.adaptation import DualAveraging
from gencli.kernels.base import Kernel, slope
from gencli.kernels.hmc import Point, hmc
from gencli.methods.chains import energy_of
from gencli.models.base import Unnormalized
from gencli.models.trained import Learned
from gencli.objectives.base import Loss
from gencli.objectives.energy.base import ChainObjective, walk


class MonteCarloMLE(ChainObjective):
    """L = E_data[E_theta(x)] + log 1/M sum_j exp(E_psi(x_j) - E_theta(x_j)), x_j ~ p_psi: the NLL less log Z(psi).

    Every ``anchor`` steps psi becomes theta, and the x_j walk on by Hamiltonian Monte Carlo with one step size for all
    that is adapted meanwhile. The loss is right only while the weights are even: their effective sample size is logged
    (``ess``, a share of M).

    Args:
        spec: of model space.
        samples: M.
        anchor: training steps with one psi.
        steps: transitions at each new psi.
        leaps: leapfrog steps a transition.
        kernel: another transition than that of Hamiltonian Monte Carlo; it does not adapt.
        shared: options of ``ChainObjective``.

    Raises:
        ValueError: an option that the kernel says itself.

    References:
        Geyer, "On the convergence of Monte Carlo maximum likelihood calculations", 1994.
    """

    x: Tensor
    energies: Tensor
    size: Tensor
    age: Tensor

    TARGET = 0.7

    def __init__(
        self,
        spec: Spec,
        *,
        samples: Annotated[int, Range(low=2)] = 1000,
        anchor: Count = 20,
        steps: Count = 10,
        leaps: Count = 5,
        kernel: Kernel[Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(spec, kernel=kernel, **shared)
        if kernel is not None and leaps != 5:
            raise ValueError(f"objective.leaps={leaps}: objective.kernel says this itself; leave it as it is")
        self.anchor, self.steps, self.leaps, self.kernel = anchor, steps, leaps, kernel
        self.register_buffer("x", torch.zeros(samples, *spec.shape))
        self.register_buffer("energies", torch.zeros(samples))
        self.register_buffer("size", torch.tensor(0.1))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        self.steps_taken: int | None = 0  # ``age`` on the host, so that no step waits for the device
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "steps_taken", None))

    def advice(self) -> str:
        norm = float(self.x.flatten(1).norm(dim=1).max())
        return (
            f"Chains: {self.kernel or f'HMC with a step size of {float(self.size):.3g}'}, largest norm of a chain "
            f"{norm:.3g}. "
            "Take a smaller optimizer.lr or a smaller objective.anchor"
        )

    def bind(self, model: Unnormalized) -> Learned:
        if model.conditional:
            raise ValueError("objective=mcmc_mle keeps chains without labels: model.conditional=false")
        return super().bind(model)

    @torch.no_grad()
    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        super().start(model, examples)
        self.x.copy_(model.start(len(self.x), noise=StepNoise(self.x.device, 2)))

    def _anchor(self, model: Unnormalized, noise: Noise) -> None:
        """psi <- theta: chains walk on, and their energies are kept."""
        energy = energy_of(model)
        with frozen(model):
            if self.kernel is not None:
                x, _ = walk(self.kernel, energy, self.x, noise, self.steps)
                self.x.copy_(x)
                self.energies.copy_(slope(energy, x)[0])
                return
            point, sizes = Point.at(energy, self.x), DualAveraging.start(self.size.view(1))
            for _ in range(self.steps):
                point, accept = hmc(energy, point, noise, step=sizes.step.expand(len(self.x)), leaps=self.leaps)
                sizes = sizes.update(accept.mean().view(1), self.TARGET)
        self.x.copy_(point.x)
        self.energies.copy_(point.energy)
        self.size.copy_(sizes.average[0])

    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        if self.steps_taken is None:
            self.steps_taken = int(self.age)
        if self.steps_taken % self.anchor == 0:
            self._anchor(model, noise)
        self.steps_taken += 1
        self.age += 1
        of_data, of_samples = model.energy(batch.x, batch.y), model.energy(self.x)
        log_weights = self.energies - of_samples
        value = of_data.mean() + log_mean_exp(log_weights)[0]
        share = ess(log_weights.detach()) / len(self.x)
        return Loss(value + self.held_level(of_data, of_samples), {"ess": share, "step_size": self.size.clone()})
