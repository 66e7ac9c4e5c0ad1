"""Classes by Bayes' rule and by a model's own p(y | x): exact posteriors, priors, calibration, refusals."""

import math

import numpy as np
import pytest
import torch
from labelled import MEANS, Both, GivenClass, TwoNormals, known

from gencli.core.spec import Spec, Support
from gencli.data.split import TensorSplit
from gencli.metrics.classification import Classification, calibration
from gencli.models.bayes import bayes, log_posterior, prior_of

SHARES = {"train": 0.8, "test": 0.5}


def posterior(x, prior):
    """p(y = 1 | x) of two normals of one covariance, which is logistic in x."""
    w = MEANS[1] - MEANS[0]
    level = 0.5 * (MEANS[0].square().sum() - MEANS[1].square().sum()) + math.log(prior[1] / prior[0])
    return (x.double() @ w.double() + level).sigmoid()


@pytest.mark.parametrize(("kind", "prior"), [("training", (0.8, 0.2)), ("uniform", (0.5, 0.5))])
def test_two_normals_have_their_exact_posterior(kind, prior):
    subject = known(GivenClass(TwoNormals(SHARES).spec), TwoNormals(SHARES))
    batch = subject.split.gather(torch.arange(400))
    exact = posterior(batch.x, prior)
    found = log_posterior(subject, batch.x, prior_of(subject, kind)).exp()
    assert torch.allclose(found[:, 1], exact, atol=1e-5)
    assert torch.allclose(found.sum(1), torch.ones(400).double())
    measured = Classification(prior=kind).measure(subject)
    right = ((exact > 0.5) == (batch.y == 1)).double()
    nats = -torch.where(batch.y == 1, exact, 1 - exact).log()
    assert measured.value == pytest.approx(float(right.mean()))
    assert measured.diagnostics["nll_y"] == pytest.approx(float(nats.mean()), abs=1e-5)
    assert measured.diagnostics["se_nll_y"] == pytest.approx(float(nats.std()) / 20, abs=1e-5)
    assert measured.examples == 400


def test_the_order_of_classes_does_not_matter():
    data, swapped = TwoNormals(SHARES), TwoNormals(SHARES)
    swapped.splits = {name: TensorSplit(split.x, 1 - split.y) for name, split in data.splits.items()}
    one = Classification().measure(known(GivenClass(data.spec), data))
    other = Classification().measure(known(GivenClass(data.spec, MEANS.flip(0)), swapped))
    assert one.value == other.value
    assert one.diagnostics == pytest.approx(other.diagnostics)


def test_a_class_may_be_missing_in_a_split():
    data = TwoNormals({"train": 0.5, "test": 0.0})  # the test split has class 1 only
    measured = Classification().measure(known(GivenClass(data.spec), data))
    exact = posterior(data.split("test").x, (0.5, 0.5))
    assert measured.diagnostics["nll_y"] == pytest.approx(float(-exact.log().mean()), abs=1e-5)
    means = torch.cat([MEANS, torch.zeros(1, 2)])
    data = TwoNormals(SHARES, classes=3)  # class 2 was never seen: whatever p(x | 2) is, it is not taken
    measured = Classification().measure(known(GivenClass(data.spec, means), data))
    assert measured.value == Classification().measure(known(GivenClass(data.spec), TwoNormals(SHARES))).value
    assert measured.facts["says"] == "by Bayes' rule from NLLs (exact), no training example of classes 2"


def test_a_joint_energy_is_asked_itself_and_bounds_are_told():
    data = TwoNormals({"train": 0.8, "test": 0.8})
    own = Classification().measure(known(Both(data.spec, torch.tensor([0.8, 0.2])), data))
    bayesian = Classification().measure(known(GivenClass(data.spec), data, bounded="upper"))
    assert own.diagnostics == pytest.approx(bayesian.diagnostics, abs=1e-5)
    assert own.facts["says"] == "by its own p(y | x)"
    told = "by Bayes' rule from NLLs (upper bound), so that p(y | x) is an approximation"
    assert bayesian.facts["says"] == told
    exact = Classification().measure(known(GivenClass(data.spec), data))
    assert exact.facts["says"] == "by Bayes' rule from NLLs (exact)"
    few = Classification(examples=50).measure(known(GivenClass(data.spec), data))
    assert few.examples == 50


def test_bayes_rule_where_no_class_is_possible():
    with pytest.raises(ValueError, match="is 0, or no number, for every class at 1 of 2 examples"):
        bayes(torch.tensor([[0.0, 0.0], [-math.inf, -math.inf]]), torch.tensor([0.5, 0.5]))
    assert bayes(torch.tensor([[0.0, -math.inf]]), torch.tensor([0.5, 0.5])).exp().tolist() == [[1, 0]]


def test_calibration_of_right_and_of_overconfident_probabilities():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 4000)
    right = rng.random(4000) < p
    found = calibration(p, right, 15, np.random.default_rng(1))
    assert abs(found.value - found.floor) < 3 * found.se
    sharper = p**3 / (p**3 + (1 - p) ** 3)
    over = calibration(sharper, right, 15, np.random.default_rng(1))
    assert over.value - over.floor > 10 * over.se
    assert over.value == pytest.approx(float((sharper - p).mean()), abs=3 * over.se)  # every bin is too sure
    assert calibration(np.ones(50), np.ones(50), 15, rng).value == 0


def test_what_has_no_classes_is_refused():
    data = TwoNormals(SHARES)
    unlabelled = GivenClass(data.spec)
    unlabelled.conditional = False
    with pytest.raises(ValueError, match="this model was trained without labels"):
        Classification().check(data, unlabelled)
    with pytest.raises(ValueError, match=r"metrics.classification.prior=uniform: this model has a p\(y given x\)"):
        Classification(prior="uniform").check(data, Both(data.spec, torch.ones(2)))
    data.spec = Spec((2,), Support("real"))
    with pytest.raises(ValueError, match="data=two_normals has no labels"):
        Classification().check(data, unlabelled)
