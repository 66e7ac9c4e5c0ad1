"""Ancestral sampling of MADE: cached as naive, as probable as it is scored, completions and truncation."""

from __future__ import annotations

import math

import pytest
import torch
from masks import DISCRETE, REAL, discrete, labels, noise, real, states

from gencli.core.noise import RowNoise
from gencli.core.spec import Given, Spec, Support
from gencli.models.autoregressive.made import MADE
from gencli.samplers.ancestral import Ancestral


@pytest.mark.parametrize("name", [*DISCRETE, *REAL])
def test_cached_samples_are_the_naive_ones(name):
    model = discrete(name) if name in DISCRETE else real(name, 6)
    n = 40
    draw = [Ancestral(cached=cached).sample(model, n, labels(n), noise(n)).x for cached in (True, False)]
    assert draw[0].shape == (n, model.spec.dim)
    if name in DISCRETE:
        assert torch.equal(*draw)
        assert draw[0].is_floating_point() == (model.spec.support.kind == "binary")
    assert (draw[0] - draw[1]).abs().max() < 1e-9
    some = torch.tensor([7, 8, 30])
    part = Ancestral().sample(model, 3, labels(n)[some], RowNoise(3, some)).x
    assert (part - draw[0][some]).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["bits-deep", "bits-random", "bits-masks", "categories-random", "levels-logistic"])
def test_samples_match_the_probabilities(name):
    """Chi-squared over the states that 20,000 samples should meet 5 times or more, below its 0.9999 quantile."""
    model, n = discrete(name), 20_000
    x = states(model)
    with torch.no_grad():
        p = model.log_prob(x).exp()
    draws = Ancestral().sample(model, n, None, noise(n)).x
    radix = model.spec.support.levels ** torch.arange(model.spec.dim - 1, -1, -1)
    seen = torch.bincount((draws.long() * radix).sum(1), minlength=len(x)).double()
    keep = n * p >= 5
    seen, expected = torch.cat([seen[keep], seen[~keep].sum()[None]]), n * torch.cat([p[keep], p[~keep].sum()[None]])
    statistic = ((seen - expected).square() / expected.clamp(min=1)).sum()
    df = len(seen) - 1
    assert statistic < df + 3.8 * math.sqrt(2 * df) + 10


def test_samples_of_reals_match_the_density():
    """By the probability integral transform: the first coordinate's marginal, 20,000 samples, Kolmogorov-Smirnov."""
    model, n = real("mixture", 1), 20_000
    with torch.no_grad():
        grid = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
        cdf = model.log_prob(grid[:, None]).exp().cumsum(0) * (grid[1] - grid[0])
    x = Ancestral().sample(model, n, None, noise(n)).x[:, 0].sort().values
    gap = (cdf[torch.searchsorted(grid, x).clamp(max=len(grid) - 1)] - (torch.arange(n) + 0.5) / n).abs().max()
    assert gap < 2.2 / math.sqrt(n)  # its 0.9999 quantile


def test_truncation_and_temperature():
    model = discrete("categories")
    n = 200
    greedy = Ancestral(temperature=0).sample(model, n, None, noise(n)).x
    assert len(greedy.unique(dim=0)) == 1
    assert torch.equal(Ancestral(top_k=1).sample(model, n, None, noise(n)).x, greedy)
    assert torch.equal(Ancestral(top_p=1e-6).sample(model, n, None, noise(n)).x, greedy)
    step, x = [], greedy[:1]
    for d in range(5):  # the likeliest value at every step, by enumeration
        options = torch.stack([torch.cat([x[0, :d], torch.tensor([k]), x[0, d + 1 :]]) for k in range(3)])
        with torch.no_grad():
            step.append(int(model.log_conditionals(options)[:, d].argmax()))
    assert step == x[0].tolist()
    whole = Ancestral().sample(model, n, None, noise(n)).x
    assert torch.equal(Ancestral(top_k=3, top_p=1.0).sample(model, n, None, noise(n)).x, whole)
    two = Ancestral(top_k=2).sample(model, n, None, noise(n)).x
    with torch.no_grad():
        least = torch.stack([model.log_conditionals(torch.full((1, 5), k))[0, 0] for k in range(3)]).argmin()
    assert not (two[:, 0] == least).any()
    narrow = Ancestral(temperature=0.0).sample(real("normal", 3), 5, None, noise(5)).x
    assert (narrow - narrow[0]).abs().max() < 1e-12


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", ["bits", "bits-random", "levels"])
def test_what_is_given_is_kept_and_noise_stays(name, cached):
    model = discrete(name)
    n, D = 30, model.spec.dim
    free = Ancestral().sample(model, n, None, noise(n)).x
    x = (free + 1) % model.spec.support.levels
    mask = torch.zeros(n, D, dtype=torch.bool)
    mask[:, : D // 2] = True
    found = Ancestral(given="top_half", cached=cached).sample(model, n, None, noise(n), given=Given(x, mask)).x
    assert torch.equal(found[mask], x[mask])
    nothing = Given(x, torch.zeros_like(mask))
    assert torch.equal(Ancestral(cached=cached).sample(model, n, None, noise(n), given=nothing).x, free)


def test_completions_follow_the_conditional():
    model, n = discrete("bits"), 20_000
    x = states(model)
    with torch.no_grad():
        p = model.log_prob(x).exp()
    begin = torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0]).double().expand(n, -1)
    mask = (torch.arange(8) < 3).expand(n, -1)
    draws = Ancestral().sample(model, n, None, noise(n), given=Given(begin, mask)).x
    match = (x[:, :3] == begin[0, :3]).all(1)
    expected = (p[match, None] * x[match]).sum(0) / p[match].sum()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((draws.mean(0) - expected).abs() <= 4 * error + 1e-12).all()


@pytest.mark.slow
def test_cached_sampling_is_fast():
    """16 rows of 784 bits, 32 masks: the cached walk against the time of a few full passes."""
    import time

    model = MADE(Spec((784,), Support.parse("binary")), masks=8, orderings="random").eval()
    times = []
    with torch.no_grad():
        for work in (
            lambda: [model.log_conditionals_of(m, torch.zeros(2, 784)) for m in range(8)],
            lambda: Ancestral().sample(model, 16, None, noise(16)).x,
        ):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    assert times[1] < 784 / 3 * times[0]


def test_a_mixture_completes_by_its_own_conditional():
    """Members are drawn by their posterior given the beginning, else completions do not follow p(rest | given)."""
    model = MADE(Spec((5,), Support("binary", 2)), hidden=[8], masks=3).eval().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p += 1.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    start = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    both = torch.stack([torch.cat([start, torch.tensor([b]).double()]) for b in (0.0, 1.0)])
    wanted = float(model.log_prob(both).detach().softmax(0)[1])
    n = 20_000
    noise = RowNoise(1, torch.arange(n))
    given = Given(both[:1].expand(n, -1), (torch.arange(5) < 4).expand(n, -1))
    x = model.decode(n, pick=lambda conditional: conditional.sample(noise, 1.0), given=given)
    assert float(x[:, 4].double().mean()) == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / n) ** 0.5)


def test_truncation_leaves_the_choice_of_a_member_alone():
    """Greedy samples of five members: the likeliest row of each, a fifth of the rows each."""
    model, n = discrete("bits-masks"), 5000
    for sampler in (Ancestral(temperature=0), Ancestral(top_k=1), Ancestral(top_p=1e-6)):
        _, counts = sampler.sample(model, n, None, noise(n)).x.unique(dim=0, return_counts=True)
        assert 1 < len(counts) <= 5
        fifths = counts / n * 5
        assert (fifths - fifths.round()).abs().max() < 0.15  # two members may agree; 5 standard errors
