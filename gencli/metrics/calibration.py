"""Calibration of posteriors: ranks of the parameters that made held-out observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from gencli.core.options import Count, Range
from gencli.data.base import Dataset
from gencli.methods.coverage import (
    calibrated,
    chi_squared,
    deviation,
    distance_ranks,
    floor,
    generator_of,
    ranks,
    resampled,
)
from gencli.methods.posteriors import task_of
from gencli.metrics.base import Measured, ModelMetric
from gencli.models.base import Model
from gencli.models.subject import Subject


def require_simulator(name: str, dataset: Dataset, model: Model) -> None:
    """Refuse data without a prior, and models that see no observation: as their context, or as a part of x.

    Raises:
        ValueError: says what is needed.
    """
    if dataset.task is None:
        raise ValueError(f"metrics=[{name}] needs data=simulator; data={dataset.name} has no prior")
    if dataset.target != "joint" and not model.conditional:
        raise ValueError(f"metrics=[{name}] needs a model with model.conditional=true, or data.target=joint")


@dataclass(frozen=True, kw_only=True)
class SBC(ModelMetric):
    """Simulation-based calibration: the mean of |coverage - level| over levels and parameters; 0 is calibrated.

    The rank of theta_d among draws given the observation that theta made is uniform if draws are of the posterior.
    ``floor`` is about what calibrated draws give; ``p_value`` is the least of the parameters' chi-squared tests,
    times their number (Bonferroni). Of a model of observations each posterior takes chains of its own.

    Args:
        examples: observations, the first of the split.
        draws: of each posterior.
        bins: of the chi-squared tests.
        steps: recorded steps of chains.

    References:
        Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration", 2018.
    """

    needs = "data=simulator, and model.conditional=true or data.target=joint"
    examples: Annotated[int, Range(low=20)] = 200
    draws: Annotated[int, Range(low=9)] = 99
    bins: Annotated[int, Range(low=2)] = 10
    steps: Count = 50

    def check(self, dataset: Dataset, model: Model) -> None:
        require_simulator("sbc", dataset, model)

    def measure(self, subject: Subject) -> Measured:
        if self.bins > self.draws + 1:
            raise ValueError(f"metrics.sbc.bins={self.bins}: at most draws + 1 = {self.draws + 1}")
        drawn, theta, _ = calibrated(subject, self.examples, self.draws, self.steps)
        found = ranks(drawn.theta, theta)
        each = [deviation(column, self.draws) for column in found.T]
        tests = [chi_squared(column, self.draws, self.bins) for column in found.T]
        said = {"floor": floor(self.examples), "p_value": min(1.0, len(tests) * min(p for _, p in tests))}
        for name, (statistic, _) in zip(task_of(subject).parameter_names, tests, strict=True):
            said[f"chi_squared_{name}"] = statistic
        se = resampled(found, self.draws, generator_of(subject, 1))
        value = sum(each) / len(each)
        return Measured(value, se, said | drawn.diagnostics, drawn=drawn.theta[..., 0].numel(), examples=self.examples)


@dataclass(frozen=True, kw_only=True)
class TARP(ModelMetric):
    """Expected coverage of balls around points that x chooses: the mean of |coverage - level|; 0 is calibrated.

    All parameters are tested together, and a posterior that ignores the observation is found out, as it is not by their
    ranks alone. ``floor`` is about what calibrated draws give. ``bias`` is the mean of coverage - level: below 0 draws
    are too narrow, above 0 too wide; ``p_value`` is of Kolmogorov and Smirnov's test.

    Args:
        examples: observations, the first of the split.
        draws: of each posterior.
        steps: recorded steps of chains.

    References:
        Lemos et al., "Sampling-based accuracy testing of posterior estimators for general inference", 2023.
    """

    needs = "data=simulator, and model.conditional=true or data.target=joint"
    examples: Annotated[int, Range(low=20)] = 200
    draws: Annotated[int, Range(low=9)] = 99
    steps: Count = 50

    def check(self, dataset: Dataset, model: Model) -> None:
        require_simulator("tarp", dataset, model)

    def measure(self, subject: Subject) -> Measured:
        from scipy.stats import kstest

        drawn, theta, x = calibrated(subject, self.examples, self.draws, self.steps)
        generator = generator_of(subject, 2)
        found = distance_ranks(drawn.theta, theta, x)
        # within its cell a rank is spread, so that it is uniform on [0, 1] exactly where draws are calibrated
        spread = (found + torch.rand(len(found), generator=generator, dtype=torch.float64)) / (self.draws + 1)
        said = {
            "floor": floor(self.examples),
            "bias": float(0.5 - spread.mean()),
            "p_value": float(kstest(spread.numpy(), "uniform").pvalue),
        }
        value, se = deviation(found, self.draws), resampled(found, self.draws, generator)
        return Measured(value, se, said | drawn.diagnostics, drawn=drawn.theta[..., 0].numel(), examples=self.examples)
