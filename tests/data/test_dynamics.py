"""Simulated systems: the density of a step, its entropy, F against what is known of each, climates, trajectories."""

import math

import pytest
import torch

from gencli.data.sets.dynamics import Advection, Kepler, Lorenz63, Lorenz96, Pendulum

SMALL = {"train": 2, "val": 1, "test": 20}
SYSTEMS = [Pendulum, Lorenz63, Lorenz96, Kepler, Advection]
every = pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)


@every
def test_the_nll_of_the_true_step_is_the_entropy(system):
    dataset = system(**SMALL)
    rows = dataset.split("test").gather(torch.arange(20 * dataset.length))
    nll = -dataset.log_density(rows.x, rows.y)
    assert abs(float(nll.mean()) - dataset.entropy) < 3 * float(nll.std()) / math.sqrt(len(nll))
    wrong = -dataset.log_density(rows.x, rows.y + dataset.noise)  # a state that is off
    assert float(wrong.mean()) > dataset.entropy + 0.1
    assert dataset.log_density(rows.x) is None  # without the state before, nobody knows


@every
def test_rows_of_a_trajectory_follow_each_other_and_splits_share_nothing(system):
    dataset = system(length=10, train=2, val=1, test=2)
    train, test = dataset.split("train"), dataset.split("test")
    assert torch.equal(train.x[:9], train.y[1:10])
    assert torch.equal(train.groups, torch.arange(2).repeat_interleave(10))
    assert not torch.equal(train.x[9], train.y[10])  # another trajectory
    assert not bool(torch.isin(train.x, test.x).any())
    assert dataset.spec.context == dataset.spec.shape
    assert torch.equal(dataset.following(train.y, train.x), train.x)


def test_a_pendulum_keeps_its_energy_without_noise():
    dataset = Pendulum()
    s = torch.tensor([[2.0, 0.5], [0.3, -1.0]], dtype=torch.float64)

    def energy(s):
        return 0.5 * s[:, 1].square() - s[:, 0].cos()

    after = s
    for _ in range(50):
        after = dataset.advance(after)
    assert (energy(after) - energy(s)).abs().max() < 1e-5
    small = dataset.advance(torch.tensor([[1e-3, 0.0]], dtype=torch.float64))  # theta = a cos t
    assert abs(float(small[0, 0]) - 1e-3 * math.cos(dataset.dt)) < 1e-8


def test_a_planet_closes_its_ellipse_after_a_year():
    dataset = Kepler(dt=2 * math.pi / 100)
    s = dataset.start(5, torch.Generator().manual_seed(0))
    q, v = s.chunk(2, 1)
    assert torch.allclose(0.5 * v.square().sum(1) - 1 / q.norm(dim=1), torch.full((5,), -0.5, dtype=torch.float64))
    after = s
    for _ in range(100):
        after = dataset.advance(after)
    assert (after - s).abs().max() < 1e-3


def test_lorenz_systems_rest_where_they_should():
    root = math.sqrt(72)
    fixed = torch.tensor([[root, root, 27.0], [-root, -root, 27.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert Lorenz63().velocity(fixed).abs().max() < 1e-12
    assert Lorenz96(forcing=5.0).velocity(torch.full((1, 40), 5.0)).abs().max() == 0
    s = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dataset = Lorenz96()
    assert torch.allclose(dataset.advance(s.roll(7, 1)), dataset.advance(s).roll(7, 1))
    # a quadratic advection does not change the energy: d/dt |s|^2 / 2 = -|s|^2 + forcing sum s
    change = (s * dataset.velocity(s)).sum(1)
    assert torch.allclose(change, -s.square().sum(1) + 8 * s.sum(1))


def test_a_wave_is_carried_and_damped_exactly():
    dataset = Advection(dimension=16, speed=2.0, diffusion=0.1)
    place = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    moved = dataset.advance((3 * place).sin()[None])[0]
    wanted = math.exp(-dataset.dt * (0.1 * 9 + 0.2)) * (3 * (place - 2 * dataset.dt)).sin()
    assert torch.allclose(moved, wanted, atol=1e-12)


def test_the_true_model_keeps_the_true_climate():
    dataset = Advection(dimension=8)
    A = dataset.advance(torch.eye(8)).T
    stationary = torch.eye(8, dtype=torch.float64) * dataset.noise**2
    for _ in range(400):  # Sigma = A Sigma A^T + sigma^2 I
        stationary = A @ stationary @ A.T + dataset.noise**2 * torch.eye(8)
    generator = torch.Generator().manual_seed(1)
    n = 4000
    states = dataset.simulate(dataset.start(n, generator), 10, generator)
    for t in (0, 10):
        found = states[:, t].T @ states[:, t] / n
        error = ((stationary.diagonal().outer(stationary.diagonal()) + stationary.square()) / n).sqrt()
        assert ((found - stationary) / error).abs().max() < 4.5  # of 36 numbers


def test_what_is_too_large_is_refused():
    with pytest.raises(Exception, match=r"data\.dt=2\.0 or data\.noise=0\.3 is too large"):
        Lorenz96(dt=2.0, **SMALL).split("test")
