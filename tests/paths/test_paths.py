"""Paths from data to noise, and the conversions between what a model may say."""

from __future__ import annotations

import math

import pytest
import torch
from fields import PATHS, MixtureField, gaussian, twentyfive

from gencli.paths.base import Prediction
from gencli.paths.schedules import VE, VP, Cosine, Straight, SubVP

paths = pytest.mark.parametrize("name", PATHS)


def inner(path, n=101):
    """Times away from ends at which something vanishes."""
    return torch.linspace(max(path.t_min, 1e-4), min(path.t_max, 1 - 1e-4), n, dtype=torch.float64)


@paths
def test_derivatives_are_those_of_autograd(name):
    path = PATHS[name]()
    for function, derivative in (("alpha", "d_alpha"), ("sigma", "d_sigma"), ("log_snr", "d_log_snr")):
        t = inner(path).requires_grad_()
        (exact,) = torch.autograd.grad((getattr(path, function)(t) + 0 * t).sum(), t)
        assert torch.allclose(getattr(path, derivative)(t), exact, rtol=1e-8, atol=1e-10), function


@paths
def test_snr_falls_and_time_is_its_inverse(name):
    path = PATHS[name]()
    t = inner(path)
    assert (path.log_snr(t).diff() < 0).all()
    assert (path.time(path.log_snr(t)) - t).abs().max() < 1e-10
    assert (path.alpha(t) > 0).all()
    assert (path.alpha(t) <= 1).all()
    assert (path.sigma(t) > 0).all()
    if name in ("vp", "cosine", "trigonometric"):
        assert torch.allclose(path.alpha(t).square() + path.sigma(t).square(), torch.ones_like(t))


def test_ends_of_the_log_snr():
    t = torch.tensor([1e-5, 1.0]).double()
    assert VP().log_snr(t).tolist() == pytest.approx([13.81, -10.05], abs=0.006)
    assert VE().sigma(torch.tensor([0.0, 1.0]).double()).tolist() == pytest.approx([0.01, 50])
    assert Straight().log_snr(torch.tensor([0.5]).double()).item() == pytest.approx(0, abs=1e-12)
    assert SubVP().sigma(t[1:]).item() == pytest.approx(1 - math.exp(-10.05), abs=1e-12)


@paths
def test_the_sde_has_the_marginals_of_the_path(name):
    """d mean/dt = f mean and d variance/dt = 2 f variance + g^2."""
    path, s = PATHS[name](), 0.7
    t = inner(path).clamp(max=0.99)
    alpha, sigma = path.alpha(t), path.sigma(t)
    assert torch.allclose(path.f(t) * alpha, path.d_alpha(t))
    V, dV = (alpha * s) ** 2 + sigma**2, 2 * alpha * path.d_alpha(t) * s**2 + 2 * sigma * path.d_sigma(t)
    assert torch.allclose(2 * path.f(t) * V + path.g2(t), dV)
    assert (path.g2(t) > 0).all()


@paths
def test_conversions_are_inverse_to_each_other(name):
    path = PATHS[name]()
    t = inner(path, 64).clamp(max=0.99)
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 64, 1, 3, 2, generator=generator).double()
    x = path.noised(x0, eps, t)
    truth = Prediction.of(path, x, t, eps=eps)
    column = (slice(None), None, None, None)
    assert torch.allclose(truth.x0, x0, atol=1e-8)
    velocity = path.d_alpha(t)[column] * x0 + path.d_sigma(t)[column] * eps
    assert torch.allclose(truth.velocity, velocity, rtol=1e-8)
    assert torch.allclose(truth.score, -eps / path.sigma(t)[column])
    # The velocity of the probability flow: f x - g^2/2 score
    flow = path.f(t)[column] * x - 0.5 * path.g2(t)[column] * truth.score
    assert torch.allclose(flow, velocity, rtol=1e-7, atol=1e-8)
    for kind in ("velocity", "score", "eps", "x0", "v"):
        again = Prediction.of(path, x, t, **{kind: getattr(truth, kind)})
        for other in ("velocity", "score", "eps", "x0", "v"):
            wanted = getattr(truth, other)
            assert torch.allclose(getattr(again, other), wanted, rtol=1e-6, atol=1e-6 * wanted.abs().max()), (
                kind,
                other,
            )


@paths
@pytest.mark.parametrize("kind", ["velocity", "eps", "x0", "v"])
def test_scale_is_what_v_moves_for_a_unit_of_the_output(name, kind):
    path = PATHS[name]()
    t = inner(path, 16).clamp(max=0.99)
    x, value = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(1)).double()
    one, two = (Prediction.of(path, x, t, **{kind: value + change}) for change in (0, 1))
    assert torch.allclose(two.v - one.v, one.scale.expand_as(x), rtol=1e-6, atol=1e-8)


@paths
def test_salimans_and_ho_on_variance_preserving_paths(name):
    if name not in ("vp", "cosine", "trigonometric"):
        pytest.skip("not variance preserving")
    path, t = PATHS[name](), torch.tensor([0.3]).double()
    x0, eps = torch.tensor([[1.7]]).double(), torch.tensor([[-0.4]]).double()
    v = Prediction.of(path, path.noised(x0, eps, t), t, eps=eps).v
    assert v.item() == pytest.approx((path.alpha(t) * eps - path.sigma(t) * x0).item())


def test_float32_keeps_small_sigmas():
    for path in (VP(), Cosine(), SubVP()):
        t = torch.tensor([1e-5, 1e-4, 1e-2])
        assert torch.allclose(path.sigma(t).double(), path.sigma(t.double()), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(beta_min=3, beta_max=1), r"model\.path\.beta_min=3"),
        (lambda: VE(sigma_min=2, sigma_max=1), r"model\.path\.sigma_min=2"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@paths
def test_the_analytic_fields_satisfy_tweedie(name):
    """The mixture's score is the gradient of its log-density."""
    path = PATHS[name]()
    field = twentyfive(path)
    x = (field.draw(20) * path.alpha(torch.tensor(0.4).double())).requires_grad_()
    (score,) = torch.autograd.grad(field.log_prob(x, 0.4).sum(), x)
    assert torch.allclose(field.predict(x.detach(), torch.full((20,), 0.4).double()).score, score, rtol=1e-6, atol=1e-6)
    assert isinstance(gaussian(path), MixtureField)
