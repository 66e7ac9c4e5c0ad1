"""Monte Carlo maximum likelihood of discrete x: the exact MLE, steps that are halved, chains that leave the data."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise
from enumerable import Pairs, discrete, spread, states
from fits import Fit
from torch import Tensor, nn

from gencli.core.errors import RunFailed
from gencli.core.spec import Batch
from gencli.models.base import Unnormalized
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE, departed


def trained(model: Unnormalized, objective: MonteCarloMLE, x: Tensor, steps: int, lr: float) -> None:
    """Adam with a rate that falls to 0, as a run takes its steps."""
    objective.bind(model)
    objective.start(model, Batch(x))
    turn = objective.turns(model)[0]
    optimizer = torch.optim.Adam(turn.parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        turn.loss(Batch(x), noise(step)).value.backward()
        optimizer.step()
        assert turn.project is not None
        turn.project()
        schedule.step()


@pytest.mark.slow
def test_the_exact_mle_of_an_enumerable_family():
    """Within one standard error of it in each of 10 parameters: what is left is the noise of 2000 chains."""
    here = discrete("binary", 4)
    x = states(here)[spread(Pairs(here).log_p(), 300)]
    best = Pairs(here, 0.0)

    def rows() -> Tensor:
        return best.energy(x) + best.log_partition()

    fit = Fit(list(best.parameters()), lambda: rows().mean(), rows)
    model = Pairs(here, 0.0)
    trained(model, MonteCarloMLE(here, samples=2000, anchor=5, steps=2).double(), x, 200, 0.2)
    away = (nn.utils.parameters_to_vector(model.parameters()).detach() - fit.theta).abs()
    assert (away < (fit.pull.var(0) / len(x)).sqrt()).all()


class Ring(Unnormalized):
    """E(x) = -theta s(x), with s the number of neighbours on a ring that are alike."""

    supports = ("binary",)

    def __init__(self, dim: int, theta: float) -> None:
        super().__init__(discrete("binary", dim))
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def statistic(self, x: Tensor) -> Tensor:
        return (x == x.roll(1, 1)).to(self.theta).sum(1)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.theta * self.statistic(x)


@pytest.mark.slow
def test_one_observation_has_an_mle():
    """s = 8 of 12: theta with E[s] = 8, of which D/2 (1 + tanh(theta / 2)) + O(tanh^D) is the closed form."""
    x = torch.tensor([[0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0]]).float()
    model = Ring(12, 0.0)
    assert float(model.statistic(x)) == 8
    trained(model, MonteCarloMLE(model.spec, samples=1000, anchor=5, steps=2).double(), x, 80, 0.1)
    s = model.statistic(states(model.spec))
    p = (model.theta.detach() * s).softmax(0)
    deviation = float((p * s.square()).sum() - (p * s).sum().square()) ** 0.5
    assert float((p * s).sum()) == pytest.approx(8, abs=5 * deviation / math.sqrt(1000))


def test_a_step_that_is_too_long_is_halved():
    """The parameters then lie a power of 1/2 of the way, enough weights are left, and psi follows at the next step."""
    here = discrete("binary", 6)
    model = Pairs(here, 0.3)
    x = states(here)[spread(Pairs(here).log_p(), 100)]
    objective = MonteCarloMLE(here, samples=500, anchor=50, least=0.3).double()
    objective.bind(model)
    objective.start(model, Batch(x))
    turn = objective.turns(model)[0]
    before = nn.utils.parameters_to_vector(turn.parameters).detach().clone()
    turn.loss(Batch(x), noise()).value.backward()
    far = torch.linspace(-3, 3, len(before)).double()
    nn.utils.vector_to_parameters(before + far, turn.parameters)
    turn.project()
    share = (nn.utils.parameters_to_vector(turn.parameters).detach() - before) / far
    assert torch.allclose(share, share[0].expand_as(share))
    halvings = -math.log2(float(share[0]))
    assert halvings == pytest.approx(round(halvings))
    assert halvings > 0.5
    assert float(turn.loss(Batch(x), noise(1)).logs["ess"]) == pytest.approx(1)  # chains are those of psi = theta
    assert int(objective.age) == 51
    turn.project()
    assert int(objective.age) == 51  # nothing had moved


class Triangles(Unnormalized):
    """E(x) = -theta_1 edges - theta_2 triangles, of networks on n nodes."""

    supports = ("binary",)

    def __init__(self, nodes: int) -> None:
        super().__init__(discrete("binary", nodes * (nodes - 1) // 2))
        self.theta = nn.Parameter(torch.zeros(2))
        self.i, self.j = torch.triu_indices(nodes, nodes, 1)
        self.nodes = nodes

    def adjacency(self, x: Tensor) -> Tensor:
        A = x.new_zeros(len(x), self.nodes, self.nodes)
        A[:, self.i, self.j] = A[:, self.j, self.i] = x
        return A

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        A = self.adjacency(x)
        return -torch.stack([x.sum(1), (A @ A * A).sum((1, 2)) / 6], 1) @ self.theta

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        A = self.adjacency(x)
        rise = -self.theta[0] - self.theta[1] * (A[:, self.i[where]] * A[:, self.j[where]]).sum(2)
        return torch.stack([-rise, rise], 2) * torch.stack([x[:, where], 1 - x[:, where]], 2)


@pytest.mark.slow
def test_a_degenerate_fit_ends_with_an_explanation():
    """A sparse network under edges and triangles that start where all chains become full: no infinities, one line."""
    model = Triangles(10)
    with torch.no_grad():
        model.theta.copy_(torch.tensor([-2.0, 1.2]))
    x = torch.zeros(1, 45)
    x[0, [0, 1, 9, 20, 30, 31]] = 1
    objective = MonteCarloMLE(model.spec, samples=20, anchor=1, steps=2)
    with pytest.raises(RunFailed, match=r"the chains have left the data: degenerate\. 100 % of them") as failed:
        trained(model, objective, x, 60, 0.005)
    assert "\n" not in str(failed.value)
    assert objective.lost == objective.PATIENCE
    assert model.theta.isfinite().all()


def test_chains_far_away_that_come_nearer_are_not_lost():
    """From 40 deviations down to 0 in 200 references, with noise; a return to where they were is not nearer."""
    objective = MonteCarloMLE(discrete("binary", 4))
    for k in range(200):
        gap = 40 - 0.2 * k
        objective._look(float(gap > 10), gap + 0.3 * (k % 3 == 0))
    assert objective.lost == 0
    objective._look(1.0, 30.0)
    for _ in range(objective.PATIENCE - 1):
        objective._look(1.0, 30.5)
    with pytest.raises(RunFailed, match="degenerate"):
        objective._look(1.0, 30.5)


def test_which_chains_have_departed():
    near, far = torch.linspace(-1, 1, 60), 50 + torch.linspace(-1, 1, 40)
    zero, spread_of_near = torch.tensor(0.0), float(near.std())
    assert departed(zero, near, 0.0) == (0, 0)
    share, _ = departed(zero, torch.cat([near, far]), 0.0)
    assert share == pytest.approx(0.4)
    share, gap = departed(torch.tensor(30.0), near, 0.0)  # data where no chain is
    assert (share, gap) == (1, pytest.approx(30 / spread_of_near, rel=1e-3))
    assert departed(torch.tensor(1e-6), torch.zeros(50), 1e-5)[0] == 0  # rounding
    assert departed(torch.tensor(1.0), torch.zeros(50), 1e-5) == (1, math.inf)
    few = torch.cat([near, torch.tensor([30.0, 31.0])])
    assert departed(torch.tensor(30.5), few, 0.0)[0] == 0  # two of them are no part that says what is far
