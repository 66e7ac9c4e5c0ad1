"""Examples of other data by log p(x): the area under the curve, its error, scores of energies and of likelihoods."""

import math

import numpy as np
import pytest
import torch
from energies import normal
from labelled import Both, GivenClass, TwoNormals, known
from sklearn.metrics import roc_auc_score

from gencli.core.spec import Spec, Support
from gencli.data.split import TensorSplit
from gencli.metrics.ood import OutOfDistribution, auroc
from gencli.models.classical.gaussian import Gaussian
from gencli.models.trained import Learned, TrainedModel, TrainedRun


def of_two_normals(rng, n=300, d=1.0):
    return rng.normal(d, 1, n), rng.normal(0, 1, n)


def test_the_area_of_two_normals_is_the_closed_form():
    inside, outside = of_two_normals(np.random.default_rng(0), 2000)
    value, se = auroc(inside, outside)
    assert abs(value - 0.5 * (1 + math.erf(0.5))) < 3 * se  # Phi(d / sqrt 2)
    labels = np.repeat([1, 0], 2000)
    assert value == pytest.approx(roc_auc_score(labels, np.concatenate([inside, outside])))
    rounded = [part.round(1) for part in (inside, outside)]  # with ties
    assert auroc(*rounded)[0] == pytest.approx(roc_auc_score(labels, np.concatenate(rounded)))
    assert auroc(outside, inside) == pytest.approx((1 - value, se))


def test_the_error_of_the_area_is_its_spread():
    rng = np.random.default_rng(1)
    found = np.array([auroc(*of_two_normals(rng, 100)) for _ in range(300)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.12)  # 3 standard errors of a deviation of 300


def other(shift, shape=(2,)):
    data = TwoNormals({"test": 0.5}, shape=shape)
    data.splits = {"test": TensorSplit(normal(300, 2, seed=5).float() + shift)}
    return data


class Fixed(TrainedRun):
    """A standard normal as a run."""

    def open(self, spec):
        return TrainedModel(Gaussian(spec, covariance="isotropic").requires_grad_(False), Learned())

    def density(self, spec):
        raise AssertionError("its energy is enough")


def test_an_energy_ranks_as_its_density_does_whatever_its_normaliser_is():
    data = TwoNormals({"train": 0.5, "test": 0.5})
    model = Both(data.spec, torch.tensor([0.5, 0.5]))
    subject = known(model, data, others={"far": other(2.0)})
    found = OutOfDistribution(against="far", background=Fixed()).measure(subject)
    x, y = data.split("test").x, subject.data("far").split("test").x
    p, q = (-model.energy(part).double().numpy() for part in (x, y))
    assert found.value == pytest.approx(auroc(p, q)[0])
    assert found.se == pytest.approx(auroc(p, q)[1])
    centre = -model.energy(data.split("train").x).double().numpy().mean()
    assert found.diagnostics["typicality"] == pytest.approx(auroc(-abs(p - centre), -abs(q - centre))[0])
    ratio = [a + 0.5 * part.square().sum(1).double().numpy() for a, part in ((p, x), (q, y))]
    assert found.diagnostics["ratio"] == pytest.approx(auroc(*ratio)[0], abs=1e-4)
    assert found.facts["says"] == "by -E(x), which is log p(x) but for log Z"
    assert found.examples == 400


def test_a_likelihood_is_measured_and_named_by_its_bound():
    data = TwoNormals({"train": 0.5, "test": 0.5})
    model = Gaussian(data.spec, covariance="isotropic")
    subject = known(model, data, others={"far": other(3.0)}, bounded="upper")
    found = OutOfDistribution(against="far", examples=200).measure(subject)
    assert found.value > 0.9
    assert found.facts["says"] == "by -NLL (upper bound)"
    assert found.examples == 200
    assert "ratio" not in found.diagnostics


def test_other_spaces_and_other_models_are_refused():
    data = TwoNormals({"train": 0.5, "test": 0.5})
    with pytest.raises(ValueError, match=r"metrics.ood.against=NAME"):
        OutOfDistribution().check(data, Gaussian(data.spec))
    with pytest.raises(ValueError, match=r"needs a model of p\(x\)"):
        OutOfDistribution(against="far").check(data, GivenClass(data.spec))
    longer = other(0.0)
    longer.spec = Spec((3,), Support("real"))
    subject = known(Gaussian(data.spec), data, others={"longer": longer})
    with pytest.raises(
        ValueError, match=r"against=longer: its examples are real of shape \(3,\); this model's are real"
    ):
        OutOfDistribution(against="longer").measure(subject)
