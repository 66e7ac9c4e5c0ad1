"""Priors: normalised, and they sample what they score."""

from __future__ import annotations

import math

import pytest
import torch
from latents import FLOW, SMALL, build, data, jitter, noise, rows

from gencli.models.latent.priors import MixturePrior
from gencli.models.latent.vae import VAE


@pytest.mark.parametrize("prior", ["standard", "mixture", "vamp", "flow"])
@pytest.mark.parametrize("d", [1, 2])
def test_priors_integrate_to_one_and_sample_themselves(prior, d):
    if prior == "flow" and d == 1:
        pytest.skip("refused")
    spec, x = data("binary", (6,))
    torch.manual_seed(0)
    model = VAE(spec, net=SMALL, latent=d, prior=prior, prior_components=5, flow=FLOW)
    model.initialize(x)
    jitter(model, 0.15)
    model.double()
    axis = torch.linspace(-9, 9, 901 if d == 2 else 20_001).double()
    grid = torch.cartesian_prod(*[axis] * d).view(-1, d)
    with torch.no_grad():
        p = model.prior.log_prob(grid).exp() * float(axis[1] - axis[0]) ** d
        z = model.prior.sample(20_000, noise(20_000)).double()
    assert float(p.sum()) == pytest.approx(1, abs=2e-3)
    mean = p @ grid
    error = z.std(0) / math.sqrt(len(z))
    assert ((z.mean(0) - mean).abs() < 4.5 * error + 1e-3).all()
    variance = p @ (grid - mean).square()
    assert torch.allclose(z.var(0), variance, rtol=0.08)


def test_vamp_is_the_mean_of_the_encoders_posteriors():
    model, _ = build("vae-vamp")
    z = rows(5, 3)
    with torch.no_grad():
        mean, log_std = model._moments(model.prior.inputs)
        normals = torch.distributions.Normal(mean, log_std.exp())
        expected = normals.log_prob(z[:, None]).sum(2).logsumexp(1) - math.log(7)
        assert torch.allclose(model.prior.log_prob(z), expected, atol=1e-9)
        in_fp32 = model.float().prior.log_prob(z.float())
    assert torch.allclose(in_fp32.double(), expected, atol=1e-3)


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_narrow_components_far_apart_have_their_density(spread):
    """Of fp32 products that cancel, a mean of weights picks the errors that are too large: a bound below the truth."""
    torch.manual_seed(0)
    d, K, log_std = 20, 50, -5.0
    prior = MixturePrior(d, K)
    with torch.no_grad():
        prior.mean.normal_().mul_(spread)
        prior.log_std.fill_(log_std)
        z = prior.mean + math.exp(log_std) * torch.randn(K, d)
        scaled = (z - prior.mean).double() / prior.log_std.double().exp()
        exact = -0.5 * (scaled.square() + math.log(2 * math.pi)).sum(1) - d * log_std - math.log(K)
        assert torch.allclose(prior.log_prob(z).double(), exact, atol=1e-3)
