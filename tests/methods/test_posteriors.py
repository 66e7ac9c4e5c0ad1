"""Posteriors by chains against exact draws and importance weights; ranks of the right and of wrong posteriors."""

import math

import pytest
import torch
from simulators import exact

from gencli.data.priors import UniformPrior
from gencli.data.sets.simulator import TASKS
from gencli.methods.coverage import band, chi_squared, deviation, distance_ranks, floor, ranks
from gencli.methods.posteriors import pairs, posteriors, reference, tempered


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "target", "offset"),
    [
        ("gaussian_mixture", "observations", 0.0),
        ("two_moons", "observations", 0.0),
        ("gaussian_mixture", "joint", 7.0),  # as an energy whose Z is wrong by e^7
    ],
)
def test_chains_on_a_known_likelihood_have_the_moments_of_exact_draws(name, target, offset):
    subject = exact(name, target, test=5, offset=offset)
    x = subject.dataset.observations[1][2]
    drawn = posteriors(subject, x[None], 1000)
    own, other = drawn.theta[0], subject.dataset.task.posterior(x, 4000, generator())
    assert drawn.diagnostics["r_hat"] < 1.1
    assert subject.dataset.task.prior.box.contains(own).all()
    for f in (lambda t: t, lambda t: t.square(), lambda t: t.prod(1, keepdim=True)):
        # draws that come of one population are not independent: half as many are
        error = (f(own).var(0) / 400 + f(other).var(0) / 4000).sqrt()
        assert ((f(own).mean(0) - f(other).mean(0)).abs() < 4 * error).all()


def test_a_posterior_of_one_parameter_is_that_of_a_sum_over_a_grid():
    """Two modes of weights 1 and 3, far apart, in a box."""
    prior = UniformPrior([-10.0], [10.0])

    def log_l(theta):
        narrow = -0.5 * ((theta[:, 0] + 6) / 0.1).square()
        return torch.stack([narrow, -0.5 * ((theta[:, 0] - 5) / 0.3).square()]).logsumexp(0)

    drawn = tempered(prior, log_l, 1600, generator(), 50).theta[0, :, 0]
    grid = torch.linspace(-10, 10, 20_001).double()[:, None]
    p = log_l(grid).softmax(0)
    weight = float(p[grid[:, 0] > 0].sum())
    assert weight == pytest.approx(0.75, abs=1e-4)
    assert abs(float((drawn > 0).double().mean()) - weight) < 4 * math.sqrt(weight * (1 - weight) / 300)
    assert float(drawn[drawn > 0].std()) == pytest.approx(0.3, rel=0.15)


def test_the_reference_of_slcp_agrees_with_weighted_draws_of_the_prior():
    task = TASKS["slcp"]()
    theta, x = task.prior.sample(1, generator(4)), None
    x = task.simulate(theta, generator(5))[0]
    own = reference(task, x, 1200, generator(), steps=50)
    prior = task.prior.sample(300_000, generator(6))
    w = task.log_likelihood(x.expand(len(prior), -1), prior).softmax(0)
    count = float(1 / w.square().sum())
    assert count > 50
    for f in (lambda t: t[:, :2], lambda t: t[:, 2:4].abs(), lambda t: t[:, 2:4].sign()):
        mean = (w[:, None] * f(prior)).sum(0)
        error = f(own).std(0) * (1 / count + 1 / 400) ** 0.5
        assert ((f(own).mean(0) - mean).abs() < 4 * error).all()


def test_direct_draws_that_leave_the_prior_are_counted_and_drawn_again():
    subject = exact("gaussian_linear_uniform", shift=0.25)
    drawn = posteriors(subject, subject.dataset.observations[1][:2], 200)
    assert drawn.theta.shape == (2, 200, 10)
    assert subject.dataset.task.prior.box.contains(drawn.theta.flatten(0, 1)).all()
    assert 0.05 < drawn.diagnostics["leakage"] < 1
    with pytest.raises(ValueError, match="lie outside of the prior"):
        posteriors(exact("gaussian_linear_uniform", shift=3.0), subject.dataset.observations[1][:1], 20)


def calibration(n=99, **options):
    subject = exact("gaussian_linear", test=200, **options)
    theta, x = pairs(subject, 200)
    return posteriors(subject, x, n).theta, theta, x


def test_ranks_of_the_true_posterior_are_uniform_and_of_biased_ones_are_not():
    draws, theta, x = calibration()
    statistics = [chi_squared(column, 99, 10) for column in ranks(draws, theta).T]
    assert min(p for _, p in statistics) > 1e-3 / 10
    assert 0.5 < sum(s for s, _ in statistics) / 90 < 1.5
    covered = distance_ranks(draws, theta, x)
    assert deviation(covered, 99) < 3 * floor(200)
    for wrong in ({"shift": 0.15}, {"wide": 0.5}, {"wide": 2.0}):
        draws, theta, x = calibration(**wrong)
        assert max(p for _, p in (chi_squared(column, 99, 10) for column in ranks(draws, theta).T)) < 1e-3


def test_draws_of_the_prior_pass_by_their_ranks_but_not_by_their_distances():
    subject = exact("gaussian_linear", test=200)
    theta, x = pairs(subject, 200)
    draws = subject.dataset.task.prior.sample(200 * 99, generator()).view(200, 99, 10)
    assert min(p for _, p in (chi_squared(column, 99, 10) for column in ranks(draws, theta).T)) > 1e-4
    assert deviation(distance_ranks(draws, theta, x), 99) > 3 * floor(200)


def test_what_is_said_of_calibrated_ranks():
    found = torch.randint(0, 100, (400, 200), generator=generator())
    mean = sum(deviation(row, 99) for row in found) / len(found)
    assert mean == pytest.approx(floor(200), rel=0.1)
    low, high = band(200, 10)
    counts = torch.stack([torch.histc(row.double(), 10, 0, 100) for row in found])
    assert float(((counts >= low) & (counts <= high)).double().mean()) > 0.93
