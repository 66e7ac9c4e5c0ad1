"""Energies and the densities that they tilt."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from energies import measured, noise, normal, spec

from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.partition import Quadrature
from gencli.models.energy.ebm import EBM
from gencli.models.energy.exponential import Polynomial, Quadratic
from gencli.models.energy.reference import Reference
from gencli.models.energy.tilted import BOUND
from gencli.nn.energy import EnergyNet
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.objectives.energy.score_matching import (
    SlicedScoreMatching,
)


def test_statistics_of_a_polynomial():
    model = Polynomial(spec(2), degree=2).double()
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    assert sorted(model.statistics(x)[0].tolist()) == [2, 3, 4, 6, 9]
    with pytest.raises(ValueError, match="even"):
        Polynomial(spec(2), degree=3)
    with pytest.raises(ValueError, match="one or two dimensions"):
        Polynomial(spec(3))


@pytest.mark.parametrize("base", ["none", "gaussian", "gmm"])
def test_an_energy_tilts_its_base(base):
    torch.manual_seed(0)
    model = EBM(spec(2), net=lambda i, o, c: EnergyNet(i, o, c, vector={"hidden": [8]}), base=base, components=3)
    x = normal(500, 2).float() + 2
    model.initialize(x)
    if base == "none":
        assert torch.equal(model.energy(x), torch.zeros(500))  # f starts at 0
        start = model.start(2000, noise=noise())
        assert start.mean(0).tolist() == pytest.approx(x.mean(0).tolist(), abs=0.1)
    else:
        assert torch.allclose(model.energy(x), -model.reference().log_prob(x))
        assert abs(measured(Quadrature(), model, x)[0]) < 1e-3
        assert not any(p.requires_grad for p in model.base.parameters())


def test_a_tilted_flow_has_a_z_that_its_samples_can_see():
    """u = sinh(3 eps) / 3 carries far noise far; f falls like -|u|, and log Z = log E_eps exp(-f(u)) by a sum over eps.

    Without a bound Z is of |eps| > 4, which one sample in 16,000 shows. With one these add log(1 + e^2b / 16,000) at
    most, and log Z is within b.
    """
    eps = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    log_q = -0.5 * eps.square() - 0.5 * math.log(2 * math.pi) + math.log(float(eps[1] - eps[0]))
    shown, most = eps.abs() < 4, math.log1p(math.exp(2 * BOUND) * math.erfc(4 / math.sqrt(2)))
    log_z, missed = {}, {}
    for bound in (None, BOUND):
        torch.manual_seed(0)
        net = partial(EnergyNet, vector={"hidden": [8]})
        model = EBM(spec(1), net=net, base="none", bound=bound).double()
        for p in model.net.parameters():
            torch.nn.init.normal_(p)
        with torch.no_grad():
            terms = log_q - model.tilt((3 * eps).sinh()[:, None] / 3)
        log_z[bound] = float(terms.logsumexp(0))
        missed[bound] = log_z[bound] - float(terms[shown].logsumexp(0))
    assert missed[None] > 1e6
    assert missed[BOUND] < most
    assert abs(log_z[BOUND]) < BOUND


@pytest.mark.parametrize(("base", "bound"), [("gaussian", None), ("run", BOUND)])
def test_a_tilt_is_bounded_where_its_base_does_not_bound_it(base, bound):
    run = SimpleNamespace if base == "run" else None
    made = partial(EBM, spec(2), net=partial(EnergyNet, vector={"hidden": [8]}), base=base, run=run)
    with patch("gencli.models.energy.tilted.Reference"):
        assert made(bound="auto").bound == bound
        assert made(bound=3.0).bound == 3.0
        assert made(bound=None).bound is None


def test_convolutional_energy_is_smooth_and_bounded_by_its_norms():
    torch.manual_seed(0)
    image = Spec((1, 8, 8), Support("real"))
    model = EBM(image, net=lambda i, o, c: EnergyNet(i, o, c, image={"width": [8, 16], "spectral_norm": True}))
    x = torch.randn(64, 1, 8, 8)
    model.initialize(x)
    with torch.no_grad():
        model.net.net.last.weight.normal_()
    assert model.energy(x).shape == (64,)
    rows = SlicedScoreMatching(image).score(model, Batch(x), noise())
    assert rows.isfinite().all()
    pooled = EnergyDiscrepancy(image, perturbation="pooling").score(model, Batch(x), noise())
    assert pooled.shape == (64,)
    assert pooled.isfinite().all()


@pytest.mark.parametrize("widen", [1.0, 2.0])
def test_a_reference_is_a_density(widen):
    model = Reference(spec(2), kind="gmm", components=3, widen=widen)
    x = torch.cat([normal(300, 2).float(), normal(300, 2, 1).float() + 4])
    model.initialize(x)
    assert abs(measured(Quadrature(), model, x)[0]) < 1e-4
    with torch.no_grad():
        drawn = model.sample(4000, noise=noise())
        own = Reference(spec(2), kind="gaussian", covariance="full")
        own.initialize(drawn)
        assert float((-model.log_prob(drawn)).mean()) < float((-own.log_prob(drawn)).mean())


@pytest.mark.parametrize("make", [Quadratic, Polynomial])
def test_energies_of_data_of_any_size_have_their_z(make):
    """Seconds of a year: neither the box of Z nor the place of the parameters is where the data are not."""
    generator = torch.Generator().manual_seed(0)
    x = 3e7 + 5e3 * torch.randn(400, 1, generator=generator, dtype=torch.float64)
    model = make(spec(1)).double()
    model.initialize(x)
    grid = torch.linspace(3e7 - 6e4, 3e7 + 6e4, 20001, dtype=torch.float64)
    exact = (-model.energy(grid[:, None])).logsumexp(0) + math.log(float(grid[1] - grid[0]))
    assert float(model.log_partition().detach()) == pytest.approx(float(exact.detach()), abs=1e-6)
    start = model.start(100, noise=noise())
    assert abs(float(start.mean()) - 3e7) < 2e3
    if make is Quadratic:  # the normal of the data from the first step on
        nll = (model.energy(x) + model.log_partition()).mean()
        assert float(nll.detach()) == pytest.approx(
            math.log(float(x.std()) * math.sqrt(2 * math.pi * math.e)), abs=1e-2
        )


def test_energies_of_before_are_of_x_itself():
    model = Quadratic(spec(2))
    model.initialize(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    old = {
        name: tensor for name, tensor in Quadratic(spec(2)).state_dict().items() if name not in ("location", "scale")
    }
    model.load_state_dict(old)
    x = torch.tensor([[1.0, -2.0]])
    assert torch.equal(model.energy(x), 0.5 * x.square().sum(1))


def test_a_polynomial_has_derivatives_at_the_mean():
    model = Polynomial(spec(2))
    with torch.no_grad():
        model.theta.fill_(0.3)
    x = torch.zeros(1, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(model.energy(x).sum(), x, create_graph=True)
    assert torch.allclose(slope, torch.full((1, 2), 0.3))
    assert torch.autograd.grad(slope.sum(), [x, model.theta])[0].isfinite().all()
