"""Simulators: priors, likelihoods and posteriors against integrals, other solvers and each other."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import truncnorm

from gencli.core.errors import UsageError
from gencli.core.spec import Batch
from gencli.data.base import Dataset
from gencli.data.box import Box
from gencli.data.preprocess import Preprocess
from gencli.data.priors import LogNormalPrior, NormalPrior, UniformPrior
from gencli.data.sets.simulator import TASKS, Simulator
from gencli.run.opened import builder

MIXED = Box(
    torch.tensor([-1.0, 0.0, -math.inf, -math.inf]).double(), torch.tensor([2.0, math.inf, 3.0, math.inf]).double()
)
CLOSED = ["gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture", "two_moons"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_way_out_of_a_box_and_back_has_the_log_determinant_of_its_jacobian():
    x = torch.tensor([[-0.99, 1e-3, 2.9, 7.0], [1.5, 20.0, -50.0, -0.3]], dtype=torch.float64)
    v, nats = MIXED.unbounded(x)
    assert torch.allclose(MIXED.bounded_at(v), x, rtol=1e-10)
    for row, value in zip(x, nats, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda one: MIXED.unbounded(one[None])[0][0], row)
        assert float(value) == pytest.approx(-float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9)


def test_nothing_lies_outside_of_a_box():
    outside = torch.tensor([[2.0, 1.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 1.0, 3.5, 0.0]])
    assert torch.isinf(MIXED.unbounded(outside)[1]).all()
    far = torch.tensor([[80.0, -80.0, 60.0, 1e6], [-200.0, 0.0, -5.0, 0.0]])
    assert MIXED.contains(MIXED.bounded_at(far)).all()
    assert MIXED.contains(MIXED.within(torch.tensor([[2.0, 0.0, 3.0, 0.0]]))).all()


def test_preprocessing_of_a_box_is_a_change_of_variables():
    data = Simulator("gaussian_mixture", simulations=400)
    way = Preprocess(data.spec, ("real",), ("vector",), transform="standardize", box=data.box).double()
    way.fit(data.split("train"))
    x = data.split("val").x.double()
    z, terms = way(x)
    assert torch.allclose(way.inverse(z), x, rtol=1e-6)
    for k in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda one: way(one[None])[0][0], x[k])
        total = sum(float(term[k]) for term in terms.values())
        assert total == pytest.approx(-float(torch.linalg.slogdet(jacobian)[1]), rel=1e-6)
    assert math.isinf(float(sum(term for term in way(x[:1] + 30)[1].values())))


@pytest.mark.parametrize(
    "prior",
    [
        UniformPrior([-1.0, 2.0], [1.0, 5.0]),
        LogNormalPrior([0.3, -1.0], [0.5, 0.2]),
        NormalPrior([0.5, -1.0], [[2.0, 0.6], [0.6, 1.0]]),
    ],
    ids=["uniform", "log normal", "normal"],
)
def test_a_prior_has_the_density_of_its_draws(prior):
    theta = prior.sample(20_000, generator())
    centre, std = theta.mean(0), theta.std(0)
    q = torch.distributions.MultivariateNormal(centre, 4 * std.square().diag())
    # E_q[p / q] = 1, and by draws of p: E_p[q' / p] of a q' that has a narrower support
    torch.manual_seed(0)
    w = (prior.log_prob(x := q.sample((20_000,))) - q.log_prob(x)).exp()
    assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / 20_000**0.5
    error = (w[:, None] * x).std(0) / 20_000**0.5 + std / 20_000**0.5
    assert ((w[:, None] * x).mean(0) - centre).abs().lt(4 * error).all()


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("two_moons", "sir", "lotka_volterra")])
def test_the_score_of_a_likelihood_has_mean_zero(name):
    """E_x [d log p(x given theta) / d theta] = 0 ties the likelihood to the simulator."""
    task = TASKS[name]()
    theta = task.prior.sample(1, generator(3)) * 0.5
    x = task.simulate(theta.expand(4000, -1), generator(1))
    rows = theta.expand(4000, -1).clone().requires_grad_()
    (score,) = torch.autograd.grad(task.log_likelihood(x, rows).sum(), rows)
    assert (score.mean(0).abs() < 4.5 * score.std(0) / 4000**0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sir", "lotka_volterra"])
def test_the_score_of_a_likelihood_of_dynamics_has_mean_zero(name):
    task = TASKS[name]()
    theta = task.prior.sample(1, generator(3))
    x = task.simulate(theta.expand(500, -1), generator(1))
    rows = theta.expand(500, -1).clone().requires_grad_()
    (score,) = torch.autograd.grad(task.log_likelihood(x, rows).sum(), rows)
    assert (score.mean(0).abs() < 4.5 * score.std(0) / 500**0.5).all()


@pytest.mark.parametrize("name", ["gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture"])
def test_a_posterior_is_prior_times_likelihood_up_to_a_constant(name):
    task = TASKS[name]()
    theta = task.prior.sample(50, generator())
    x = task.simulate(theta[:1], generator(1)).expand(50, -1)
    rest = task.log_likelihood(x, theta) + task.prior.log_prob(theta) - task.log_posterior(theta, x)
    assert float(rest.max() - rest.min()) < 1e-9


@pytest.mark.parametrize(
    ("name", "theta"), [("two_moons", (0.9, 0.8)), ("two_moons", (0.1, -0.2)), ("gaussian_mixture", (9.8, -9.0))]
)
def test_a_posterior_integrates_to_one_and_its_draws_are_of_it(name, theta):
    task = TASKS[name]()
    x = task.simulate(torch.tensor([theta], dtype=torch.float64), generator(2))
    low, high = task.prior.box.low, task.prior.box.high
    draws = task.posterior(x[0], 4000, generator(3))
    assert task.prior.box.contains(draws).all()
    side = 700
    near, far = torch.maximum(low, draws.amin(0) - 0.3), torch.minimum(high, draws.amax(0) + 0.3)
    axes = [a + (b - a) * (torch.arange(side).double() + 0.5) / side for a, b in zip(near, far, strict=True)]
    cell = float(((far - near) / side).prod())
    # log_posterior of one x: its constant is found once
    log_p = task.log_posterior(draws[:1], x) - task.log_likelihood(x, draws[:1])
    grid = torch.cartesian_prod(*axes)
    p = (task.log_likelihood(x.expand(len(grid), -1), grid) + log_p).exp()
    assert float(p.sum()) * cell == pytest.approx(1, abs=0.015)
    mean = (p[:, None] * grid).sum(0) * cell
    assert (draws.mean(0) - mean).abs().lt(4 * draws.std(0) / 4000**0.5 + 0.005 * (far - near)).all()


def test_draws_within_a_box_are_truncated_normals():
    task = TASKS["gaussian_linear_uniform"]()
    x = torch.linspace(-1.8, 1.8, 10, dtype=torch.float64)
    draws, std = task.posterior(x, 4000, generator()), math.sqrt(0.1)
    for d in range(10):
        a, b = (-1 - float(x[d])) / std, (1 - float(x[d])) / std
        law = truncnorm(a, b, float(x[d]), std)
        assert abs(float(draws[:, d].mean()) - law.mean()) < 4 * law.std() / 4000**0.5
        own = task.log_posterior(draws[:5], x.expand(5, -1))
        assert torch.isfinite(own).all()
    wanted = sum(truncnorm((-1 - m) / std, (1 - m) / std, m, std).logpdf(0.3) for m in x.tolist())
    assert float(task.log_posterior(torch.full((1, 10), 0.3).double(), x[None])) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.slow
def test_dynamics_are_those_of_another_solver():
    theta = TASKS["lotka_volterra"]().prior.sample(4, generator(5))
    mine = TASKS["lotka_volterra"]().log_states(theta)
    for row, (a, b, c, d) in zip(mine, theta.tolist(), strict=True):
        f = lambda t, u: [a * u[0] - b * u[0] * u[1], -c * u[1] + d * u[0] * u[1]]  # noqa: B023, E731
        found = solve_ivp(f, (0, 19), [30, 1], t_eval=2.1 * np.arange(10), rtol=1e-9, atol=1e-9).y
        assert np.allclose(row.numpy(), np.log(found).ravel(), atol=2e-3)
    theta = TASKS["sir"]().prior.sample(4, generator(5))
    mine = TASKS["sir"]().infected(theta)
    for row, (b, c) in zip(mine, theta.tolist(), strict=True):
        f = lambda t, u: [-b * u[0] * u[1], b * u[0] * u[1] - c * u[1]]  # noqa: B023, E731
        found = solve_ivp(f, (0, 160), [1 - 1e-6, 1e-6], t_eval=17 * np.arange(1, 10), rtol=1e-10, atol=1e-14).y[1]
        assert np.allclose(row.numpy(), found, rtol=2e-3)


@pytest.mark.parametrize("target", ["parameters", "observations"])
def test_the_budget_is_training_and_validation_together(target):
    data, other = Simulator("slcp", target), Simulator("slcp", target, seed=1)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [900, 100, 1000]
    assert torch.equal(data.observations[1], other.observations[1])  # those are asked about whatever the seed
    assert data.split("test").sha256 != other.split("test").sha256
    shapes = {"parameters": ((5,), (8,)), "observations": ((8,), (5,))}[target]
    assert (data.spec.shape, data.spec.context) == shapes


def test_a_joint_density_is_prior_times_likelihood_and_its_entropy_that_of_both():
    data = Simulator("gaussian_linear", "joint", test=40)
    x = data.split("test").gather(torch.arange(40)).x
    assert x.shape == (40, 20)
    assert data.spec.context == ()
    theta, seen = x.double().tensor_split([10], 1)
    exact = data.task.prior.log_prob(theta) + data.task.log_likelihood(seen, theta)
    assert torch.allclose(data.log_density(x), exact)
    closed = 2 * 10 * 0.5 * math.log(2 * math.pi * math.e * 0.1)  # both variances are 0.1
    assert abs(data.entropy - closed) < 4 * data.entropy_error


def test_both_parts_of_a_joint_density_lie_in_their_boxes():
    data = Simulator("lotka_volterra", "joint", simulations=20, test=2)
    prior, own = data.task.prior.box, data.task.box
    assert torch.equal(data.box.low, torch.cat([prior.low, own.low]))
    assert torch.equal(data.box.high, torch.cat([prior.high, own.high]))
    assert data.box.contains(data.split("train").x).all()


def test_no_density_has_counts_beside_reals():
    with pytest.raises(ValueError, match=r"^target=joint: observations of this task are .*; take target="):
        Simulator("sir", "joint")


def test_entropy_is_the_closed_one():
    data = Simulator("gaussian_linear")
    closed = 5 * math.log(2 * math.pi * math.e * 0.05)
    assert abs(data.entropy - closed) < 4 * data.entropy_error
    assert Simulator("slcp").entropy is None
    assert Simulator("bernoulli_glm", "observations").entropy is None  # which has no density


MINE = """
import torch
from gencli.interfaces import Task, UniformPrior

class Line(Task):
    name, observed, names = "line", 1, ("slope",)
    prior = UniformPrior([0.0], [1.0])
    def simulate(self, theta, generator):
        return 2 * theta + 0.1 * torch.randn(theta.shape, generator=generator, dtype=theta.dtype)

class Certain(Line):
    observed = 2
    def simulate(self, theta, generator):
        return torch.cat([super().simulate(theta, generator), theta.square()], 1)

class Few(Certain):
    singular = True

class Loose(Line):
    def simulate(self, theta, generator):
        return torch.zeros(3)

def nothing():
    return 3
"""


def make(trust, task):
    return builder(trust).component({"_target_": "gencli.data.sets.simulator.Simulator", "task": task}, Dataset)


def test_a_simulator_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "mysims.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"data\.task=.*trust=\[mysims\]"):
        make((), "mysims:Line")
    data = make(("mysims",), "mysims:Line")
    assert data.name == "simulator_line"
    batch: Batch = data.split("train").gather(torch.arange(3))
    assert batch.x.shape == (3, 1)
    with pytest.raises(UsageError, match=r"data\.task=.*Line"):
        make(("mysims",), "mysims:Lime")
    with pytest.raises(UsageError, match="this gives int, no Task"):
        make(("mysims",), "mysims:nothing")
    with pytest.raises(UsageError, match="simulate gave shape"):
        make(("mysims",), "mysims:Loose").split("train")
    with pytest.raises(UsageError, match="simulate gives x_2 of the same parameters without noise"):
        make(("mysims",), "mysims:Certain").split("train")
    assert make(("mysims",), "mysims:Few").split("train") is not None
    with pytest.raises(UsageError, match=r"Did you mean.*two_moons"):
        make((), "two_moon")


@pytest.mark.parametrize("task", ["gencli.core.files:write_whole", "gencli.cli.main:main", "os:getcwd"])
def test_a_run_folder_calls_nothing_by_the_name_of_a_task(task):
    with pytest.raises(UsageError, match=rf"^data\.task={task}: |^data\.task={task.replace(':', '.')}: "):
        make((), task)
