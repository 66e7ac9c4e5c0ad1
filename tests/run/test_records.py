"""The result record: units, bounds, errors, and no example dropped."""

import math

import pytest
import torch

from gencli.core.spec import Spec, Support
from gencli.run.record import bits_per_dim, composed_bound, headline, nll_record

SPEC = Spec((1, 8, 8), Support.parse("levels:256"))


def record(nll, **changes):
    options = {
        "nll": nll,
        "variance": None,
        "terms": {"model": nll},
        "diagnostics": {},
        "spec": SPEC,
        "bound": "exact",
        "entropy": None,
        "split": "test",
        "protocol": {"support": "levels:256"},
    }
    return nll_record(**(options | changes))


def test_uniform_on_256_levels_is_eight_bits():
    assert bits_per_dim(64 * math.log(256), 64) == pytest.approx(8, abs=1e-12)


def test_standard_errors():
    nll = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    r = record(nll, variance=torch.full((4,), 0.04, dtype=torch.float64))
    assert r["value"] == 2.5
    assert r["se_examples"] == pytest.approx(math.sqrt(5 / 3 / 4))
    assert r["se_estimator"] == pytest.approx(0.1)  # sqrt(4 * 0.04) / 4


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_non_finite_example_makes_the_value_infinite(bad):
    r = record(torch.tensor([1.0, bad, 2.0], dtype=torch.float64))
    assert r["value"] == math.inf
    assert r["n_nonfinite"] == 1
    assert r["n_examples"] == 3


def test_bounds_compose():
    assert composed_bound("exact", "exact") == "exact"
    assert composed_bound("exact", "upper") == "upper"
    assert composed_bound("upper", "upper") == "upper"
    assert composed_bound("lower", "exact") == "lower"
    assert composed_bound("lower", "upper") == "estimate"
    assert composed_bound("estimate", "upper") == "estimate"


def test_a_bound_is_called_a_bound():
    nll = torch.ones(3, dtype=torch.float64)
    assert "upper bound" in headline(record(nll, bound="upper"))
    assert "<=" in headline(record(nll, bound="upper"))
    assert "exact" in headline(record(nll))


def test_entropy_gives_the_divergence():
    r = record(torch.full((5,), 3.0, dtype=torch.float64), entropy=2.5)
    assert r["diagnostics"]["nll_minus_entropy"] == pytest.approx(0.5)
    assert "NLL - H = 0.5" in headline(r)
