"""A generalised linear model of a neuron that fires or not, seen through its sufficient statistics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gencli.core.noise import mix_seed
from gencli.data.priors import NormalPrior
from gencli.data.task import Task

_BINS, _LAGS, _STIMULUS = 100, 9, 42


class BernoulliGLM(Task):
    """z_t ~ Bernoulli(sigmoid(v_t . theta)) for 100 bins; x = sum_t z_t v_t, of 10 dimensions.

    v_t is 1 and the white noise that the neuron was shown in this bin and in the eight before it. theta_1 ~ N(0, 2).
    The filter (theta_2 .. theta_10) ~ N(0, (F^T F)^-1) with F = D D + diag(sqrt(i / 9)), i = 0 .. 8, D the differences
    of first order, so that filters are smooth. ``log_likelihood`` is log p(z given theta) of the bins z behind x. Other
    bins give other sums, so x takes 2^100 values at most, and has no density.
    """

    name = "bernoulli_glm"
    observed = 1 + _LAGS
    singular = True

    def __init__(self) -> None:
        differences = torch.eye(_LAGS, dtype=torch.float64) - torch.diag(torch.ones(_LAGS - 1, dtype=torch.float64), -1)
        smooth = differences @ differences + (torch.arange(_LAGS, dtype=torch.float64) / _LAGS).sqrt().diag()
        precision = torch.block_diag(torch.tensor([[0.5]], dtype=torch.float64), smooth.T @ smooth)
        self.prior = NormalPrior([0.0] * self.observed, precision)
        generator = torch.Generator().manual_seed(mix_seed(_STIMULUS))
        stimulus = torch.randn(_BINS, generator=generator, dtype=torch.float64)
        shown = [torch.cat([stimulus.new_zeros(lag), stimulus[: _BINS - lag]]) for lag in range(_LAGS)]
        self.design = torch.stack([torch.ones_like(stimulus), *shown], 1)  # (100, 10), rows v_t

    def simulate(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        fires = torch.rand(len(theta), _BINS, generator=generator, dtype=torch.float64)
        return (fires < (theta @ self.design.T).sigmoid()).double() @ self.design

    def log_likelihood(self, x: Tensor, theta: Tensor) -> Tensor:
        return (x * theta).sum(1) - softplus(theta @ self.design.to(theta).T).sum(1)
