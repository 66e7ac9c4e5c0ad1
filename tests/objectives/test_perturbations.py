"""Perturbations of discrete x against the matrices of their laws, and energy discrepancy by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise, spec
from enumerable import Pairs, discrete, states
from torch import Tensor

from gencli.core.spec import Batch, Spec, Support
from gencli.objectives.base import Drift
from gencli.objectives.energy.discrete_perturbations import (
    Bernoulli,
    Diffusion,
    Grid,
    Shuffling,
    Uniform,
    few,
    heat,
    windows,
)
from gencli.objectives.energy.energy_discrepancy import OF_KIND, EnergyDiscrepancy


def each(Q: Tensor, dim: int) -> Tensor:
    """The law of independent coordinates, (K^D, K^D), of that of one, (K, K)."""
    whole = Q
    for _ in range(dim - 1):
        whole = torch.kron(whole, Q)
    return whole


def neighbours(x: Tensor) -> Tensor:
    """One coordinate, each as likely, takes another value: the matrix of states x (n, D)."""
    one = ((x[:, None] != x).sum(2) == 1).double()
    return one / one.sum(1, keepdim=True)


def shuffled(x: Tensor) -> Tensor:
    """Any order of the two values of each window: the matrix of states x (n, D)."""
    alike = torch.ones(len(x), len(x), dtype=torch.bool)
    for pair in x.split(2, 1):
        alike &= (pair.sort(1).values[:, None] == pair.sort(1).values).all(2)
    return alike / alike.sum(1, keepdim=True).double()


def redrawn(K: int, epsilon: float) -> Tensor:
    return (1 - epsilon) * torch.eye(K, dtype=torch.float64) + epsilon / K


FLIP = torch.tensor([[0.7, 0.3], [0.3, 0.7]], dtype=torch.float64)

# name: support, dimension, the perturbation, and its q(y | x) as a matrix of states
LAWS = {
    "bernoulli": ("binary", 3, Bernoulli(epsilon=0.3), lambda x: each(FLIP, 3)),
    "uniform": ("categorical:3", 2, Uniform(values=3, epsilon=0.4), lambda x: each(redrawn(3, 0.4), 2)),
    "ordinal": ("levels:3", 2, Diffusion(values=3, t=0.05), lambda x: each(heat(3, 0.05, "line"), 2)),
    "cyclic": ("levels:4", 2, Diffusion(values=4, t=0.04, neighbours="ring"), lambda x: each(heat(4, 0.04, "ring"), 2)),
    "grid_of_bits": ("binary", 3, Grid(values=2), neighbours),
    "grid_of_values": ("categorical:3", 2, Grid(values=3), neighbours),
    "pooling_of_bits": ("binary", 3, Shuffling(), shuffled),
    "pooling_of_values": ("levels:3", 3, Shuffling(), shuffled),
}


def number(x: Tensor, values: int) -> Tensor:
    """The place of x (*, D) among the states."""
    return (x.long() * values ** torch.arange(x.shape[-1] - 1, -1, -1)).sum(-1)


@pytest.mark.parametrize("name", LAWS)
def test_two_points_share_one_perturbation(name):
    """The joint law of x'_1 and x'_2 given x is sum_y q(y | x) q(x'_1 | y) q(x'_2 | y); q is symmetric."""
    text, dim, perturbation, law = LAWS[name]
    x = states(discrete(text, dim))
    Q, S, n = law(x), len(x), 20_000
    assert torch.allclose(Q, Q.T)
    assert torch.allclose(Q.sum(1), torch.ones(S).double())
    at = S // 3 + 1
    others, rho = perturbation.draw(x[at].expand(n, dim), 2, noise(1))
    assert rho is None
    assert others.dtype == x.dtype
    first, second = number(others, discrete(text, dim).support.size).unbind(1)
    seen = torch.bincount(first * S + second, minlength=S * S).double()
    expected = n * torch.einsum("y,ya,yb->ab", Q[at], Q, Q).flatten()
    assert not seen[expected < 1e-9].any()
    often = expected > 5
    chi = ((seen - expected).square() / expected)[often].sum()
    cells = int(often.sum())
    assert abs(float(chi) - cells) < 4 * math.sqrt(2 * cells) + 4


@pytest.mark.parametrize("neighbours", ["line", "ring"])
def test_heat_on_the_values(neighbours):
    """A semigroup of symmetric matrices that ends uniform; on many values it has the variance 2t of a length of 1."""
    for K in (2, 3, 7):
        P = heat(K, 0.02, neighbours)
        assert torch.allclose(P @ P, heat(K, 0.04, neighbours))
        assert torch.allclose(P, P.T)
        assert float(P.min()) > 0
        assert torch.allclose(P.sum(1), torch.ones(K).double())
        assert torch.allclose(heat(K, 50.0, neighbours), torch.full((K, K), 1 / K).double())
    assert torch.allclose(heat(2, 0.1, neighbours)[0, 1], torch.tensor((1 - math.exp(-2 * 0.1 * 4)) / 2).double())
    K = 201
    steps = (torch.arange(K) - 100).double() / K
    assert float((heat(K, 1e-3, neighbours)[100] * steps.square()).sum()) == pytest.approx(2e-3, rel=1e-3)


def test_windows_of_images_are_squares_of_one_channel():
    number = windows((2, 3, 5)).view(2, 3, 5)
    assert number.unique().numel() == 2 * 2 * 3
    for channel in (0, 1):
        assert torch.equal(number[channel, :2, :2], number[channel, 0, 0].expand(2, 2))
    x = torch.arange(2 * 3 * 5).view(1, 2, 3, 5)
    others, _ = Shuffling().draw(x.expand(50, -1, -1, -1), 4, noise())
    assert torch.equal(windows((2, 3, 5))[others.flatten(2)], windows((2, 3, 5)).expand(50, 4, -1))
    assert (others != x[:, None]).any()


def exact(model: Pairs, Q: Tensor) -> Tensor:
    """sum_y q(y | x) log sum_x' q(x' | y) exp(E(x) - E(x')) of every state: the loss for endless samples."""
    e = model.energy(states(model.spec)).detach()
    return e + Q @ (Q.log() - e).logsumexp(1)


@pytest.mark.parametrize("name", LAWS)
def test_many_samples_are_the_energy_discrepancy(name):
    text, dim, perturbation, law = LAWS[name]
    model = Pairs(discrete(text, dim))
    x = states(model.spec)
    objective = EnergyDiscrepancy(model.spec, samples=500, w=0.0)
    objective.perturbation = perturbation
    copies = 40
    rows = objective.score(model, Batch(x.repeat(copies, 1)), noise()).view(copies, -1)
    error = rows.std(0) / math.sqrt(copies)
    assert (
        (rows.mean(0) - exact(model, law(x))).abs() < 4.5 * error + 5e-3
    ).all()  # and the bias of a logarithm, of order 1/M


def test_limits_of_flipped_bits():
    """epsilon = 1/2: the NLL; epsilon -> 0: sum over neighbours of r - 1 + log r, with r = p(neighbour) / p(x)."""
    model = Pairs(discrete("binary", 4))
    x = states(model.spec)
    half = torch.full((2, 2), 0.5, dtype=torch.float64)
    nll = -model.log_p().detach()
    assert torch.allclose(exact(model, each(half, 4)), nll - 4 * math.log(2))
    objective = EnergyDiscrepancy(model.spec, epsilon=0.5, samples=20_000, w=0.0)
    rows = objective.score(model, Batch(x), noise())
    assert ((rows - nll + 4 * math.log(2)).abs() < 0.05).all()

    epsilon = 1e-5
    flip = torch.tensor([[1 - epsilon, epsilon], [epsilon, 1 - epsilon]], dtype=torch.float64)
    log_r = -model.changes(x, torch.arange(4)).detach().sum(2)
    limit = (log_r.exp() - 1 + log_r).sum(1)
    assert torch.allclose(exact(model, each(flip, 4)) / epsilon, limit, rtol=1e-3, atol=1e-3)


class Pull(Drift):
    """b(x) = -x."""

    def __call__(self, x):
        return -x


@pytest.mark.parametrize("name", OF_KIND)
def test_every_support_has_its_perturbations(name):
    """The first is the default; all the others are refused in one line that names those there are."""
    support = Support(name, {"binary": 2, "levels": 5, "categorical": 5}.get(name))
    here = Spec((6,), support)
    for chosen in {p for names in OF_KIND.values() for p in names}:
        if chosen in OF_KIND[name]:
            EnergyDiscrepancy(here, perturbation=chosen, drift=Pull() if chosen == "diffusion" else None)
            continue
        with pytest.raises(ValueError, match=rf"^objective\.perturbation={chosen}: .* {OF_KIND[name][0]}"):
            EnergyDiscrepancy(here, perturbation=chosen)
    default, named = EnergyDiscrepancy(here), EnergyDiscrepancy(here, perturbation=OF_KIND[name][0])
    assert default.perturbation == named.perturbation
    assert default.samples == (32 if support.discrete else 4)


def test_options_that_a_perturbation_has_not():
    with pytest.raises(ValueError, match=r"^objective\.t=0\.5: objective\.perturbation=bernoulli has none"):
        EnergyDiscrepancy(discrete("binary", 4), t=0.5)
    with pytest.raises(ValueError, match=r"^objective\.epsilon=0\.5: objective\.perturbation=gaussian has none"):
        EnergyDiscrepancy(spec(4), epsilon=0.5)
    with pytest.raises(ValueError, match=r"^objective\.perturbation=ordinal: of 1024 values at most"):
        EnergyDiscrepancy(discrete("levels:65536", 4))
    with pytest.raises(ValueError, match="mixed"):
        EnergyDiscrepancy(Spec((2,), Support.of_columns([Support("real"), Support("binary", 2)])))
    assert few(32, 0.1) == 0.1
    assert few(784, 0.1) == pytest.approx(0.005, rel=0.03)  # as published for both
