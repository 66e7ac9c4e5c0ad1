"""What objectives of latent variables share: how a prior learns that is an energy, p(z) = exp(-E(z)) / Z.

The bound has -E(z) in place of log p(z) and lacks log Z, whose gradient is that of what a sample of p(z) says:

    d log Z / d theta = -E_p(z) dE / d theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, Positive
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import frozen
from gencli.kernels.hmc import HMC
from gencli.kernels.langevin import Langevin
from gencli.methods.annealing import Density, GeometricPath
from gencli.methods.chains import energy_of
from gencli.models.base import DirectSampling, ExactLikelihood, LatentVariable, Unnormalized
from gencli.models.structure import PosteriorCodes
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Objective, Turn
from gencli.objectives.energy.base import contrast, walk
from gencli.objectives.energy.perturbations import Gaussian, Perturbation, Scales

CHAINS, BETAS, LEAPS, STEP = 64, 40, 3, 0.3
"""Of the log Z in a validation score: chains, their steps from N(0, I) to the prior, the leaps of each."""


class LatentObjective(Objective[LatentVariable]):
    """An objective of latent variables, with the options of a prior that is an energy.

    ``short_run``: the bound's own gradient, with d log Z from the ends z of chains of ``prior_steps`` Langevin steps

        z <- z - s grad E(z) + sqrt(2 s) xi

    that start at the reference N(0, I) anew at each step of training. They have to reach where codes are, else energy
    and encoder run away from them together: that is why the energy learns more slowly than all else.
    ``energy_discrepancy``: the prior learns from codes z ~ q(z | x) alone, without a chain or Z, and the bound moves
    all else.

    Validation scores the bound with log Z by a few short annealed chains from N(0, I): an estimate, ``nll_estimate``,
    too low where p(z) is far from N(0, I).

    Args:
        spec: what one example is.
        prior: ``short_run`` or ``energy_discrepancy``; null: ``short_run`` where the prior is an energy.
        prior_steps: of the chains.
        prior_step_size: s.
        prior_t: variance of the noise of the energy discrepancy; auto: many, up to 2 / d in each of d > 2 coordinates.
        prior_samples: its contrastive samples a code.
        prior_lr_fraction: the learning rate of the energy, over optimizer.lr; auto: 0.02 of short runs, else 0.1.

    Raises:
        ValueError: in ``bind``: options of an energy for a prior that is normalised.

    References:
        Pang, Han, Nijkamp, Zhu and Wu, "Learning latent space energy-based prior model", 2020 (short runs).
        Schröder, Ou, Lim, Li, Vollmer and Duncan, "Energy discrepancies: a score-independent loss for energy-based
        models", 2023 (energy discrepancy of codes).
    """

    def __init__(
        self,
        spec: Spec,
        *,
        prior: Literal["short_run", "energy_discrepancy"] | None = None,
        prior_steps: Count = 60,
        prior_step_size: Positive = 0.08,
        prior_t: Auto[Positive] = "auto",
        prior_samples: Count = 16,
        prior_lr_fraction: Auto[Positive] = "auto",
    ) -> None:
        super().__init__(spec)
        self.prior, self.prior_steps, self.prior_step_size = prior, prior_steps, prior_step_size
        self.prior_t, self.prior_samples = prior_t, prior_samples
        if prior_lr_fraction == "auto":
            prior_lr_fraction = 0.1 if prior == "energy_discrepancy" else 0.02
        self.prior_lr_fraction = prior_lr_fraction

    def bind(self, model: LatentVariable) -> Learned:
        if model.latent_energy is None and self.prior is not None:
            raise ValueError(
                f"objective.prior={self.prior}: it is for model.prior=energy; this model's prior is normalised and "
                "learns from the bound itself: objective.prior=null"
            )
        if model.latent_energy is not None:
            self.score_name = "nll_estimate"
        return Learned()

    def advice(self) -> str:
        if self.score_name == "nll":
            return super().advice()
        if self.prior == "energy_discrepancy":
            return f"{super().advice()}. The prior is an energy: or try objective.prior=short_run"
        return (
            "Chains may not reach the codes: try a smaller objective.prior_lr_fraction, more objective.prior_steps, or "
            "objective.prior=energy_discrepancy"
        )

    def turn(self, model: LatentVariable, loss: Callable[[Batch, Noise], Loss], *, static: bool) -> Turn:
        """The one turn, in which an energy learns more slowly than all else."""
        parameters, energy = list(model.parameters()), model.latent_energy
        if energy is None:
            return Turn("model", parameters, loss, static=static)
        return Turn("model", parameters, loss, slower=list(energy.parameters()), slower_by=self.prior_lr_fraction)

    def bounding(self, model: LatentVariable) -> AbstractContextManager[None]:
        """Within it the bound moves no parameter of an energy that learns otherwise."""
        energy = model.latent_energy
        return nullcontext() if energy is None or self.prior != "energy_discrepancy" else frozen(energy)

    def learning(self, model: LatentVariable, batch: Batch, noise: Noise) -> tuple[Tensor | float, Tensor | float]:
        """What the loss of the bound lacks: a 0 with the gradient of log Z, and a loss of the prior by itself."""
        energy = model.latent_energy
        if energy is None:
            return 0.0, 0.0
        if self.prior == "energy_discrepancy":
            assert isinstance(model, PosteriorCodes)
            with torch.no_grad():
                z = model.posterior_codes(batch.x, batch.y, noise=noise)
            others, _ = self._perturbation(z).draw(z, self.prior_samples, noise)
            return 0.0, contrast(energy, Batch(z), others, 1.0).mean()
        with frozen(energy):
            start = energy.start(len(batch.x), noise=noise).to(next(energy.parameters()))
            z, _ = walk(Langevin(step_size=self.prior_step_size), energy_of(energy), start, noise, self.prior_steps)
        mean = energy.energy(z).mean()
        return mean.detach() - mean, 0.0  # log Z itself is not known

    def _perturbation(self, z: Tensor) -> Perturbation:
        if self.prior_t == "auto":
            return Scales(t=torch.full_like(z[0], min(1.0, 2 / z.shape[1])))
        return Gaussian(t=self.prior_t)

    def log_z(self, model: LatentVariable, rows: int, noise: Noise) -> Tensor | float:
        """log Z of a prior that is an energy, as a score of this many rows takes it; 0 of another one."""
        energy = model.latent_energy
        return 0.0 if energy is None else annealed(energy, rows, noise)


class _First(Noise):
    """The first rows of noise that has more."""

    def __init__(self, noise: Noise, rows: int) -> None:
        self.noise, self.rows = noise, rows

    def rand(self, *shape: int) -> Tensor:
        return self.noise.rand(self.rows, *shape[1:])[: shape[0]]

    def randn(self, *shape: int) -> Tensor:
        return self.noise.randn(self.rows, *shape[1:])[: shape[0]]


def annealed(energy: Unnormalized, rows: int, noise: Noise) -> Tensor:
    """log Z by a few short annealed chains from the reference, a step of HMC each: on average too low.

    Args:
        energy: of codes.
        rows: of the noise; the most chains.
        noise: where chains come from.
    """
    q = energy.reference()
    assert isinstance(q, DirectSampling)
    assert isinstance(q, ExactLikelihood)
    some, n = _First(noise, rows), min(rows, CHAINS)
    path, kernel = GeometricPath(energy, cast(Density, q)), HMC(leaps=LEAPS, step_size=STEP, jitter=0.0)
    z = path.sample(n, some).to(next(energy.parameters()))
    log_w = z.new_zeros(n, dtype=torch.float64)
    with frozen(energy):
        for k in range(BETAS):
            low, high = k / BETAS, (k + 1) / BETAS
            with torch.no_grad():
                log_w -= path.rise(z, low, high)
            at = path.at(high)
            z = kernel.step(at, kernel.init(at, z), some)[0].x
    return log_w.logsumexp(0) - math.log(n)
