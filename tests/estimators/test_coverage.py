"""Standard errors mean what they say: over many problems whose answer is known, 95 % lie within 1.96 of them.

The binomial deviation of a share of 95 % among 300 is 1.3 %; three points on either side are 2.4 of them.
"""

from __future__ import annotations

import math

import pytest
import torch
from energies import exact_samples, noise, normal, quadratic, spec
from estimates import SOURCE
from replicas import replicas
from spins import Ring, discrete, exact
from torch import Tensor

from gencli.core.spec import Batch
from gencli.estimators.ais import AIS
from gencli.estimators.base import Estimator, Shared
from gencli.estimators.bridge import Bridge
from gencli.estimators.partition import Importance
from gencli.estimators.smc import SMC
from gencli.methods import annealing
from gencli.methods.bennett import bridged
from gencli.methods.weights import weighed
from gencli.models.energy.exponential import Quadratic
from gencli.models.energy.reference import Reference
from gencli.run.record import nll_record
from gencli.run.scoring import Scores

PROBLEMS = 300


def problem(seed: int) -> tuple[Quadratic, Tensor, float]:
    """A random normal of the plane without its constant, examples, and log Z."""
    model = quadratic(2)
    with torch.no_grad():
        model.log_diagonal.copy_(0.4 * normal(2, 1, seed)[:, 0])
        model.b.copy_(normal(2, 1, seed + PROBLEMS)[:, 0])
    return model, exact_samples(model, 300, seed), float(model.log_partition().detach())


def base(widen: float):
    return lambda s: Reference(s, widen=widen).double()


ESTIMATORS: dict[str, Estimator] = {
    "importance": Importance(proposal=base(1.5), samples=500),
    "ais": AIS(base=base(1.5), chains=200, betas=4, leaps=1, reverse=False),
    "smc": SMC(base=base(1.5), chains=800, betas=4, leaps=1, populations=40),
}


def covered(errors: list[float], ses: list[float]) -> float:
    return sum(abs(error) < 1.96 * se for error, se in zip(errors, ses, strict=True)) / len(errors)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "problems", "off"), [("importance", 300, 0.03), ("ais", 70, 0.06), ("smc", 70, 0.06)])
def test_errors_of_log_z_cover_it(name, problems, off, monkeypatch):
    """The binomial deviation of 95 % among 70 is 2.6 %."""
    monkeypatch.setattr(annealing, "FIRST", 2)  # of the pilot, whose 20 steps make no error truer, but most of the work
    errors, ses = [], []
    for seed in range(problems):
        model, x, truth = problem(seed)
        shared = ESTIMATORS[name].prepare(model, Batch(x), noise(seed))
        assert not shared.collapsed
        errors.append(shared.state - truth)
        ses.append(math.sqrt(shared.variance))
    assert covered(errors, ses) == pytest.approx(0.95, abs=off)


def spins(support: str, dim: int):
    def problem_of(seed: int) -> tuple[Ring, Tensor, float]:
        model = Ring(discrete(support, dim), seed, scale=0.7)
        return model, exact(model, 300, seed), model.log_partition()

    return problem_of


SMALL = {
    "reals": (problem, {"base": base(1.5)}),
    "bits": (spins("binary", 8), {"base": lambda s: Reference(s, widen=1.5)}),
    "plain": (spins("binary", 8), {"base": lambda s: Reference(s, widen=1.5), "collapse": False}),
    "levels": (spins("levels:4", 4), {"base": lambda s: Reference(s, widen=1.5)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_errors_in_both_directions_cover_log_z(name):
    """Ten problems, twenty estimates of 100 chains each: of ``ais``, and of ``bridge`` from resampled ends.

    The binomial deviation of 95 % among 200 is 1.5 %.
    """
    of, options = SMALL[name]
    found: dict[str, list[tuple[float, float]]] = {"ais": [], "bridge": []}
    for seed in range(10):
        model, x, truth = of(seed)
        bridge = Bridge(chains=2000, betas=5, leaps=1, **options)
        for log_w, log_v, ancestors in zip(*replicas(bridge, model, x, 20, 15, 100 * seed), strict=True):
            ais, both = weighed(log_w), bridged(log_w, log_v, ancestors)
            found["ais"].append((ais.log_mean - truth, ais.variance**0.5))
            found["bridge"].append((both.log_z - truth, both.variance**0.5))
    for pairs in found.values():
        assert covered(*map(list, zip(*pairs, strict=True))) == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("shared", [0.0, 0.05])
def test_errors_of_means_cover_them(shared):
    """Rows of mean 1, and an error that all rows share."""
    errors, ses = [], []
    for seed in range(PROBLEMS):
        rows = 1 + normal(400, 1, seed)[:, 0] + shared * float(normal(1, 1, seed + PROBLEMS))
        record = nll_record(
            Scores(rows, {"model": rows}), shared=Shared("exact", variance=shared**2), spec=spec(1), **SOURCE
        )
        errors.append(record.value - 1)
        ses.append(record.se)
    assert covered(errors, ses) == pytest.approx(0.95, abs=0.03)
