"""Lattices at equilibrium: exact draws against enumeration, chains against Kaufman's formula, entropy."""

import pytest
import torch
from lattices import ising, log_z, probabilities, states
from scipy.stats import chisquare

from gencli.core.ising import CRITICAL, torus
from gencli.data.sets.ising import IsingLattices


def energy(x):
    """-sum_<ij> s_i s_j of bits (n, 1, L, L), (n,)."""
    s = 2 * x[:, 0].double() - 1
    return -(s * s.roll(-1, 1)).sum((1, 2)) - (s * s.roll(-1, 2)).sum((1, 2))


@pytest.mark.parametrize(("size", "K"), [(2, 0.2), (3, 0.15)])
def test_exact_draws(size, K):
    """Chi-squared of 40,000 draws on all 16 and 512 states, p above 1e-3; entropy by enumeration to 1e-6."""
    data = IsingLattices(size=size, K=K, train=40_000)
    x = data.split("train").x
    model = ising((1, size, size), None, K=K)
    p = probabilities(model)
    assert float(p.min()) * len(x) > 5
    weight = 2 ** torch.arange(size**2 - 1, -1, -1)
    counts = torch.bincount((x.flatten(1).long() * weight).sum(1), minlength=len(p))
    assert chisquare(counts.numpy(), (p * len(x)).numpy()).pvalue > 1e-3
    mean = float((p * model.energy(states(model.spec)).detach()).sum())
    assert data.entropy == pytest.approx(log_z(model) + mean, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "K", "n"), [(6, 0.6, 4_000), (9, CRITICAL, 2_000), pytest.param(12, 0.3, 600, marks=pytest.mark.slow)]
)
def test_energies_are_those_of_kaufman(size, K, n):
    """Means of splits within 3 standard errors; that of 12 x 12 is of chains. The spins of no site are preferred."""
    data = IsingLattices(size=size, K=K, train=n, val=50, test=50)
    x = data.split("train").x
    e, (_, exact, _) = energy(x) / size**2, torus(K, size, size)
    assert abs(float(e.mean()) - exact) < 3 * float(e.std()) / n**0.5
    up = x.double().mean((1, 2, 3))
    assert abs(float(up.mean()) - 0.5) < 3 * float(up.std()) / n**0.5


def test_rows_and_columns_are_alike():
    """Rows come one after the other, columns at once; both have the same energy, within 3 standard errors."""
    s = 2 * IsingLattices(size=5, K=0.4, train=4_000).split("train").x[:, 0].double() - 1
    gap = (s * s.roll(-1, 1)).mean((1, 2)) - (s * s.roll(-1, 2)).mean((1, 2))
    assert abs(float(gap.mean())) < 3 * float(gap.std()) / len(s) ** 0.5
    seam = (s[:, 0] * s[:, -1]).mean(1) - (s[:, 0] * s[:, 1]).mean(1)
    assert abs(float(seam.mean())) < 3 * float(seam.std()) / len(s) ** 0.5


@pytest.mark.slow
def test_splits_and_options():
    sizes = {"train": 100, "val": 20, "test": 30}
    for size in (4, 11):
        data = IsingLattices(size=size, K=0.1, **sizes)
        test, val = data.split("test").x, data.split("val").x
        assert (test.shape, val.shape, test.dtype) == ((30, 1, size, size), (20, 1, size, size), torch.uint8)
        assert not torch.equal(val, test[:20])
        assert torch.equal(IsingLattices(size=size, K=0.1, **sizes).split("test").x, test)
        assert bool(data.understood()) == (size > 10)
    assert not torch.equal(IsingLattices(size=4, seed=1).split("val").x, IsingLattices(size=4).split("val").x)
    assert IsingLattices(size=4, K=0.0).entropy == pytest.approx(16 * 0.693147181, abs=1e-6)
