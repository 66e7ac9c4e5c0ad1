"""Every objective of energies recovers exponential families, whose maximum-likelihood estimate is exact."""

from __future__ import annotations

import pytest
import torch
from energies import exact_samples, noise, quadratic, spec
from fits import Fit
from torch import Tensor

from gencli.core.spec import Batch
from gencli.models.energy.exponential import Polynomial, Quadratic
from gencli.models.energy.reference import Reference
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.objectives.energy.nce import NCE
from gencli.objectives.energy.score_matching import (
    DenoisingScoreMatching,
    DiffusionScoreMatching,
    ScoreMatching,
    SlicedScoreMatching,
)

# name: dimension, an energy of that family, and its truth
FAMILIES = {
    "normal_5_parameters": lambda: quadratic(2),
    "quartic_4_parameters": lambda: quartic([0.3, -0.8, 0.1, 0.35]),
}


def quartic(theta: list[float]) -> Polynomial:
    """E = theta . (x, x^2, x^3, x^4)."""
    model = Polynomial(spec(1)).double()
    with torch.no_grad():
        model.theta.copy_(torch.tensor(theta))
    return model


def fresh(model: Quadratic | Polynomial) -> Quadratic | Polynomial:
    """The same family before any training."""
    if isinstance(model, Quadratic):
        return Quadratic(model.spec).double()
    return Polynomial(model.spec, growth=0.3).double()


def drawn(model: Quadratic | Polynomial, n: int) -> Tensor:
    """Exact samples; of a quartic by inverting its distribution function."""
    if isinstance(model, Quadratic):
        return exact_samples(model, n)
    axis = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    p = (-model.energy(axis[:, None]).detach()).softmax(0).cumsum(0)
    return axis[torch.searchsorted(p, torch.rand(n, generator=torch.Generator().manual_seed(0)).double())][:, None]


def exact_mle(model: Quadratic | Polynomial, x: Tensor) -> Fit:
    def rows() -> Tensor:
        return model.energy(x) + model.log_partition()

    return Fit(list(model.parameters()), lambda: rows().mean(), rows)


ROW_OBJECTIVES = {
    "score_matching": lambda s: ScoreMatching(s),
    "sliced_score_matching": lambda s: SlicedScoreMatching(s),
    "diffusion_score_matching": lambda s: DiffusionScoreMatching(s, nu=5.0),
    "denoising_score_matching": lambda s: DenoisingScoreMatching(s, sigmas=[0.1]),
    "energy_discrepancy": lambda s: EnergyDiscrepancy(s, t=1.0, samples=8, w=1.0),
    "nce": lambda s: NCE(s, noise=lambda q: Reference(q, widen=1.2), ratio=5),
}
NOISELESS = ("score_matching", "diffusion_score_matching")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ROW_OBJECTIVES)
def test_every_objective_of_rows_recovers_an_exponential_family(name, family):
    """Within 3 standard errors of the exact MLE on the same 1000 examples, in each parameter.

    The standard error is that of the difference of the two estimates. For it to mean something it may be at most three
    times the MLE's own; 20 draws of noise an example keep it there, of objectives that draw any.
    """
    copies, n = 1 if name in NOISELESS else 20, 1000
    model = FAMILIES[family]()
    x = drawn(model, n)
    best = exact_mle(model, x)
    model = fresh(model)
    objective = ROW_OBJECTIVES[name](model.spec).double()
    objective.start(model, Batch(x))
    batch = Batch(x.repeat(copies, 1))
    turn = objective.turns(model)[0]

    def rows() -> Tensor:
        return objective.score(model, batch, noise(7)).view(copies, n).mean(0)

    fit = Fit(turn.parameters, lambda: turn.loss(batch, noise(7)).value, rows)
    K = len(best.theta)
    error = ((fit.pull[:, :K] - best.pull).var(0) / n).sqrt()
    own = (best.pull.var(0) / n).sqrt()
    away = (fit.theta[:K] - best.theta).abs()
    assert (away <= 3 * error + 1e-5).all()
    assert (error <= 3 * own).all()


CHAIN_OBJECTIVES = {
    "cd": lambda s: ContrastiveDivergence(s, steps=10, step=0.1, metropolis=True),
    "pcd": lambda s: PersistentContrastiveDivergence(s, steps=5, step=0.2, metropolis=True, buffer=2000, reinit=0.0),
    "mcmc_mle": lambda s: MonteCarloMLE(s, samples=2000, anchor=10),
}
MOVES = {"cd": (150, 0.06), "pcd": (250, 0.04), "mcmc_mle": (250, 0.04)}
"""Steps of training and their first rate: persistent chains lag behind a faster one."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CHAIN_OBJECTIVES)
def test_every_objective_with_chains_recovers_an_exponential_family(name, family):
    """Within one standard error of the exact MLE on the same 1000 examples, in each parameter.

    The standard error is the MLE's own: both see the same examples, and what is left is the noise of chains.
    """
    model = FAMILIES[family]()
    x = drawn(model, 1000)
    best = exact_mle(model, x)
    model = fresh(model)
    objective = CHAIN_OBJECTIVES[name](model.spec).double()
    objective.bind(model)
    objective.start(model, Batch(x))
    turn = objective.turns(model)[0]
    steps, rate = MOVES[name]
    optimizer = torch.optim.Adam(turn.parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        turn.loss(Batch(x), noise(step)).value.backward()
        optimizer.step()
        schedule.step()
    own = (best.pull.var(0) / len(x)).sqrt()
    away = (torch.nn.utils.parameters_to_vector(turn.parameters).detach()[best.free] - best.theta).abs()
    assert (away <= own).all()
