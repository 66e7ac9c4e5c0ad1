"""Importance weights that say when their error is too small, and how a record and a comparison tell it."""

from __future__ import annotations

import math

import pytest
import torch
from energies import exact_samples, noise, normal, quadratic, spec
from estimates import SOURCE

from gencli.core.noise import RowNoise
from gencli.core.spec import Batch
from gencli.estimators.ais import AIS
from gencli.estimators.base import Shared
from gencli.estimators.iwae import IWAE
from gencli.estimators.partition import Importance
from gencli.estimators.smc import SMC
from gencli.methods.weights import pareto_k, weighed
from gencli.models.classical.ppca import PPCA
from gencli.models.energy.exponential import Quadratic
from gencli.models.energy.reference import Reference
from gencli.run.record import nll_record
from gencli.run.scoring import Scores


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9, 1.5])
def test_the_shape_of_a_pareto_tail_is_found(k):
    """w = u^-k. The estimate is a mean over some 950 tail weights: its deviation is about (1 + k) / sqrt(950)."""
    u = torch.rand(4, 100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert pareto_k(-k * u.log()).tolist() == pytest.approx([k] * 4, abs=4 * (1 + k) / math.sqrt(950))


def test_weights_without_a_tail_and_too_few_of_them():
    assert pareto_k(torch.zeros(3, 100)).tolist() == [0, 0, 0]
    assert pareto_k(torch.zeros(20)).isnan()
    few = weighed(torch.tensor([0.0, 0.1, -0.1, 0.05, 0.0, 0.2, -0.2, 0.1]).double())
    assert not few.collapsed
    assert "pareto_k" not in few.diagnostics
    assert weighed(torch.tensor([0.0, -9, -9, -9, -9, -9, -9, -9]).double()).collapsed


def wide(dim: int) -> Quadratic:
    """N(0, I) without its constant."""
    return Quadratic(spec(dim)).double()


def test_importance_weights_in_a_hundred_dimensions_say_that_they_collapsed():
    """They are nats off, far beyond the error that the delta method gives them."""
    model = wide(100)
    proposal = lambda s: Reference(s, covariance="diagonal", widen=1.5)  # noqa: E731
    shared = Importance(proposal=proposal, samples=5000).prepare(model, Batch(normal(2000, 100)), noise())
    off = shared.state - float(model.log_partition().detach())
    assert abs(off) > 1.5 * math.sqrt(shared.variance)
    assert shared.collapsed
    assert shared.diagnostics["pareto_k"] > 0.7


@pytest.mark.parametrize("kind", [AIS, SMC])
def test_few_steps_over_a_long_way_collapse_and_enough_of_them_do_not(kind):
    few = {"chains": 128, "betas": 2, "leaps": 1, "path": "geometric"}
    far = wide(30)
    base = lambda s: Reference(s, covariance="isotropic", widen=2.0)  # noqa: E731
    assert kind(base=base, **few).prepare(far, Batch(normal(500, 30)), noise()).collapsed
    near = quadratic(2)
    enough = {**few, "betas": 20, "leaps": 3}
    shared = kind(base=lambda s: Reference(s, widen=1.2), **enough).prepare(
        near, Batch(exact_samples(near, 500)), noise()
    )
    assert not shared.collapsed


def test_rows_with_collapsed_weights_are_counted():
    class Rough(PPCA):
        def log_weights(self, x, k, y=None, *, noise, inferred=None, through=None):
            log_w = super().log_weights(x, k, y, noise=noise, inferred=inferred, through=through)
            return log_w + 6 * (x[:, :1] > 0) * noise.randn(len(x), k).to(log_w)

    model = Rough(spec(2), latent=1)
    x = normal(60, 2).float()
    model.initialize(x)
    with torch.no_grad():
        found = IWAE(k=200).nll(model, Batch(x), RowNoise(0, torch.arange(60)), Shared("upper"))
    assert torch.equal(found.diagnostics["collapsed"] > 0, x[:, 0] > 0)


def record(variance: float = 0.0, collapsed: bool = False):
    nll = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    scores = Scores(nll, {"model": nll}, torch.zeros(4, dtype=torch.float64))
    shared = Shared("lower", variance=variance, collapsed=collapsed)
    return nll_record(scores, shared=shared, spec=spec(2), **SOURCE)


def test_one_error_is_made_of_its_parts_and_says_when_it_is_a_lower_limit():
    spread = math.sqrt(5 / 3 / 4)
    assert record().se == pytest.approx(spread)
    found = record(variance=0.25)
    assert found.se == pytest.approx(math.hypot(spread, 0.5))
    assert f"± {found.se:.3f} nats" in found.headline
    assert "se_lower_limits" not in found.plain()
    found = record(variance=0.25, collapsed=True)
    assert f"± {found.se:.3f} at least nats" in found.headline
    assert "importance weights collapsed" in found.headline
    assert found.plain()["se_lower_limits"] == ["se_estimator", "se_shared"]
    of_rows = nll_record(
        Scores(torch.ones(4), {"model": torch.ones(4)}, torch.ones(4), {"collapsed": torch.tensor([1.0, 0, 0, 0])}),
        shared=Shared("upper"),
        spec=spec(2),
        **SOURCE,
    )
    assert of_rows.se_lower_limits == ["se_estimator"]
    assert "at least" not in of_rows.headline
