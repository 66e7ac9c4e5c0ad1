"""Contrastive divergence: lower the energy of data, raise it where chains of the model go.

    grad log-likelihood = E_model[grad E] - E_data[grad E],

with chains of a few steps in place of the model's samples: from the data (CD), from where the last step left the chains
(PCD).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gencli.core.noise import Noise, StepNoise
from gencli.core.options import Count, Fraction, NonNegative, Positive
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import frozen
from gencli.kernels.base import Kernel
from gencli.kernels.hmc import HMC
from gencli.kernels.langevin import Langevin
from gencli.methods.chains import energy_of
from gencli.models.base import Unnormalized
from gencli.models.trained import Learned
from gencli.objectives.base import Loss
from gencli.objectives.energy.base import ChainObjective, energies, refuse_steps, vacant, walk
from gencli.objectives.energy.sampler_divergence import langevin_through, sampler_divergence


class ContrastiveDivergence(ChainObjective):
    """L = E_data[E(x)] - E_chains[E(x)] + alpha (E_data[E^2] + E_chains[E^2]), chains of k steps from the data.

    Args:
        spec: of model space.
        steps: k.
        step: step size of Langevin, x - step grad E + sqrt(2 step T) xi.
        temperature: T; 1 is the model itself, less is what image models use in the hope of shorter chains.
        metropolis: accept or refuse each step (MALA), which takes away the bias of the step size; needs T = 1.
        kernel: another transition; it does not adapt, and brings its own step size. null: Langevin; the usual one of
            the model (``methods/chains.py``) where x is discrete, or where hidden units draw it and the options of
            Langevin are as they were.
        kl: weight of the term that is otherwise left out, KL(q, p) of the law q of the chains, whose last Langevin
            steps are differentiated; 1 is the gradient of the contrastive divergence itself.
        through: the last steps that are.
        shared: options of ``ChainObjective``.

    Raises:
        ValueError: metropolis at another temperature, an option that the kernel says itself or that discrete x do not
            have, kl with other chains than Langevin's, or more steps through than there are.

    References:
        Hinton, "Training products of experts by minimizing contrastive divergence", 2002.
        Du, Li, Tenenbaum and Mordatch, "Improved contrastive divergence training of energy-based models", 2021 (kl).
    """

    static = True

    def __init__(
        self,
        spec: Spec,
        *,
        steps: Count = 10,
        step: Positive = 0.01,
        temperature: NonNegative = 1.0,
        metropolis: bool = False,
        kernel: Kernel[Any] | None = None,
        kl: NonNegative = 0.0,
        through: Count = 1,
        **shared: Any,
    ) -> None:
        refuse_steps(spec, step=step != 0.01, temperature=temperature != 1, metropolis=metropolis, kl=kl)
        if metropolis and temperature != 1:
            raise ValueError("objective.metropolis=true needs objective.temperature=1")
        if kernel is not None and (step, temperature, metropolis) != (0.01, 1.0, False):
            raise ValueError(
                "objective.kernel: it has a step size and a temperature of its own; leave objective.step, "
                "objective.temperature and objective.metropolis as they are"
            )
        if kl and (metropolis or kernel is not None):
            raise ValueError(f"objective.kl={kl}: only Langevin steps that are never refused can be differentiated")
        if kl and through > steps:
            raise ValueError(f"objective.through={through}: at most objective.steps={steps}")
        super().__init__(spec, kernel=kernel, **shared)
        self.gradients = (step, temperature, metropolis, kl) != (0.01, 1.0, False, 0.0)
        self.steps, self.metropolis, self.own = steps, metropolis, False
        self.step, self.temperature, self.kl, self.through = step, temperature, kl, through
        self.register_buffer("largest", torch.zeros(()), persistent=False)

    def bind(self, model: Unnormalized) -> Learned:
        self.own = self.kernel is None and super().usual(model) is None
        return super().bind(model)

    def usual(self, model: Unnormalized) -> Kernel[Any]:
        mala = HMC(leaps=1, step_size=math.sqrt(2 * self.step), jitter=0.0)
        langevin = mala if self.metropolis else Langevin(step_size=self.step, temperature=self.temperature)
        return super().usual(model) or langevin

    def advice(self) -> str:
        smaller = "a smaller step size, " if self.own else ""
        named = f"objective.step={self.step}" if self.own else f"objective.kernel={self.kernel}"
        return (
            f"Chains: {named}, {self.steps} steps, largest norm {float(self.largest):.3g} at the last one. Take "
            f"{smaller}objective.regularization, or a smaller optimizer.lr"
        )

    def begin(self, model: Unnormalized, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Where chains start, and a note for ``end``."""
        return batch.x, None

    def end(self, x: Tensor, note: Tensor | None) -> None:
        """Told where chains have ended."""

    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        start, note = self.begin(model, batch, noise)
        through = self.through if self.kl else 0
        assert self.kernel is not None  # since it was bound
        with frozen(model):
            energy = energy_of(model, batch.y, len(start))
            x, accepted = walk(self.kernel, energy, start, noise, self.steps - through)
        missing: Tensor | float = 0.0
        if self.kl:
            ends = langevin_through(
                model, Batch(x, batch.y), noise, step=self.step, temperature=self.temperature, steps=through
            )
            missing, x = self.kl * sampler_divergence(model, ends, batch.y), ends.detach()
        self.end(x, note)
        of_data, of_chains = energies(model, batch, x)
        gap = of_data.mean() - of_chains.mean()
        logs = {"energy_gap": gap.detach()}
        if self.spec.support.discrete:
            logs["moved"] = (x != start).float().mean()
        else:
            self.largest = x.flatten(1).norm(dim=1).max()
            logs["chain_norm"] = self.largest
        if accepted is not None:
            logs["acceptance"] = accepted
        return Loss(gap + missing + self.held_level(of_data, of_chains), logs)


class PersistentContrastiveDivergence(ContrastiveDivergence):
    """Contrastive divergence with chains that go on from step to step, kept in a buffer.

    Every step takes random chains of the buffer, starts a share of them anew, walks, and puts them back. The buffer is
    part of the checkpoint. Under several processes each has its own; the first one's is kept.

    Args:
        spec: of model space.
        buffer: number of chains kept.
        reinit: share of chains that start anew, from the model's ``start``.
        noise: deviation of noise on the data, in model space.
        shared: options of ``ContrastiveDivergence``.

    Raises:
        ValueError: noise on discrete x.

    References:
        Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", 2008.
        Du and Mordatch, "Implicit generation and modeling with energy-based models", 2019 (buffer and restarts).
    """

    chains: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        buffer: Count = 10_000,
        reinit: Fraction = 0.05,
        noise: NonNegative = 0.0,
        **shared: Any,
    ) -> None:
        refuse_steps(spec, noise=noise)
        super().__init__(spec, **shared)
        self.reinit, self.noise = reinit, noise
        self.register_buffer("chains", vacant(spec, buffer))

    def bind(self, model: Unnormalized) -> Learned:
        if model.conditional:
            raise ValueError("objective=pcd keeps chains without labels: model.conditional=false, or objective=cd")
        return super().bind(model)

    @torch.no_grad()
    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        super().start(model, examples)
        self.chains.copy_(model.start(len(self.chains), noise=StepNoise(self.chains.device, 1)))

    def begin(self, model: Unnormalized, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        n = len(batch.x)
        with torch.no_grad():
            # sorted draws without replacement: two chains must not be written to the same place
            index = noise.rand(len(self.chains)).to(self.chains.device).topk(min(n, len(self.chains))).indices
            fresh = model.start(len(index), noise=noise).to(self.chains)
            anew = (noise.rand(len(index)).to(self.chains.device) < self.reinit).view(-1, *[1] * (self.chains.ndim - 1))
            return torch.where(anew, fresh, self.chains[index]), index

    def end(self, x: Tensor, note: Tensor | None) -> None:
        assert note is not None
        self.chains[note] = x.to(self.chains)

    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        if self.noise:
            batch = Batch(batch.x + self.noise * noise.randn(*batch.x.shape).to(batch.x), batch.y)
        return super().loss(model, batch, noise)
