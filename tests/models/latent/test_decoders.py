"""Decoders: normalised, they start at the marginals of the data, and they sample what they score."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from latents import REAL, SMALL, data, jitter, noise, rows

from gencli.core.spec import Spec, Support
from gencli.models.latent.decoders import SUPPORTS, make_decoder
from gencli.models.latent.hvae import HVAE
from gencli.models.latent.vae import VAE


@pytest.fixture(autouse=True)
def same_weights():
    """Of networks, which start from the global generator, whatever ran before."""
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("name", "support"),
    [
        ("bernoulli", "binary"),
        ("categorical", "binary"),
        ("categorical", "categorical:3"),
        ("categorical", "levels:4"),
        ("logistic", "levels:2"),
        ("logistic", "levels:4"),
        ("logistic", "levels:256"),
    ],
)
@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_decoders_sum_to_one_and_say_their_own_mean(name, support, scale):
    spec, x = data(support, (2,))
    decoder = make_decoder(name, spec, SMALL, 3, 0, components=2, variance="shared")
    decoder.initialize(x)
    jitter(decoder, scale)
    decoder.double()
    z = rows(4, 3)
    K = spec.support.levels
    if K > 100:  # coordinates are independent: a line through all values of the first one, at a fixed second
        states = torch.stack([torch.arange(K), torch.full((K,), 7)], 1)
    else:
        states = torch.cartesian_prod(torch.arange(K), torch.arange(K))
    with torch.no_grad():
        log_p = decoder.log_prob(states.double() if name == "bernoulli" else states, z[None].expand(len(states), 4, 3))
        mean = decoder.mean(z)
    if K > 100:
        other = torch.stack([torch.full((K,), 7), torch.arange(K)], 1)
        with torch.no_grad():
            second = decoder.log_prob(other, z[None].expand(K, 4, 3))
        both = log_p.logsumexp(0) + second.logsumexp(0)  # log P(x2=7) + log P(x1=7) = log P(7, 7)
        assert torch.allclose(both, log_p[7], atol=1e-6)
    else:
        assert torch.allclose(log_p.logsumexp(0), torch.zeros(4).double(), atol=1e-6)
        if spec.support.kind != "categorical":
            assert torch.allclose(torch.einsum("sn,sd->nd", log_p.exp(), states.double()), mean, atol=1e-5)


@pytest.mark.parametrize("variance", ["shared", "pixel", "network"])
def test_gaussian_decoders_integrate_to_one(variance):
    spec = Spec((1,), REAL)
    decoder = make_decoder("gaussian", spec, SMALL, 3, 0, components=1, variance=variance)
    jitter(decoder, 0.7)
    decoder.double()
    grid = torch.linspace(-60, 60, 24_001).double()[:, None]
    z = rows(1, 4, 3).expand(len(grid), 4, 3)
    with torch.no_grad():
        log_p = decoder.log_prob(grid, z)
        assert torch.allclose(log_p.exp().sum(0) * 0.005, torch.ones(4).double(), atol=1e-6)
        assert torch.allclose((log_p.exp() * grid).sum(0) * 0.005, decoder.mean(z[0])[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", list(SUPPORTS))
def test_decoders_start_at_the_marginals_of_the_data(name):
    """Before training the NLL is about that of independent coordinates."""
    support = {"bernoulli": "binary", "categorical": "categorical:4", "logistic": "levels:16", "gaussian": "real"}[name]
    spec = Spec((3,), Support.parse(support))
    p = torch.tensor([0.1, 0.5, 0.9])
    n = 4000
    generator = torch.Generator().manual_seed(0)
    if name == "gaussian":
        x = 2 * torch.randn(n, 3, generator=generator) + p
        expected = float(0.5 * (x.var(0).mean().log() + math.log(2 * math.pi) + 1)) * 3
    else:
        top = spec.support.levels - 1
        x = (torch.rand(n, 3, top, generator=generator) < p[:, None]).sum(2)  # binomial
        counts = torch.stack([torch.bincount(x[:, j], minlength=top + 1) for j in range(3)]).double() / n
        expected = float(-(counts * counts.clamp(min=1e-9).log()).sum())
    model = VAE(spec, net=SMALL, latent=2, decoder=name, components=1)
    inputs = x.float() if name in ("bernoulli", "gaussian") else x
    model.initialize(inputs)
    with torch.no_grad():
        terms = model.elbo(inputs, noise=noise(n))
    assert terms.rate.abs().max() < 0.1 * n
    assert float(terms.distortion.mean()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("support", ["levels:256", "real", "categorical:5"])
def test_bernoulli_refuses_anything_but_bits(support):
    for kind in (VAE, functools.partial(HVAE, latent=(3, 2))):
        with pytest.raises(ValueError, match=r"model\.decoder=bernoulli"):
            kind(Spec((4,), Support.parse(support)), net=SMALL, decoder="bernoulli")


def test_decoders_sample_what_they_score():
    for name, support in (("bernoulli", "binary"), ("categorical", "levels:4"), ("logistic", "levels:4")):
        spec, x = data(support, (2,))
        decoder = make_decoder(name, spec, SMALL, 3, 0, components=2, variance="shared")
        decoder.initialize(x)
        jitter(decoder, 1.0)
        n, K = 20_000, spec.support.levels
        z = rows(1, 3).float().expand(n, 3)
        with torch.no_grad():
            drawn = decoder.sample(z, noise=noise(n)).long()
            states = torch.cartesian_prod(torch.arange(K), torch.arange(K))
            p = decoder.log_prob(states.float() if K == 2 else states, z[: K * K, None]).exp()[:, 0].double()
        seen = torch.bincount(K * drawn[:, 0] + drawn[:, 1], minlength=K * K)
        keep = n * p > 5
        chi2 = ((seen - n * p)[keep].square() / (n * p)[keep]).sum()
        df = int(keep.sum())
        assert chi2 < df + 4.5 * math.sqrt(2 * df)
