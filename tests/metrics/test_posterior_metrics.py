"""Metrics of posteriors, of models that are the truth or off by a known amount."""

import pytest
import torch
from simulators import exact

from gencli.data.sets.simulator import Simulator
from gencli.data.sets.toys import Toy
from gencli.metrics.calibration import SBC, TARP
from gencli.metrics.excess_nll import ExcessNLL
from gencli.metrics.posterior_c2st import PosteriorC2ST, told_apart


def test_the_true_posterior_is_calibrated_and_one_too_narrow_is_not():
    for metric in (SBC(examples=100), TARP(examples=100)):
        right = metric.measure(exact("gaussian_linear", test=100))
        wrong = metric.measure(exact("gaussian_linear", test=100, wide=0.4))
        assert right.value < 2.5 * right.diagnostics["floor"]
        assert right.diagnostics["p_value"] > 1e-3
        assert wrong.value > right.value + 4 * right.se
        assert wrong.diagnostics["p_value"] < 1e-4
    assert wrong.diagnostics["bias"] < 0


@pytest.mark.slow
def test_two_samples_of_one_posterior_are_not_told_apart():
    task = exact("gaussian_mixture", test=2).dataset.task
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    one, other = (task.posterior(x, 400, torch.Generator().manual_seed(k)) for k in (0, 1))
    assert told_apart(one, other, 2, 1) == pytest.approx(0.5, abs=0.06)  # 3.4 binomial errors at 800 rows
    assert told_apart(one, other + 3, 2, 1) > 0.95


@pytest.mark.slow
def test_c2st_of_the_true_posterior_is_a_half_and_of_a_moved_one_more():
    right, wrong = (
        PosteriorC2ST(n=n, observations=2, folds=2).measure(exact("gaussian_mixture", shift=shift))
        for n, shift in ((250, 0.0), (100, 1.0))
    )
    assert right.value == pytest.approx(0.5, abs=0.05)  # 3.2 binomial errors at 1,000 rows
    assert wrong.value > 0.7
    assert wrong.se > 0


def test_excess_is_what_was_added_whatever_the_examples_are():
    found = ExcessNLL().measure(exact("gaussian_linear", offset=0.1))
    assert found.value == pytest.approx(0.1, abs=1e-6)
    assert found.se == pytest.approx(0, abs=1e-6)
    assert found.diagnostics["nll"] == pytest.approx(found.diagnostics["true_nll"] + 0.1, abs=1e-6)
    assert found.facts["says"] == "nats, exact"


def test_an_excess_is_called_the_bound_that_it_is(monkeypatch):
    subject = exact("gaussian_linear")
    monkeypatch.setattr(type(subject), "bound", "upper")
    found = ExcessNLL().measure(subject)
    assert found.facts == {"bound": "upper", "says": "nats, upper bound"}


def test_data_without_a_prior_or_a_density_are_refused():
    model = exact("slcp").model
    with pytest.raises(ValueError, match=r"metrics=\[sbc\] needs data=simulator"):
        SBC().check(Toy("moons"), model)
    with pytest.raises(ValueError, match=r"metrics=\[excess_nll\] needs data whose density is known"):
        ExcessNLL().check(Simulator("slcp"), model)
