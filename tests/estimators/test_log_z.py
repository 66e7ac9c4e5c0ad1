"""Estimates of log Z against exact answers: quadrature, importance, annealing in both directions."""

from __future__ import annotations

import math

import pytest
import torch
from energies import exact_samples, measured, noise, normal, quadratic, spec, two_modes, wavy

from gencli.core.errors import RunFailed
from gencli.core.spec import Batch
from gencli.core.tensors import log_mean_exp
from gencli.estimators.ais import AIS
from gencli.estimators.annealed import systematic
from gencli.estimators.partition import Importance, Quadrature
from gencli.estimators.smc import SMC
from gencli.models.energy.exponential import Polynomial, Quadratic
from gencli.models.energy.reference import Reference
from gencli.models.trained import Learned


@pytest.mark.parametrize("dim", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_quadrature_is_exact(dim):
    model = quadratic(dim)
    log_z, error, _ = measured(Quadrature(), model, exact_samples(model, 500))
    assert log_z == pytest.approx(float(model.log_partition().detach()), abs=1e-6)
    assert error < 1e-3
    polynomial = Polynomial(spec(dim), growth=0.5).double()
    assert measured(Quadrature(), polynomial, normal(200, dim))[0] == pytest.approx(
        float(polynomial.log_partition().detach()), abs=1e-5
    )
    with torch.no_grad():
        flow = two_modes(dim)
        assert abs(measured(Quadrature(), flow, flow.sample(300, noise=noise()))[0]) < 1e-4


@pytest.mark.slow
def test_quadrature_sees_mass_far_from_the_data_and_refuses_what_has_no_z():
    model = Polynomial(spec(2), degree=2, growth=0.001).double()  # a normal 20 times as wide as the box
    log_z, error, found = measured(Quadrature(), model, normal(200, 2))
    assert log_z == pytest.approx(math.log(math.pi / 0.001), abs=max(3 * error, 1e-3))
    assert found["mass_outside_box"] > 0.5
    flat = wavy("none")
    with torch.no_grad():
        flat.net.net.layers[-1].weight.zero_()
    with pytest.raises(RunFailed, match="no Z"):
        measured(Quadrature(), flat, normal(200, 2).float())


def test_an_estimate_that_is_none_is_refused():
    energy = wavy()
    with torch.no_grad():
        energy.net.net.layers[-1].bias.fill_(math.nan)
    with pytest.raises(RunFailed, match="log Z came out as nan"):
        measured(Importance(proposal=lambda s: Reference(s), samples=100), energy, normal(100, 2).float())


ESTIMATORS = {
    "ais": lambda: AIS(base=lambda s: Reference(s, widen=1.2), chains=512, betas=20, refresh=20),
    "ais_even": lambda: AIS(
        base=lambda s: Reference(s, widen=1.2), chains=512, betas=25, adapt=False, leaps=1, refresh=20
    ),
    "smc": lambda: SMC(base=lambda s: Reference(s, widen=1.2), chains=1024, betas=15, populations=8),
    "importance": lambda: Importance(proposal=lambda s: Reference(s, widen=1.5), samples=5000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("kind", ["gmm", "network"])
def test_log_z_within_its_own_error(kind, name):
    """Three seeds: none further than 4 standard errors, the squares of all as those of normals (chi-squared, 1e-4)."""
    if kind == "gmm":
        model, truth = two_modes(distance=3.0), 0.0
        x = model.sample(1000, noise=noise(99)).detach()
    else:
        model = wavy()
        x = normal(1000, 2).float() * 1.5
        truth = measured(Quadrature(tolerance=1e-5), model, x)[0]
    away = []
    for seed in range(3):
        log_z, error, found = measured(ESTIMATORS[name](), model, x, seed)
        assert 0 < error < 0.2
        away.append((log_z - truth) / error)
        if name.startswith("ais"):
            both = math.hypot(error, found["log_z_reverse_se"])
            assert found["log_z_gap"] > -4 * both
            assert abs(found["log_z_reverse"] - truth) < 5 * found["log_z_reverse_se"] + 0.02
    assert max(map(abs, away)) < 4.5
    assert sum(a * a for a in away) < 21.1


def test_annealing_is_unbiased_and_its_bounds_hold():
    """A rough path: weights average to Z in both directions, their logarithms lie below and above log Z = 0."""
    model = two_modes(distance=3.0)
    x = model.sample(500, noise=noise(99)).detach()
    ais = AIS(base=lambda s: Reference(s, widen=0.8), chains=2000, betas=4, leaps=1)
    annealing = ais.annealing(model, x, noise())
    _, forward, _ = ais.forward(annealing, noise(1))
    back = ais.backward(annealing, model.sample(2000, noise=noise(2)).detach(), noise(3))
    for log_w in (forward, back):
        mean, variance = log_mean_exp(log_w)
        assert abs(float(mean)) < 4 * math.sqrt(float(variance))
        assert float(log_w.mean()) < -5 * float(log_w.std()) / math.sqrt(len(log_w))


@pytest.mark.slow
def test_bounds_are_named():
    model, energy = two_modes(), wavy()
    for kind in (AIS, SMC):
        estimator = kind(base=lambda s: Reference(s), chains=16, betas=3)
        assert estimator.prepare(energy, Batch(normal(50, 2).float()), noise()).bound == "lower"
    for some, bound in ((model, "upper"), (energy, "estimate")):
        estimator = AIS(base=lambda s: Reference(s), chains=16, betas=3, refresh=1, report="reverse")
        assert estimator.prepare(some, Batch(normal(50, 2).float()), noise()).bound == bound
    with pytest.raises(ValueError, match="no base of its own"):
        AIS(base=None).check(quadratic(), Learned())
    AIS(base=None).check(energy, Learned())
    with pytest.raises(ValueError, match="one or two dimensions"):
        Quadrature().check(Quadratic(spec(3)), Learned())


def test_systematic_resampling_is_unbiased():
    log_w = torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=torch.float64).log()
    counts = torch.zeros(4)
    for seed in range(400):
        counts += torch.bincount(systematic(log_w, noise(seed)), minlength=4)
    assert (counts / 1600 - log_w.exp()).abs().max() < 0.02
