"""Noise-contrastive estimation: tell data from noise of a known density, with log Z as one more parameter."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencli.core.noise import Noise, StepNoise
from gencli.core.options import Count
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import log_mean_exp
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, ModelFactory, Unnormalized
from gencli.objectives.base import Loss
from gencli.objectives.energy.base import EnergyObjective

DRAWN = 1000
"""Samples of the noise that c starts from: those of a flow of images cost seconds a hundred."""


class NCE(EnergyObjective):
    """J = E_data[softplus(-G)] + nu E_noise[softplus(G)] with G(x) = -E(x) - c - log(nu q(x)).

    c is learned and becomes log Z; it starts at an importance estimate. The noise q is fitted to the training data
    once and then fixed.

    Args:
        spec: of model space.
        noise: builds q, a density with samples.
        ratio: nu, noise samples an example.
        shared: the options of ``EnergyObjective``.

    Raises:
        ValueError: noise without density or samples.

    References:
        Gutmann and Hyvärinen, "Noise-contrastive estimation of unnormalized statistical models, with applications to
        natural image statistics", 2012.
    """

    static = True

    initial_examples = 20_000

    def __init__(self, spec: Spec, *, noise: ModelFactory, ratio: Count = 4, **shared: Any) -> None:
        super().__init__(spec, **shared)
        q = noise(spec)
        if not isinstance(q, ExactLikelihood) or not isinstance(q, DirectSampling):
            raise ValueError("objective.noise needs a density that can be drawn from, such as a Reference")
        self.q = q.requires_grad_(False)
        self.ratio = ratio
        self.c = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        assert examples is not None
        x, y = examples.x, examples.y
        if isinstance(self.q, DataInitialized):
            self.q.initialize(x)
        few = min(len(x), DRAWN)
        drawn = self.q.sample(few, noise=StepNoise(x.device, 0))
        log_w = -model.energy(drawn, None if y is None else y[:few]) - self.q.log_prob(drawn)
        self.c.copy_(log_mean_exp(log_w)[0])

    def _gap(self, model: Unnormalized, x: Tensor, y: Tensor | None) -> Tensor:
        """G(x), (B,)."""
        with torch.no_grad():
            log_q = self.q.log_prob(x)
        return -model.energy(x, y) - self.c - log_q - math.log(self.ratio)

    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The two terms of each row, (B,)."""
        n = len(batch.x)
        with torch.no_grad():
            drawn = torch.cat([self.q.sample(n, noise=noise) for _ in range(self.ratio)])
        y = None if batch.y is None else batch.y.repeat(self.ratio, *[1] * (batch.y.ndim - 1))
        of_noise = F.softplus(self._gap(model, drawn, y)).view(self.ratio, n).sum(0)
        return F.softplus(-self._gap(model, batch.x, batch.y)), of_noise

    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        of_data, of_noise = self.rows(model, batch, noise)
        value = (of_data + of_noise).mean()
        if self.regularization:
            value = value + self.held_level(model.energy(batch.x, batch.y))
        return Loss(value, {"log_z": self.c.detach().clone()})

    def score_of_x(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        of_data, of_noise = self.rows(model, batch, noise)
        return of_data + of_noise
