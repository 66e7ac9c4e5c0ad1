"""All 32 couplings of a 4 x 4 torus of spins from 2000 exact samples, by every objective of discrete x."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from energies import noise
from enumerable import discrete, states
from fits import Fit
from torch import Tensor, nn

from gencli.core.spec import Batch
from gencli.models.base import Unnormalized
from gencli.models.energy.reference import Reference
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.objectives.energy.nce import NCE
from gencli.objectives.energy.pseudo_likelihood import PseudoLikelihood
from gencli.objectives.energy.ratio_matching import RatioMatching

L, SAMPLES = 4, 2000
SPEC = discrete("binary", L * L)


class Torus(Unnormalized):
    """E(x) = -sum_edges J_e s_i s_j with s = 2 x - 1: an edge to the right and one down of each site."""

    supports = ("binary",)

    def __init__(self, scale: float) -> None:
        super().__init__(SPEC)
        site = torch.arange(L * L).view(L, L)
        self.i = site.flatten().repeat(2)
        self.j = torch.cat([site.roll(-1, 1).flatten(), site.roll(-1, 0).flatten()])
        J = 0.2 + 0.1 * torch.randn(len(self.i), generator=torch.Generator().manual_seed(0)).double()
        self.J = nn.Parameter(scale * J)

    def statistics(self, x: Tensor) -> Tensor:
        s = 2 * x.to(self.J) - 1
        return s[:, self.i] * s[:, self.j]

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.statistics(x) @ self.J

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        s = 2 * x.to(self.J) - 1
        W = self.J.new_zeros(L * L, L * L).index_put((self.i, self.j), self.J)
        rise = 2 * s[:, where] * (s @ (W + W.T)[:, where])
        return torch.stack([rise * x[:, where], rise * (1 - x[:, where])], 2)

    def blocks(self) -> tuple[Tensor, ...]:
        colour = (torch.arange(L)[:, None] + torch.arange(L)).flatten() % 2
        return tuple((colour == c).nonzero().flatten() for c in (0, 1))


@lru_cache(maxsize=1)
def best() -> tuple[Tensor, Fit]:
    """The samples, and the exact MLE by all states."""
    truth, half = Torus(1.0), states(SPEC)[: 1 << 15]  # of the others every spin is turned over
    every = truth.statistics(half)
    log_p = (every @ truth.J.detach()).log_softmax(0)
    u = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(5)).double()
    x = half[torch.searchsorted(log_p.exp().cumsum(0), u)]
    x = torch.where(torch.arange(SAMPLES)[:, None] % 2 == 0, x, 1 - x)
    model = Torus(0.0)

    def rows() -> Tensor:
        return model.energy(x) + (every @ model.J).logsumexp(0)

    return x, Fit([model.J], lambda: rows().mean(), rows)


@pytest.mark.slow
def test_the_couplings_of_a_torus_are_those_of_its_energy():
    model, x = Torus(1.0), best()[0][:20]
    where = torch.arange(L * L)
    assert torch.allclose(model.changes(x, where), super(Torus, model).changes(x, where))
    truth = model.J.detach()
    _, fit = best()
    assert ((fit.theta - truth).abs() < 4.5 * (fit.pull.var(0) / SAMPLES).sqrt()).all()


ROWS = {
    "pseudo_likelihood": PseudoLikelihood,
    "ratio_matching": RatioMatching,
    "energy_discrepancy": lambda s: EnergyDiscrepancy(s, samples=8),
    "energy_discrepancy_grid": lambda s: EnergyDiscrepancy(s, perturbation="grid", samples=8),
    "nce": lambda s: NCE(s, noise=lambda q: Reference(q, kind="independent"), ratio=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_objectives_of_rows_find_all_couplings(name):
    """Within 3 standard errors of the difference to the exact MLE, and these at most twice the MLE's own."""
    x, mle = best()
    model = Torus(0.0)
    objective = ROWS[name](SPEC).double()
    objective.start(model, Batch(x))
    turn = objective.turns(model)[0]

    def rows() -> Tensor:
        found = objective.rows(model, Batch(x), noise(7))
        return sum(found) if isinstance(found, tuple) else found

    fit = Fit(turn.parameters, lambda: rows().mean(), rows)
    K = len(mle.theta)
    error = ((fit.pull[:, :K] - mle.pull).var(0) / SAMPLES).sqrt()
    away = (fit.theta[:K] - mle.theta).abs()
    assert (away <= 3 * error + 1e-5).all()
    assert (error <= 2 * (mle.pull.var(0) / SAMPLES).sqrt()).all()


CHAINS = {
    "cd": lambda s: ContrastiveDivergence(s, steps=4),
    "pcd": lambda s: PersistentContrastiveDivergence(s, steps=4, buffer=SAMPLES, reinit=0.0),
    "mcmc_mle": lambda s: MonteCarloMLE(s, samples=SAMPLES, anchor=5, steps=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_objectives_with_chains_find_all_couplings(name):
    """Within 1.5 standard errors of the exact MLE in each: what is left is the noise of 2000 chains."""
    x, mle = best()
    model = Torus(0.0)
    objective = CHAINS[name](SPEC).double()
    objective.bind(model)
    objective.start(model, Batch(x))
    turn, steps = objective.turns(model)[0], 100
    optimizer = torch.optim.Adam(turn.parameters, lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        turn.loss(Batch(x), noise(step)).value.backward()
        optimizer.step()
        if turn.project is not None:
            turn.project()
        schedule.step()
    away = (model.J.detach() - mle.theta).abs() / (mle.pull.var(0) / SAMPLES).sqrt()
    assert float(away.max()) < 1.5
