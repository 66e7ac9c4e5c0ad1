"""Seeded noise: right distributions, and the same row whatever the company it is drawn in."""

import itertools
import math

import torch

from gencli.core.noise import Ahead, Purpose, RowNoise, StepNoise, mix_seed, stream


def test_row_noise_does_not_depend_on_the_batch():
    ids = torch.arange(100)
    whole = RowNoise(3, ids)
    first, second = whole.randn(100, 5), whole.rand(100, 2, 3)
    for chunk in ids.split(7):
        part = RowNoise(3, chunk)
        assert torch.equal(part.randn(len(chunk), 5), first[chunk])
        assert torch.equal(part.rand(len(chunk), 2, 3), second[chunk])


def test_many_variates_are_those_of_the_rows():
    """More than are hashed at once."""
    ids, few = torch.arange(700), torch.tensor([0, 101, 699])
    whole, part = RowNoise(3, ids), RowNoise(3, few)
    assert 3 * RowNoise.CACHED < 700 * 300
    assert torch.equal(whole.rand(700, 300)[few], part.rand(3, 300))
    assert torch.equal(whole.randn(700, 300)[few], part.randn(3, 300))


def test_row_noise_differs_by_row_seed_and_call():
    noise = RowNoise(0, torch.arange(1000))
    a, b = noise.rand(1000, 4), noise.rand(1000, 4)
    assert len(torch.cat([a, b]).flatten().unique()) > 7990  # 24-bit floats: a few collide by chance
    other = RowNoise(1, torch.arange(1000)).rand(1000, 4)
    assert abs(float(torch.corrcoef(torch.stack([a.flatten(), other.flatten()]))[0, 1])) < 4 / math.sqrt(4000)


def test_row_noise_is_uniform_and_normal():
    n, m = 2000, 500
    noise = RowNoise(5, torch.arange(n))
    u = noise.rand(n, m)
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 100, 0, 1).double()
    expected = n * m / 100
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi2 - 99) < 4 * math.sqrt(2 * 99)  # 4 standard deviations of chi-squared with 99 degrees
    z = noise.randn(n, m).double()
    se = 1 / math.sqrt(n * m)
    assert abs(z.mean()) < 4 * se
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2) * se
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96) * se
    # Neighbours within a row and neighbouring rows are uncorrelated.
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < 4 * se
    assert abs((z[1:] * z[:-1]).mean()) < 4 * se


def test_step_noise_is_a_function_of_its_parts():
    cpu = torch.device("cpu")
    assert torch.equal(StepNoise(cpu, 0, 7).randn(10), StepNoise(cpu, 0, 7).randn(10))
    assert not torch.equal(StepNoise(cpu, 0, 7).randn(10), StepNoise(cpu, 7, 0).randn(10))


def test_no_two_purposes_share_noise():
    ids = torch.arange(500)
    streams = {purpose.name: stream(0, purpose) for purpose in Purpose}
    streams |= {f"{purpose.name} 0": stream(0, purpose, 0) for purpose in Purpose if purpose is not Purpose.SAMPLING}
    drawn = {}
    for name, seed in streams.items():
        generator = torch.Generator().manual_seed(seed)
        of_rows = RowNoise(seed, ids)._bits(500, 4).flatten()
        drawn[name] = torch.cat([of_rows, torch.randint(2**63 - 1, (2000,), generator=generator)])
    for (a, x), (b, y) in itertools.combinations(drawn.items(), 2):
        assert not set(x.tolist()) & set(y.tolist()), f"{a} and {b}"


def test_mixed_seeds_are_spread():
    seeds = {mix_seed(a, b) for a in range(100) for b in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= s < 2**63 for s in seeds)


def test_noise_drawn_ahead_is_new_at_every_call_and_does_not_depend_on_the_batch():
    ids = torch.arange(50)
    whole = Ahead(RowNoise(3, ids))
    calls = [whole.randn(50, 3) for _ in range(40)]  # more than one block
    assert len(torch.stack(calls).flatten().unique()) == 50 * 3 * 40
    assert abs(float(torch.stack(calls).mean())) < 4 / math.sqrt(50 * 3 * 40)
    part = Ahead(RowNoise(3, ids[10:20]))
    assert all(torch.equal(part.randn(10, 3), call[10:20]) for call in calls)
    assert whole.randn(50, 2, 2).shape == (50, 2, 2)  # another shape begins another block
