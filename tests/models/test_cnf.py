"""Continuous flows: the model, maximum likelihood through the solver, and what both say about known flows."""

from __future__ import annotations

import functools
import json
import math

import pytest
import torch
from estimates import NOTHING
from fields import Straight
from torch import nn

import gencli
from gencli.cli import main as cli
from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.ode import ODE
from gencli.methods import ode
from gencli.methods.volume import log_prior
from gencli.models.base import VelocityField
from gencli.models.diffusion.cnf import CNF
from gencli.models.diffusion.field import NetworkField
from gencli.models.trained import Learned
from gencli.nn.residual import ResidualMLP
from gencli.objectives.diffusion.flow_nll import FlowNLL
from gencli.samplers.diffusion.ode import ODE as Sampler

CPU = torch.device("cpu")
REALS = Support("real")
NET = functools.partial(ResidualMLP, width=16, blocks=1)


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


def points(n, dim=2, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).double()


class Linear(VelocityField):
    """dx/dt = A x + b."""

    def __init__(self, A, b=None, t_max=1.0):
        super().__init__(Spec((len(A),), REALS))
        self.A = nn.Parameter(torch.tensor(A).double())
        self.b = nn.Parameter(torch.tensor(b or [0.0] * len(A)).double())
        self.t_max, self.prior_std = t_max, 1.5

    def velocity(self, x, t, y=None):
        return x @ self.A.T + self.b


TURN = [[0.3, -0.8, 0.1], [0.9, -0.5, 0.2], [0.0, 0.4, 0.6]]


def build(dim=2, moved=0.15, classes=None, conditional=False):
    torch.manual_seed(0)
    model = CNF(Spec((dim,), REALS, classes=classes), net=NET, conditional=conditional)
    model.initialize(torch.tensor([1.0, -0.5] * dim)[:dim] + 2 * points(500, dim, seed=1).float())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += moved * torch.randn(parameter.shape)
    return model.eval()


def gradient(value, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


# --- the objective on flows in closed form ---------------------------------------------------------------------------


@pytest.mark.parametrize("adjoint", [True, False])
@pytest.mark.parametrize("t_max", [1.0, 0.7])
def test_likelihood_and_gradient_of_a_linear_flow_are_exact(adjoint, t_max):
    """z = exp(t A) x and log|det dz/dx| = t tr A."""
    field, x = Linear(TURN, t_max=t_max), points(20, 3)
    nll, _ = FlowNLL(field.spec, steps=30, adjoint=adjoint).solve(field, x, None, None)
    exact = -log_prior(field, x @ torch.matrix_exp(t_max * field.A).T) - t_max * field.A.trace()
    assert torch.allclose(nll, exact, rtol=1e-6)
    one, other = (torch.autograd.grad(value.mean(), field.A)[0] for value in (nll, exact))
    assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_methods_have_their_order(method, order):
    field, x = Linear(TURN), points(20, 3)
    exact = -log_prior(field, x @ torch.matrix_exp(field.A).T) - field.A.trace()
    errors = [
        (FlowNLL(field.spec, method=method, steps=n).solve(field, x, None, None)[0] - exact).abs().max().item()
        for n in (10, 20)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.slow
def test_penalties_are_the_energy_and_the_jacobian_of_the_flow():
    c = [0.5, -1.0, 2.0]
    constant = Linear([[0.0] * 3] * 3, c, t_max=0.5)
    _, penalties = FlowNLL(constant.spec, steps=3).solve(constant, points(4, 3), None, None)
    assert torch.allclose(penalties, torch.tensor([0.5 * 5.25, 0.0]).double())
    field, x = Linear(TURN), points(4, 3)
    _, penalties = FlowNLL(field.spec, steps=30).solve(field, x, None, None)
    assert torch.allclose(penalties[:, 1], field.A.square().sum())
    t = torch.linspace(0, 1, 2001).double()
    speed = torch.stack([(x @ torch.matrix_exp(s * field.A).T @ field.A.T).square().sum(1) for s in t])
    assert torch.allclose(penalties[:, 0], torch.trapezoid(speed, t, dim=0), rtol=1e-5)


def test_times_are_shifted_but_for_the_ends():
    field, x, visited = Linear(TURN), points(2, 3), []
    velocity, shift = field.velocity, torch.tensor(0.25)
    field.velocity = lambda x, t, y: visited.append(t[0].item()) or velocity(x, t)
    for adjoint in (True, False):
        objective = FlowNLL(field.spec, method="euler", steps=4, adjoint=adjoint)
        value = objective.solve(field, x, None, None, shift)[0].sum()
        assert visited == [0.0, 0.3125, 0.5625, 0.8125]
        visited.clear()
        value.backward()
        assert visited == ([1.0, 0.8125, 0.5625, 0.3125] if adjoint else [])
        visited.clear()
    turn = FlowNLL(field.spec, method="euler", steps=4, adjoint=False).turns(field.float())[0]
    for step in range(2):
        turn.loss(Batch(x.float()), StepNoise(CPU, step))
    assert visited[0] == visited[4] == 0
    assert len(set(visited)) == 7


def test_the_loss_weighs_its_parts():
    model, x = build(), points(30).float()
    turn = FlowNLL(model.spec, kinetic=0.2, jacobian=0.3).turns(model)[0]
    loss = turn.loss(Batch(x), StepNoise(CPU, 0))
    parts = loss.logs
    assert loss.value.item() == pytest.approx(float(parts["nll"] + 0.2 * parts["kinetic"] + 0.3 * parts["jacobian"]))
    assert min(parts["kinetic"], parts["jacobian"]) > 0


# --- on networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_adjoint_gives_the_gradient_of_the_solver(trace):
    model, x = build().double(), points(30)
    objective = FlowNLL(model.spec, steps=10, trace=trace)
    gradients = []
    for objective.adjoint in (True, False):
        nll, penalties = objective.solve(model, x, None, objective._probes(x, noise(30)))
        gradients.append(gradient(nll.mean() + 0.1 * penalties.sum(1).mean(), model))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)
    assert gradients[0].norm() > 0.1


def test_hutchinson_is_right_on_average():
    """One row with many probes, at the same steps: the mean of -log p, and of the Jacobian's norm, is the exact one."""
    model, n = build(3).double(), 4000
    x = points(1, 3).expand(n, -1)
    exact = FlowNLL(model.spec, steps=4, trace="exact").solve(model, x[:1], None, None)
    objective = FlowNLL(model.spec, steps=4, trace="hutchinson")
    with torch.no_grad():
        guess = objective.solve(model, x, None, objective._probes(x, noise(n)))
    for one, many in ((exact[0], guess[0]), (exact[1][:, 1], guess[1][:, 1])):
        assert many.std() > 1e-3
        assert (many.mean() - one).abs() < 3 * many.std() / math.sqrt(n)
    several = FlowNLL(model.spec, steps=4, trace="hutchinson", probes=50)
    with torch.no_grad():
        mean = several.solve(model, x[:80], None, several._probes(x[:80], noise(80)))[0]
    assert float(guess[0].std() / mean.std()) == pytest.approx(math.sqrt(50), rel=0.3)


def test_auto_is_exact_in_few_dimensions():
    for dim, exact in ((8, True), (9, False)):
        objective = FlowNLL(Spec((dim,), REALS))
        assert (objective._probes(torch.zeros(1, dim), noise(1)) is None) == exact


def test_an_untrained_model_is_the_normal_distribution_of_the_data():
    model, x = CNF(Spec((2,), REALS), net=NET), points(1000) * torch.tensor([2.0, 0.1]) + torch.tensor([3.0, -7.0])
    model.initialize(x.float())
    exact = -torch.distributions.Normal(x.mean(0), x.std(0)).log_prob(x).sum(1)
    assert torch.allclose(ODE(atol=1e-7, rtol=1e-7).nll(model, Batch(x), noise(1000), NOTHING).nll, exact, atol=1e-4)
    assert torch.allclose(FlowNLL(model.spec).solve(model, x.float(), None, None)[0].double(), exact, atol=2e-2)


def test_the_density_sums_to_one():
    model = build()
    axis = torch.linspace(-14, 16, 101)
    x = torch.cartesian_prod(axis, axis)
    nll = ODE(method="rk4", steps=12).nll(model, Batch(x), noise(len(x)), NOTHING).nll
    assert float((-nll).exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=2e-3)


def test_score_loss_and_estimator_agree():
    model, x = build(), points(50)
    estimate = ODE().nll(model, Batch(x), noise(50), NOTHING).nll
    objective = FlowNLL(model.spec, steps=20)
    score = objective.score(model, Batch(x.float()), noise(50))
    assert torch.allclose(score, estimate, atol=5e-3)
    assert torch.allclose(objective.solve(model, x.float(), None, None)[0].double(), estimate, atol=5e-3)
    assert torch.allclose(objective.score(model, Batch(x[:7].float()), noise(7)), score[:7], atol=1e-5)


def test_sampling_undoes_the_flow():
    model, n = build(), 40
    x = Sampler(atol=1e-7, rtol=1e-7).sample(model, n, None, noise(n)).x
    with torch.no_grad():
        there = ode.dopri5(
            lambda v, t, rows: model.velocity(v, t), x.double(), 0.0, 1.0, atol=1e-7, rtol=1e-7, max_nfe=2000
        )
    assert torch.allclose(there.x, noise(n).randn(n, 2).double(), atol=1e-4)
    assert not torch.allclose(x.double(), there.x, atol=0.5)


def test_the_context_is_felt():
    model, x, y = build(classes=3, conditional=True), points(6).float(), torch.tensor([0, 1, 2, 0, 1, 2])
    objective = FlowNLL(model.spec)
    nll = objective.solve(model, x, y, None)[0]
    assert not torch.allclose(nll, objective.solve(model, x, (y + 1) % 3, None)[0], atol=1e-3)
    score = objective.score(model, Batch(x, y), noise(6))
    assert torch.allclose(nll.double(), score, atol=1e-2)
    assert gradient(nll.mean(), model).abs().max() > 0
    with pytest.raises(ValueError, match="needs y"):
        objective.score(model, Batch(x), noise(6))


def train(model, objective, batch, steps, lr=5e-3):
    turn = objective.turns(model)[0]
    optimizer = torch.optim.Adam(turn.parameters, lr)
    for step in range(steps):
        optimizer.zero_grad()
        turn.loss(batch, StepNoise(CPU, step)).value.backward()
        optimizer.step()


@pytest.mark.slow
def test_training_lowers_the_nll():
    model, x = build(), points(50).float() * 0.5
    objective = FlowNLL(model.spec, steps=3, adjoint=False)
    before = objective.score(model, Batch(x), noise(50)).mean()
    train(model, objective, Batch(x), 20)
    assert objective.score(model, Batch(x), noise(50)).mean() < before - 0.2


def test_flow_matching_is_tuned_by_likelihood():
    """Any velocity field is, with its labels hidden now and then."""
    torch.manual_seed(0)
    spec, x, y = Spec((2,), REALS, classes=2), points(100).float() * 0.5, torch.arange(100) % 2
    model = NetworkField(spec, net=NET, path=Straight, conditional=True, label_dropout=0.3)
    model.initialize(x)
    with torch.no_grad():
        model.net.last.bias += 0.5
    objective = FlowNLL(spec, steps=4)
    assert objective.bind(model) == Learned(score=False)
    before = objective.score(model, Batch(x, y), noise(100)).mean()
    train(model, objective, Batch(x, y), 2, lr=2e-2)
    assert objective.score(model, Batch(x, y), noise(100)).mean() < before - 1e-3


@pytest.mark.slow
def test_a_run_from_the_command_line_is_measured_exactly(tmp_path):
    run = tmp_path / "run"
    small = ["data.val=20", "data.test=20", "model.net.hidden=[8]", "objective.steps=2", "n=4", "logger=none"]
    short = ["trainer.max_steps=2", "trainer.batch_size=16", "trainer.log_every=1"]
    gencli.train(["model=cnf", "data=moons", *small, *short, f"run_dir={run}"])
    record = json.loads((run / "eval" / "test-ode.json").read_text())
    assert record["bound"] == "exact"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"nll", "kinetic", "jacobian"} <= set(next(line for line in lines if line["split"] == "train"))
    assert all(math.isfinite(line["nll"]) for line in lines if line["split"] == "val")


# --- refusals --------------------------------------------------------------------------------------------------------


def test_discrete_times_are_refused():
    model = NetworkField(Spec((2,), REALS), net=NET, path=Straight, timesteps=10)
    with pytest.raises(ValueError, match=r"model\.timesteps=10"):
        FlowNLL(model.spec).bind(model)


class Explosion(Linear):
    """dx/dt = x^3, which is infinite at t = 1 / (2 x^2)."""

    def velocity(self, x, t, y=None):
        return x**3 + 0 * self.A.sum()


@pytest.mark.slow
def test_an_explosion_ends_in_words():
    field, x = Explosion([[0.0]]), torch.full((2, 1), 3.0)
    objective = FlowNLL(field.spec)
    with pytest.raises(ode.SolverError, match=r"objective\.max_nfe"):
        objective.score(field, Batch(x), noise(2))
    loss = objective.turns(field)[0].loss(Batch(x), StepNoise(CPU, 0))
    assert not torch.isfinite(loss.value)  # at which the loop stops and gives the advice
    assert "objective.steps" in objective.advice()


@pytest.mark.parametrize("partner", ["objective=denoise", "estimator=vlb", "sampler=ddim"])
def test_what_needs_a_path_is_refused(partner, capsys, tmp_path):
    assert cli.main(["train", "model=cnf", "data=moons", partner, "run_dir=never"]) == 2
    assert f"{partner} cannot" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()
