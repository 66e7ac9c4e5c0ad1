"""The result record: units, bounds, errors, and no example dropped."""

import dataclasses
import math

import pytest
import torch
from estimates import SOURCE

from gencli.core.spec import Spec, Support
from gencli.estimators.base import Shared
from gencli.run.record import MetricRecord, NLLRecord, bits_per_dim, composed_bound, nll_record
from gencli.run.scoring import Scores

SPEC = Spec((1, 8, 8), Support.parse("levels:256"))


def record(nll, variance=None, bound="exact", **options):
    return nll_record(Scores(nll, {"model": nll}, variance), shared=Shared(bound), spec=SPEC, **SOURCE, **options)


def test_uniform_on_256_levels_is_eight_bits():
    assert bits_per_dim(64 * math.log(256), 64) == pytest.approx(8, abs=1e-12)


def test_standard_errors():
    nll = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    r = record(nll, variance=torch.full((4,), 0.04, dtype=torch.float64))
    assert r.value == 2.5
    assert r.se_examples == pytest.approx(math.sqrt(5 / 3 / 4))
    assert r.se_estimator == pytest.approx(0.1)  # sqrt(4 * 0.04) / 4


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_non_finite_example_makes_the_value_infinite(bad):
    r = record(torch.tensor([1.0, bad, 2.0], dtype=torch.float64))
    assert r.value == math.inf
    assert r.n_nonfinite == 1
    assert r.n_examples == 3


def test_bounds_compose():
    assert composed_bound("exact", "exact") == "exact"
    assert composed_bound("exact", "upper") == "upper"
    assert composed_bound("upper", "upper") == "upper"
    assert composed_bound("lower", "exact") == "lower"
    assert composed_bound("lower", "upper") == "estimate"
    assert composed_bound("estimate", "upper") == "estimate"


def test_a_bound_is_called_a_bound():
    nll = torch.ones(3, dtype=torch.float64)
    assert "upper bound" in record(nll, bound="upper").headline
    assert "<=" in record(nll, bound="upper").headline
    assert "exact" in record(nll).headline


def test_flags_stand_in_the_headline_and_are_left_out_where_there_are_none():
    nll = torch.arange(1.0, 7.0, dtype=torch.float64)
    r = record(nll, bound="upper", flags=["unbounded likelihood"])
    assert r.headline.endswith("upper bound; unbounded likelihood)")
    assert r.plain()["flags"] == ["unbounded likelihood"]
    assert "flags" not in record(nll).plain()


@pytest.mark.parametrize("counts", [None, torch.full((40,), 64)])
def test_rows_that_are_all_equal_tell_no_error(counts):
    """As those of a fresh model of bits: ± 0.000 would say that the number is sure."""
    r = record(torch.full((40,), 64 * math.log(2), dtype=torch.float64), counts=counts, per="char")
    assert r.se_examples is None
    assert r.flags == ["no error: all 40 rows are equal"]
    assert "±" not in r.headline


def test_a_number_beyond_all_nlls_is_told_by_its_size():
    r = record(torch.linspace(1e60, 2e60, 8, dtype=torch.float64), counts=torch.ones(8), per="char")
    assert "NLL = 1.500e+60 ± " in r.headline
    assert len(r.headline) < 160


def test_entropy_gives_the_divergence():
    r = record(torch.full((5,), 3.0, dtype=torch.float64), entropy=2.5)
    assert r.diagnostics["nll_minus_entropy"] == pytest.approx(0.5)
    assert "NLL - H = 0.5" in r.headline


@pytest.mark.parametrize("kind", [NLLRecord, MetricRecord])
def test_the_keys_of_a_file_are_the_fields_of_its_record(kind):
    assert sorted(kind.KEYS.split()) == sorted(field.name for field in dataclasses.fields(kind))


def test_symbols_are_counted_where_there_are_any():
    nll = torch.ones(4, dtype=torch.float64)
    assert "n_symbols" not in record(nll).plain()
    text = record(nll, counts=torch.tensor([1, 2, 3, 4]), per="char").plain()
    assert text["n_symbols"] == 10
    assert text["value"] == pytest.approx(0.4)
    assert list(text) == [
        key for key in NLLRecord.KEYS.split() if key not in ("n_split", "n_seen", "se_lower_limits", "classes")
    ]
    assert (text["se_blocks"], text["flags"]) == (2, ["error from 2 blocks only"])


def test_a_value_that_cannot_be_is_no_bound():
    nll = torch.tensor([-3.0, -2.0, -3.5, -2.5, -3.0, -2.5], dtype=torch.float64)
    for bound in ("exact", "upper"):
        r = record(nll, bound=bound)
        assert (r.bound, r.flags) == ("estimate", ["no bound: an NLL of integers is not negative"])
        assert "no bound" in r.headline
    reals = Spec((2,), Support("real"))
    for entropy, split, flagged in ((0.0, "test", True), (-3.0, "test", False), (0.0, "train", False)):
        options = SOURCE | {"split": split}
        r = nll_record(Scores(nll, {"model": nll}), shared=Shared("exact"), spec=reals, entropy=entropy, **options)
        assert (r.bound, bool(r.flags)) == (("estimate", True) if flagged else ("exact", False))
    assert record(nll, bound="lower").flags == []  # a lower bound may be anything
    assert record(nll, bound="estimate").flags[0] == "cannot be: an NLL of integers is not negative"
    assert record(torch.linspace(-2e-4, 0, 6, dtype=torch.float64)).flags == []  # a rounding error
