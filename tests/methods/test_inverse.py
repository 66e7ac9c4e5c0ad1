"""Restoration where the posterior is known: a normal prior, a linear map and normal noise."""

import math

import pytest
import torch
from energies import law, noise, normal, quadratic
from fields import NormalField

from gencli.core.noise import RowNoise
from gencli.core.tensors import rows
from gencli.kernels.hmc import HMC
from gencli.kernels.langevin import Langevin
from gencli.methods import inverse, spectral
from gencli.methods.guidance import Informed, solve
from gencli.methods.inverse import Observation
from gencli.methods.operators import Identity, Matrix, Operator, Selection
from gencli.paths.schedules import VP, Straight
from gencli.samplers.diffusion.ddim import DDIM
from gencli.samplers.restored import covered

DIM, SIGMA = 3, 0.6
OPERATORS: dict[str, Operator] = {
    "denoise": Identity((DIM,)),
    "inpaint": Selection((DIM,), torch.tensor([True, False, True])),
    "matrix": Matrix((DIM,), torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.0, 1.4]])),
}
SCALE, SHIFT = torch.tensor([2.0, 0.5, 1.0]).double(), torch.tensor([1.0, 0.0, -1.0]).double()


def values(u):
    """Data of model space, as ``standardize`` would have them."""
    return SCALE.to(u) * u + SHIFT.to(u)


def closed_form(A: Operator, z, mean, covariance):
    """Mean (n, D) and covariance of u given z = A values(u) + sigma n, for u ~ N(mean, covariance)."""
    dense = A(torch.eye(DIM).double() * SCALE).T
    gain = covariance @ dense.T @ torch.linalg.inv(dense @ covariance @ dense.T + SIGMA**2 * torch.eye(len(dense)))
    away = z - A(values(mean[None]))
    return mean + away @ gain.T, covariance - gain @ dense @ covariance


def observations(A: Operator, n: int, seed: int = 0):
    """(u, what was seen of it), u from the prior itself."""
    prior = quadratic(DIM)
    mean, covariance = law(prior)
    u = mean + normal(n, DIM, seed) @ torch.linalg.cholesky(covariance).T
    z = A(values(u)) + SIGMA * normal(n, A.size, seed + 1)
    return prior, u, Observation(A, z, SIGMA, values)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_likeliest_under_a_normal_prior_is_the_wiener_filter(name):
    prior, _, observed = observations(OPERATORS[name], 6)
    mean, _ = closed_form(observed.operator, observed.z, *law(prior))
    found, slope = inverse.likeliest(prior.energy, observed, [torch.zeros(6, DIM).double()])
    torch.testing.assert_close(found, mean, atol=1e-5, rtol=0)
    assert slope.max() < 1e-4
    single = Observation(observed.operator, observed.z.float(), SIGMA, values)
    found, _ = inverse.likeliest(prior.float().energy, single, [torch.zeros(6, DIM)])
    torch.testing.assert_close(found.double(), mean, atol=1e-4, rtol=0)


def test_the_lowest_of_several_minima_is_taken():
    def energy(u):
        return (u.square() - 1).square().sum(1) + 0.3 * u.sum(1)

    seen = Observation(Identity((1,)), torch.zeros(2, 1), 1e6, lambda u: u)
    at = torch.tensor([[0.8], [-1.2]])
    found, _ = inverse.likeliest(energy, seen, [at, -at])
    assert (found < -0.9).all()


@pytest.mark.parametrize("name", OPERATORS)
def test_chains_draw_from_the_posterior(name):
    prior, _, observed = observations(OPERATORS[name], 2)
    mean, covariance = closed_form(observed.operator, observed.z, *law(prior))
    each, steps = 100, 20
    start = prior.start(2 * each, noise=noise(3)).double()
    found = inverse.walk(
        prior.energy, observed, start, noise(4), kernel=HMC(leaps=6), each=each, draws=each, warmup=40, steps=steps
    )
    assert found.draws.shape == (2, each, DIM)
    deviation = covariance.diagonal().sqrt()
    # the last points of as many chains, which are independent of each other
    assert ((found.draws.mean(1) - mean).abs() < 3.5 * deviation / math.sqrt(each)).all()
    assert ((found.draws.std(1) / deviation - 1).abs() < 3.5 / math.sqrt(2 * each)).all()
    assert found.diagnostics["r_hat"] < 1.3  # of twenty steps
    assert 0.6 < found.diagnostics["acceptance"] < 0.95


def test_draws_are_kept_evenly_and_any_kernel_walks():
    prior, _, observed = observations(OPERATORS["denoise"], 2)
    start = prior.start(6, noise=noise(3)).double()
    found = inverse.walk(prior.energy, observed, start, noise(4), kernel=Langevin(), each=3, draws=8, warmup=0, steps=3)
    assert found.draws.shape == (2, 8, DIM)
    assert not torch.equal(found.draws[:, 0], found.draws[:, 1])


def test_the_interval_of_chains_covers_what_was_drawn_from_the_prior():
    n, each = 200, 19
    prior, u, observed = observations(OPERATORS["matrix"], n)
    start = prior.start(n * each, noise=noise(3)).double()
    draws = inverse.walk(
        prior.energy, observed, start, noise(4), kernel=HMC(leaps=5), each=each, draws=each, warmup=20, steps=4
    ).draws
    share = covered(draws, u)
    error = share.std() / math.sqrt(n)
    assert error < 0.015
    assert abs(share.mean() - 0.9) < 0.03 + error
    mean = draws.mean(1, keepdim=True)
    assert covered(mean + 0.5 * (draws - mean), u).mean() < 0.75  # too narrow a posterior is seen


@pytest.mark.parametrize("path", [VP, Straight])
@pytest.mark.parametrize("name", OPERATORS)
def test_guided_diffusion_draws_from_the_posterior_of_normal_data(name, path):
    prior, _, observed = observations(OPERATORS[name], 2)
    mean, covariance = closed_form(observed.operator, observed.z, *law(prior))
    k = 300
    field = Informed(NormalField(path(), *law(prior)), observed.repeated(k), law(prior)[1])
    drawn = DDIM(steps=60, eta=1.0).sample(field, 2 * k, None, RowNoise(0, torch.arange(2 * k))).x.view(2, k, DIM)
    deviation = covariance.diagonal().sqrt()
    # steps have an error of their own, here at most a tenth of a deviation
    assert ((drawn.mean(1) - mean).abs() < (0.1 + 3.5 / math.sqrt(k)) * deviation).all()
    assert ((drawn.std(1) / deviation - 1).abs() < 0.1 + 3.5 / math.sqrt(2 * k)).all()


def test_the_spectral_gradient_finds_minima_of_rows_that_do_not_depend_on_each_other():
    curvature = torch.logspace(0, 2, 5).double()

    def energy(x):
        return 0.5 * (curvature * (x - 1).square()).sum(1)

    x = normal(4, 5, 1) * rows(torch.tensor([1.0, 10.0, 100.0, 0.1]).double(), torch.zeros(4, 5))
    found, slope = spectral.minimise(energy, x, 300)
    torch.testing.assert_close(found, torch.ones_like(x), atol=1e-5, rtol=0)
    assert slope.max() < 1e-3
    alone, _ = spectral.minimise(energy, x[2:3], 300)
    assert torch.equal(alone[0], found[2])


def test_conjugate_gradients_solve_each_row():
    root = normal(6, 6, 3)
    law = root @ root.T + torch.eye(6)
    b = normal(4, 6, 5)
    torch.testing.assert_close(solve(lambda w: w @ law, b), torch.linalg.solve(law, b.T).T, atol=1e-3, rtol=1e-3)
