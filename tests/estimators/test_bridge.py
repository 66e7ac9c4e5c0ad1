"""Two-sided bridge sampling: Bennett's root and its error, and what annealed chains of both directions make of it."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise, normal
from replicas import replicas
from spins import Drawn, Ring, discrete, exact

from gencli.core.spec import Batch
from gencli.estimators.ais import AIS
from gencli.estimators.bridge import Bridge
from gencli.methods.bennett import bridged
from gencli.models.energy.reference import Reference

LOG_Z = 3.0


def work(n: int, m: int, spread: float, seed: int, rho: float = 0.0):
    """Normal log weights of both directions, (n,) and (m,), with Z = e^3; the first m of both correlate by rho."""
    a, b = normal(n, 1, seed)[:, 0], normal(m, 1, seed + 1_000_000)[:, 0]
    b = rho * a[:m] + math.sqrt(1 - rho * rho) * b if rho else b
    return LOG_Z - spread**2 / 2 + spread * a, LOG_Z + spread**2 / 2 + spread * b


@pytest.mark.parametrize(("n", "m", "rho"), [(200, 200, 0.0), (300, 100, 0.0), (200, 200, 0.9), (200, 200, -0.9)])
@pytest.mark.parametrize("spread", [0.3, 2.5])
def test_errors_cover_log_z_for_normal_work(n, m, rho, spread):
    """Of 300 problems 95 +- 3 percent; pairs that correlate are told as forward draws and their heirs."""
    covered, errors = 0, []
    for seed in range(300):
        forward, reverse = work(n, m, spread, seed, rho)
        found = bridged(forward, reverse, torch.arange(m) if rho else None)
        errors.append(found.log_z - LOG_Z)
        covered += abs(errors[-1]) < 1.96 * found.variance**0.5
    assert covered / 300 == pytest.approx(0.95, abs=0.03)
    assert abs(sum(errors) / 300) < 4 * torch.tensor(errors).std() / math.sqrt(300)


def test_the_root_where_it_is_known():
    """Equal weights: their value, with full overlap and no error; the same numbers in both directions: their middle."""
    found = bridged(torch.full((30,), 2.0).double(), torch.full((10,), 2.0).double())
    assert found.log_z == pytest.approx(2.0, abs=1e-12)
    assert found.variance == pytest.approx(0, abs=1e-12)
    assert found.overlap == pytest.approx(1.0)
    forward = normal(50, 1)[:, 0]
    assert bridged(forward, -forward + 2.0).log_z == pytest.approx(1.0, abs=1e-12)
    assert bridged(normal(50, 1)[:, 0] - 40, normal(50, 1)[:, 0] + 40).overlap < 1e-6


@pytest.mark.slow
def test_the_estimate_lies_between_the_bounds_and_says_what_it_is():
    """On average over 40 seeds of a rough path: the bounds are off by 2.5 standard errors or more, it by less."""
    model = Drawn(discrete("binary", 8), coupled=2.0)
    estimator = Bridge(base=lambda s: Reference(s, widen=2.0), chains=30, betas=2, collapse=False)
    x, truth = exact(model, 300), model.log_partition()
    away = []
    for seed in range(40):
        shared = estimator.prepare(model, Batch(x), noise(seed))
        found = shared.diagnostics
        away.append([found["log_z_forward"] - truth, shared.state - truth, found["log_z_reverse"] - truth])
    errors = torch.tensor(away)
    z = errors.mean(0) / errors.std(0) * math.sqrt(len(errors))
    assert z[0] < -2.5
    assert abs(float(z[1])) < 3
    assert z[2] > 2.5
    assert shared.bound == "estimate"
    assert found["log_z_gap"] == pytest.approx(found["log_z_reverse"] - found["log_z_forward"])
    assert 0.2 < found["overlap"] < 0.9
    assert "acceptance" not in found  # of sweeps nothing is refused
    far = Ring(discrete("binary", 8), scale=8.0)
    rough = Bridge(base=lambda s: Reference(s, widen=50.0), chains=20, betas=2, refresh=0)
    assert rough.prepare(far, Batch(exact(far, 300)), noise()).collapsed


@pytest.mark.slow
def test_half_the_error_of_ais_by_the_same_steps():
    """Root mean square errors over 100 estimates on a ring at strong coupling; their ratio is known to 10 percent."""
    model = Ring(discrete("binary", 10), scale=0.3, coupled=2.0)
    x, truth = exact(model, 1000), model.log_partition()
    options = {"base": lambda s: Reference(s, widen=1.2), "chains": 10_000, "betas": 8}
    plain, _, _ = replicas(AIS(**options), model, x, 100, 0)
    ais = plain.logsumexp(1) - math.log(plain.shape[1]) - truth
    pairs = zip(*replicas(Bridge(**options), model, x, 100, 20), strict=True)
    bridge = torch.tensor([bridged(*of).log_z - truth for of in pairs])
    assert float(bridge.square().mean()) < 0.5**2 * float(ais.square().mean())
