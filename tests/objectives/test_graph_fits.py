"""Fits of exponential random graphs against the maximum of the likelihood by enumeration."""

from __future__ import annotations

import pytest
import torch
from energies import noise
from graphs import ergm, every, spec
from torch import Tensor

from gencli.core.spec import Batch, Graph
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.graphs import TieNoTie
from gencli.models.energy.ergm import ERGM
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE


def maximum(s: Tensor, observed: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """theta with E[s] = observed, by Newton's method from a theta near to it, and the covariance of s there."""
    for _ in range(50):
        p = (s @ theta).softmax(0)
        mean = p @ s
        covariance = (s.T * p) @ s - mean.outer(mean)
        theta = theta + torch.linalg.solve(covariance, observed - mean)
    return theta, covariance


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Gibbs(), TieNoTie(toggles=15)])
def test_monte_carlo_maximum_likelihood_is_the_maximum(kernel):
    """Of 30 networks of six nodes: within 0.05 of the MLE, from where the pseudo-likelihood starts it."""
    of = Graph(6)
    x = every(of)
    truth = ergm(of, edges=-1.0, triangles=0.5, kstar_2=-0.1).double()
    with torch.no_grad():
        p, s = (-truth.energy(x)).softmax(0), truth.statistics(x)
    rows = torch.multinomial(p, 30, replacement=True, generator=torch.Generator().manual_seed(4))
    batch = Batch(x[rows].float())
    mle, covariance = maximum(s, s[rows].mean(0), truth.theta.detach())

    model = ERGM(spec(of), terms=["edges", "triangles", "kstar(2)"])
    model.initialize(batch.x)
    objective = MonteCarloMLE(model.spec, samples=4000, anchor=10, steps=2, kernel=kernel)
    objective.bind(model)
    objective.start(model, batch)
    (turn,) = objective.turns(model)
    optimizer = torch.optim.Adam(turn.parameters, lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
    for step in range(120):
        optimizer.zero_grad()
        turn.loss(batch, noise(100 + step)).value.backward()
        optimizer.step()
        if turn.project is not None:
            turn.project()
        schedule.step()
    assert (model.theta.detach().double() - mle).abs().max() < 0.05
    # the start's own errors are of the size that the information of the pseudo-likelihood says
    errors = (torch.linalg.inv(30 * covariance).diagonal()).sqrt()
    assert ((model.theta_0.double() - mle).abs() < 3 * errors).all()
