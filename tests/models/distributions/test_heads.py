"""Heads: normalised, drawn as they are scored, with their own mean, and started at the marginals of the data."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.autoregressive.made import MADE
from gencli.models.distributions import (
    BernoulliHead,
    Categorical,
    CategoricalHead,
    Fair,
    Head,
    LogisticMixtureHead,
    NormalHead,
    NormalMixtureHead,
    PixelMixtureHead,
)
from gencli.models.distributions.scales import SOFT_FLOOR, Bounded
from gencli.models.latent.decoders import make_decoder
from gencli.nn.mlp import MLP

BITS, ORDERED, UNORDERED = (Support.parse(text) for text in ("binary", "levels:5", "categorical:4"))
DISCRETE: dict[str, tuple[Head, int]] = {
    "bernoulli": (BernoulliHead(), 2),
    "categorical-bits": (CategoricalHead(BITS), 2),
    "categorical-ordered": (CategoricalHead(ORDERED), 5),
    "categorical": (CategoricalHead(UNORDERED), 4),
    "logistic": (LogisticMixtureHead(17, 1), 17),
    "logistics": (LogisticMixtureHead(17, 3), 17),
    "logistics-bounded": (LogisticMixtureHead(5, 2, Bounded(-2, 7), quantiles=False), 5),
}
"""Each with K, the number of its values."""
REAL: dict[str, Head] = {
    "normal": NormalHead(torch.tensor([0.3], dtype=torch.float64), scaled=False),
    "normal-scaled": NormalHead(torch.tensor([-0.2], dtype=torch.float64), scaled=True),
    "normal-of-a-mixture": NormalMixtureHead(1),
    "normals": NormalMixtureHead(3),
}
GRID = torch.linspace(-80, 80, 160_001, dtype=torch.float64)


def params(head: Head, n: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, head.n_params, generator=generator, dtype=torch.float64)


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))


def mass(head: Head, K: int, law: Tensor) -> Tensor:
    """P(k) of all values, params (n, P) -> (n, K)."""
    x = torch.arange(K).expand(len(law), K)
    return head.log_prob(x, law[:, None].expand(-1, K, -1)).exp()


# --- densities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 5.0])
@pytest.mark.parametrize("name", DISCRETE)
def test_masses_sum_to_one_and_have_their_mean(name, scale):
    head, K = DISCRETE[name]
    law = params(head, 50, scale)
    p = mass(head, K, law)
    assert (p.sum(1) - 1).abs().max() < 1e-10
    mean = head.mean(law)
    if name == "categorical":
        assert torch.equal(mean, p.argmax(1).double())
    else:
        assert (mean - p @ torch.arange(K).double()).abs().max() < 1e-10
    logits = head.conditional(law).logits
    assert (logits.softmax(1) - p).abs().max() < 1e-10  # what is drawn from is what is scored


@pytest.mark.parametrize("name", REAL)
def test_densities_integrate_to_one_and_have_their_mean(name):
    head = REAL[name]
    law = params(head, 6)
    p = head.log_prob(GRID, law[:, None].expand(-1, len(GRID), -1)).exp() * (GRID[1] - GRID[0])
    assert (p.sum(1) - 1).abs().max() < 1e-6
    assert (head.mean(law) - p @ GRID).abs().max() < 1e-6


@pytest.mark.parametrize("name", [*DISCRETE, *REAL])
def test_parameters_have_any_leading_dimensions(name):
    head = DISCRETE[name][0] if name in DISCRETE else REAL[name]
    law = params(head, 12)
    x = torch.arange(12).double() % 2 if name in REAL else torch.arange(12) % 2
    flat = head.log_prob(x, law), head.mean(law), head.sample(law, RowNoise(0, torch.arange(12)))
    assert all(value.shape == (12,) for value in flat)
    boxed = law.view(3, 4, -1)
    assert torch.equal(head.log_prob(x.view(3, 4), boxed).flatten(), flat[0])
    assert torch.equal(head.mean(boxed).flatten(), flat[1])
    assert head.sample(boxed, noise(3)).shape == (3, 4)
    columns = law.T.contiguous().T  # as decoders hand them over
    assert (head.log_prob(x, columns) - flat[0]).abs().max() < 1e-12


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("name", DISCRETE)
def test_frequencies_are_the_probabilities(name, temperature):
    """Chi-squared of 20,000 draws, below its 0.9999 quantile; a temperature divides log-probabilities."""
    head, K = DISCRETE[name]
    law, n = params(head, 1), 20_000
    p = mass(head, K, law)[0] ** (1 / temperature)
    expected = n * p / p.sum()
    drawn = head.sample(law.expand(n, -1), noise(n), temperature)
    assert drawn.is_floating_point() == (K == 2)
    seen = torch.bincount(drawn.long(), minlength=K).double()
    many = expected >= 5
    seen, expected = torch.stack([seen, expected])[:, many]
    df = len(seen)
    assert ((seen - expected).square() / expected).sum() < df + 3.8 * math.sqrt(2 * df) + 10


@pytest.mark.parametrize("name", REAL)
def test_draws_of_reals_follow_the_density(name):
    """Kolmogorov-Smirnov of 20,000 draws, below its 0.9999 quantile."""
    head, n = REAL[name], 20_000
    law = params(head, 1)
    cdf = (head.log_prob(GRID, law.expand(len(GRID), -1)).exp() * (GRID[1] - GRID[0])).cumsum(0)
    x = head.sample(law.expand(n, -1), noise(n)).sort().values
    gap = (cdf[torch.searchsorted(GRID, x).clamp(max=len(GRID) - 1)] - (torch.arange(n) + 0.5) / n).abs().max()
    assert gap < 2.2 / math.sqrt(n)


@pytest.mark.parametrize("name", ["normal", "normal-scaled", "normal-of-a-mixture"])
def test_a_temperature_scales_the_deviation_of_a_normal(name):
    head = REAL[name]
    law = params(head, 1).expand(100, -1)
    warm, cool = (head.sample(law, noise(100), temperature) - head.mean(law) for temperature in (1.0, 0.25))
    assert torch.allclose(cool, warm / 4)
    assert torch.allclose(head.sample(law, noise(100), 0.0), head.mean(law))


@pytest.mark.parametrize("name", DISCRETE)
def test_at_temperature_zero_the_likeliest_value_is_drawn(name):
    head, K = DISCRETE[name]
    law = params(head, 40)
    used = noise(40)
    assert torch.equal(head.sample(law, used, 0.0).long(), mass(head, K, law).argmax(1))
    after = noise(40)
    head.sample(law, after)
    assert torch.equal(used.rand(40), after.rand(40))  # the stream goes on as at any other temperature


def test_truncation_keeps_the_likeliest():
    law = Categorical(torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().expand(5000, 4))
    for options, wanted in (
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.75}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 9, "top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),
    ):
        seen = torch.bincount(law.truncated(**options).sample(noise(5000)), minlength=4) / 5000
        assert (seen - torch.tensor(wanted)).abs().max() < 0.03  # 4 standard errors
    bits = BernoulliHead().conditional(torch.zeros(6, 1)).truncated(top_k=1)
    assert bits.sample(noise(6)).dtype == torch.float32
    fair = Fair(law.logits)
    assert torch.equal(fair.sample(noise(5000), temperature=0), law.sample(noise(5000)))


# --- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "slack"), [*((name, 1e-3) for name in list(DISCRETE)[:4]), ("logistics", 0.15)])
def test_a_fit_of_integers_has_the_entropy_of_the_data(name, slack):
    """NLL of the fitted marginals minus the entropy of the empirical ones, which is their KL, 0 at best."""
    head, K = DISCRETE[name]
    generator = torch.Generator().manual_seed(0)
    top = torch.distributions.Binomial(K - 1, torch.tensor([0.2, 0.5, 0.9]))
    p = top.log_prob(torch.arange(K).double()[:, None]).exp().T  # (3, K)
    x = torch.multinomial(p, 20_000, replacement=True, generator=generator).T
    seen = torch.stack([torch.bincount(column, minlength=K) for column in x.T]).double() / len(x)
    entropy = -(seen * seen.clamp(min=1e-12).log()).sum(1)
    law = head.fit(x.float() if K == 2 else x)
    assert law.shape == (3, head.n_params)
    kl = -head.log_prob(x, law.expand(len(x), -1, -1)).mean(0) - entropy
    assert (kl > -1e-5).all()
    assert (kl < slack).all()


@pytest.mark.parametrize("name", ["normal", "normal-of-a-mixture", "normals"])
def test_a_fit_of_reals_has_the_entropy_of_the_data(name):
    """Of normal data: the differential entropy, within 4 standard errors; three components lie at its quantiles."""
    std, n = torch.tensor([0.5, 2.0, 40.0], dtype=torch.float64), 20_000
    x = 3 + std * torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    head = NormalHead(x.std(0, correction=0).log(), scaled=False) if name == "normal" else REAL[name]
    nll = -head.log_prob(x, head.fit(x).expand(n, -1, -1)).mean(0)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + std.log()
    assert (nll > entropy - 4 * (0.5 / n) ** 0.5).all()
    assert (nll < entropy + (0.1 if name == "normals" else 4 * (0.5 / n) ** 0.5)).all()


def test_a_fit_of_a_constant_is_finite():
    for head in (*(head for head, _ in DISCRETE.values()), NormalMixtureHead(1), NormalMixtureHead(3)):
        assert head.fit(torch.ones(10, 2)).isfinite().all()


def test_log_scales_stay_within_their_bounds():
    raw = torch.linspace(-60, 60, 401, dtype=torch.float64)
    assert SOFT_FLOOR(raw).min() >= -7
    assert (SOFT_FLOOR(raw) - raw)[raw > 5].abs().max() < 1e-5
    bounded = Bounded(-2, 7)
    assert bounded(raw).min() >= -9
    assert bounded(raw).max() <= 5
    inner = torch.linspace(-8, 4, 50, dtype=torch.float64)
    assert (bounded(bounded.raw(inner)) - inner).abs().max() < 1e-9


# --- a pixel ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_channels_of_a_pixel_are_one_distribution(channels):
    head = PixelMixtureHead(4, channels, 2)
    assert head.start().shape == (head.n_params,)
    law = head.start().double() + params(head, 1)  # type: ignore[arg-type]
    x = torch.cartesian_prod(*[torch.arange(4)] * channels).view(-1, channels)
    log_p = head.log_conditionals(x, law.expand(len(x), -1))
    assert log_p.shape == x.shape
    assert log_p.sum(1).exp().sum() == pytest.approx(1, abs=1e-12)
    logits = head.logits(x, law.expand(len(x), -1))
    assert torch.allclose(logits.logsumexp(-1), torch.zeros(len(x), channels).double(), atol=1e-12)
    assert torch.allclose(logits.gather(-1, x[..., None])[..., 0], log_p, atol=1e-12)


# --- the same head behind two networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_the_same_head_behind_made_and_behind_a_decoder(name):
    """Both start at the marginals of the data, so that their densities agree before training."""
    spec = Spec((3,), BITS if name == "bernoulli" else UNORDERED)
    x = torch.randint(spec.support.size, (50, 3), generator=torch.Generator().manual_seed(0))
    x = x.float() if name == "bernoulli" else x
    made = MADE(spec, hidden=[8])
    decoder = make_decoder(name, spec, functools.partial(MLP, hidden=[8]), 2, 0, components=1, variance="shared")
    assert type(made.distribution) is type(decoder.distribution)
    made.initialize(x)
    decoder.initialize(x)
    with torch.no_grad():
        by_decoder = decoder.log_prob(x, torch.zeros(50, 1, 2))[:, 0]
        assert (made.log_prob(x) - by_decoder).abs().max() < (1e-6 if name == "bernoulli" else 0.2)  # pseudo-counts
