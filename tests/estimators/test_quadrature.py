"""Quadrature over parts that are narrow, far or heavy-tailed: within its tolerance of the truth, or not ``exact``."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise, normal, spec, wavy

from gencli.core.errors import RunFailed
from gencli.core.spec import Batch
from gencli.estimators.base import Shared
from gencli.estimators.partition import Quadrature
from gencli.methods import cubature
from gencli.models.base import Unnormalized
from gencli.models.classical.gmm import GMM

LEVEL = 1.5


class Hidden(Unnormalized):
    """A density whose constant and samples nobody knows: log Z = 1.5."""

    def __init__(self, density: GMM) -> None:
        super().__init__(density.spec)
        self.density = density

    def energy(self, x, y=None):
        return -self.density.log_prob(x) - LEVEL


class Student(Unnormalized):
    """E(x) = (nu + D) / 2 log(1 + |x|^2 / (nu s^2))."""

    def __init__(self, dim: int, nu: float, scale: float) -> None:
        super().__init__(spec(dim))
        self.nu, self.scale = nu, scale

    def energy(self, x, y=None):
        return 0.5 * (self.nu + self.spec.dim) * torch.log1p((x / self.scale).square().sum(1) / self.nu)

    def log_z(self) -> float:
        nu, D = self.nu, self.spec.dim
        gammas = math.lgamma(nu / 2) - math.lgamma((nu + D) / 2)
        return gammas + D / 2 * math.log(nu * math.pi) + D * math.log(self.scale)

    def draw(self, n: int):
        torch.manual_seed(0)
        chi2 = torch.distributions.Chi2(torch.tensor(self.nu, dtype=torch.float64)).sample((n, 1))
        return self.scale * normal(n, self.spec.dim) / (chi2 / self.nu).sqrt()


def two_parts(dim: int, at: float, std: float, weight: float = 0.5) -> GMM:
    """N(0, I), and N(at, std^2 I) of this weight, in fp64."""
    model = GMM(spec(dim), components=2, covariance="isotropic").double().eval()
    with torch.no_grad():
        model.logits.copy_(torch.tensor([1 - weight, weight]).log())
        model.normals.mean[1] = at
        model.normals.log_diagonal[1] = math.log(std)
    return model


def measured(model: Unnormalized, x, **options) -> Shared:
    return Quadrature(**options).prepare(model, Batch(x.detach()), noise())


def right(found: Shared, truth: float, tolerance: float = 1e-3) -> bool:
    """Whether the number is what it says it is."""
    return abs(found.state - truth) <= (tolerance if found.bound == "exact" else 3 * math.sqrt(found.variance))


PARTS = [(0.371, 1e-3), (0.371, 1e-4), (1e2, 1e-4), (1e4, 1.0), (1e6, 1e-2), (1e6, 1e4), (0.0, 1e6)]


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize(("at", "std"), PARTS)
def test_narrow_and_far_parts_are_found(at, std, dim):
    density = two_parts(dim, at, std)
    x = density.sample(500, noise=noise(5))
    for model, truth in ((density, 0.0), (Hidden(density), LEVEL)):
        found = measured(model, x)
        assert found.bound == "exact"
        assert right(found, truth)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize(("at", "std"), [(1e2, 1e-4), (1e6, 1e-2), (0.1, 1e-6)])
def test_what_fp32_cannot_resolve_is_not_called_exact(at, std, dim):
    density = two_parts(dim, at, std).float()
    try:
        found = measured(density, density.sample(500, noise=noise(5)))
    except RunFailed as error:
        assert "finer than the precision" in str(error)  # noqa: PT017
        return
    assert right(found, 0.0)


@pytest.mark.parametrize("weight", [0.002, 0.02])
def test_a_narrow_part_of_little_weight_is_found(weight):
    density = two_parts(1, 0.371, 1e-4, weight)
    assert right(measured(Hidden(density), density.sample(2000, noise=noise(5))), LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("nu", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_heavy_tails_are_followed(dim, nu, scale):
    model = Student(dim, nu, scale)
    found = measured(model, model.draw(500))
    assert found.bound == "exact"
    assert right(found, model.log_z())


def test_a_part_that_no_evidence_shows_contradicts_a_density():
    """Samples show it; where they do not, log Z of a density is known."""

    class Blind(GMM):
        def sample(self, n, y=None, *, noise, temperature=1.0):
            return noise.randn(n, self.spec.dim).double()

    model = two_parts(1, 50.0, 1e-3)
    model.__class__ = Blind
    found = measured(model, normal(500, 1))
    assert found.bound == "estimate"
    assert math.sqrt(found.variance) == pytest.approx(math.log(2), abs=1e-3)


def test_an_independent_estimate_that_disagrees_is_believed(monkeypatch):
    """Cells that see nothing of a narrow part: no points to start from, and no heights to hold against them."""
    density = two_parts(1, 0.371, 1e-6)
    monkeypatch.setattr(cubature, "MOST", 10_000)
    monkeypatch.setattr(cubature, "HEIGHT", 1e9)
    found = measured(Hidden(density), density.sample(1000, noise=noise(5)))
    assert found.bound == "estimate"
    assert found.diagnostics["log_z_check"] == pytest.approx(LEVEL, abs=0.1)
    assert right(found, LEVEL)


def test_a_budget_that_is_too_small_is_told():
    density = two_parts(2, 0.371, 1e-3)
    some = density.sample(500, noise=noise(5)).detach()
    points = torch.cat([some, cubature.around(some, noise(), 2048)[0]])
    f = Quadrature().log_density(density, points)
    mesh = cubature.Mesh(f, points, 1e-15)
    mesh.add(*cubature.grid(torch.zeros(2).double(), torch.full((2,), 8.0).double(), 4))
    before, spent = mesh.error, mesh.evaluations
    mesh.refine(1e-12, spent + 10_000)
    assert spent < mesh.evaluations <= spent + 10_000
    assert 1e-12 < mesh.error < before
    mesh.refine(1e-12, 2_000_000)
    assert mesh.error <= 1e-12
    assert abs(float(mesh.log_mass)) < 1e-6
    assert float(((2 * mesh.half).prod(1)).sum()) == pytest.approx(256)  # cells fill the box
    inside = (points.abs() <= 8).all(1)
    assert torch.equal(mesh.at >= 0, inside)
    at = mesh.at[inside]
    assert ((points[inside] - mesh.centre[at]).abs() <= mesh.half[at]).all()


@pytest.mark.slow
def test_draws_around_points_have_their_density():
    """1/q averages to the area of a box, whatever the points."""
    points = two_parts(2, 0.371, 1e-3).sample(300, noise=noise(5)).detach()
    x, log_q = cubature.around(points, noise(), 20_000)
    for half in (0.05, 2.0):
        inside = ((x - 0.371).abs() <= half).all(1)
        weights = torch.where(inside, (-log_q).exp(), 0.0)
        assert float(weights.mean()) == pytest.approx((2 * half) ** 2, abs=4 * float(weights.std()) / 20_000**0.5)


@pytest.mark.slow
def test_a_tolerance_that_the_network_does_not_allow_makes_an_estimate():
    found = measured(wavy(), normal(200, 2).float() * 1.5, tolerance=1e-9)
    assert found.bound == "estimate"
    assert 0 < math.sqrt(found.variance) < 1e-3
