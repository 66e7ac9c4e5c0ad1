"""Metrics in the features of a network: of a classifier that is trained here, and of torch-fidelity's."""

import math
import sys
import types

import pytest
import torch
from clouds import Data, draw, samples
from torch import nn

from gencli.core.spec import Batch, Spec, Support
from gencli.core.torchvision_compat import torchvision
from gencli.data.sets.toys import Toy
from gencli.data.split import TensorSplit
from gencli.metrics.base import Samples
from gencli.metrics.classifier import ClassifierFrechet, ClassifierMMD, LabelAccuracy, fit, trained
from gencli.metrics.fidelity import FID, KID
from gencli.metrics.frechet import between, frechet_distance, jackknife


def test_frechet_distance_of_known_gaussians():
    a, b = torch.diag(torch.tensor([1.0, 4.0, 0.0])).double(), torch.diag(torch.tensor([9.0, 1.0, 2.0])).double()
    shift = torch.tensor([1.0, 0.0, -2.0]).double()
    exact = 5 + (1 - 3) ** 2 + (2 - 1) ** 2 + 2  # commuting covariances: |shift|^2 + sum (sqrt a - sqrt b)^2
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    turned = frechet_distance(torch.zeros(3).double(), turn @ a @ turn.T, turn @ shift, turn @ b @ turn.T)
    assert turned == pytest.approx(exact, rel=1e-6)  # the root of a singular covariance
    assert frechet_distance(shift, a, shift, a) == pytest.approx(0, abs=1e-6)


def test_the_jackknife_is_the_spread_of_the_frechet_distance():
    pairs = [(draw(500, s, shift=0.5, dim=4), draw(500, 500 + s, scale=1.5, dim=4)) for s in range(80)]
    values = torch.tensor([between(f, g) for f, g in pairs])
    errors = torch.tensor([jackknife(f, g) for f, g in pairs[:20]])
    assert float(values.std() / errors.mean()) == pytest.approx(1, abs=4 / math.sqrt(2 * 79))


DIGITS = Spec((1, 8, 8), Support.parse("levels:17"), classes=10)


STEPS = 150


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture
def digits(cache, monkeypatch):
    from gencli.data.sets.digits import Digits

    monkeypatch.setattr("gencli.metrics.classifier.cache_folder", lambda: cache)
    return Digits()


def of(dataset, x, y=None, seed=0):
    test = dataset.split("test")
    return Samples(x, y, Batch(test.x, test.y), dataset, seed)


@pytest.mark.slow
def test_the_classifier_is_learnt_once_and_the_same(digits, cache, monkeypatch):
    cpu, test = torch.device("cpu"), digits.split("test")
    model = trained(digits, "train", STEPS, 0, cpu)
    accuracy = float((model(test.x).argmax(1) == test.y).float().mean())
    assert accuracy > 0.9
    (file,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("gencli.metrics.classifier.fit", lambda *_: pytest.fail("trained again"))
        again = trained(digits, "train", STEPS, 0, cpu)
    assert torch.equal(again.features(test.x), model.features(test.x))
    features = model.features(digits.split("train").x).detach()
    assert float(features.var(0).sum()) == pytest.approx(64, rel=1e-3)
    file.write_bytes(b"damaged")
    state = torch.random.get_rng_state()
    anew = trained(digits, "train", STEPS, 0, cpu)
    assert torch.equal(anew.features(test.x), model.features(test.x))  # the seed decides, and nothing global is drawn
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
def test_classifier_distances_tell_digits_from_noise_and_from_a_lost_class(digits):
    val, test = digits.split("val"), digits.split("test")
    noise = torch.randint(0, 17, val.x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    frechet, mmd = ClassifierFrechet(steps=STEPS), ClassifierMMD(steps=STEPS, permutations=50)
    near = [metric.measure(of(digits, val.x)) for metric in (frechet, mmd)]
    far = [metric.measure(of(digits, noise)) for metric in (frechet, mmd)]
    lost = [metric.measure(of(digits, val.x[val.y > 2])) for metric in (frechet, mmd)]
    for exact, missing, wrong in zip(near, lost, far, strict=True):
        assert wrong.value > missing.value > exact.value
        assert wrong.value - exact.value > 5 * math.hypot(wrong.se, exact.se)
    assert near[0].value < 2 * near[0].diagnostics["floor"]
    assert near[1].diagnostics["p_value"] > 0.01
    assert far[1].diagnostics["p_value"] < 0.05
    assert near[0].diagnostics["classifier_accuracy"] > 0.9
    own = label_accuracy(digits, test.x, test.y)
    assert own.value == own.diagnostics["classifier_accuracy"]
    assert label_accuracy(digits, test.x, (test.y + 1) % 10).value < 0.05


def label_accuracy(dataset, x, y):
    return LabelAccuracy(steps=STEPS).measure(of(dataset, x, y))


def test_what_the_classifier_needs():
    plain = types.SimpleNamespace(conditional=False)
    with pytest.raises(ValueError, match="data=moons has no labels"):
        ClassifierFrechet().check(Toy("moons"), plain)
    with pytest.raises(ValueError, match="trained without labels"):
        LabelAccuracy().check(Data(DIGITS), plain)
    with pytest.raises(ValueError, match="no split val"):
        trained(Data(DIGITS), "val", 10, 0, torch.device("cpu"))


def test_vectors_have_a_classifier_too():
    spec = Spec((3,), Support.parse("real"), classes=2)
    y = torch.arange(400) % 2
    x = draw(400, 0, dim=3) * 1e-3 + 1e-2 * y[:, None] + 5  # a scale that only standardised inputs can learn from
    model = fit(spec, TensorSplit(x, y), 100, 0, torch.device("cpu"))
    assert float((model(x).argmax(1) == y).float().mean()) > 0.97


def images(n, seed):
    return torch.randint(0, 17, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_without_torch_fidelity_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r"pip install gencli-nll\[fid\]"):
        FID().check(Data(DIGITS), None)
    with pytest.raises(ValueError, match="needs images"):
        FID().check(Toy("moons"), None)
    with pytest.raises(ValueError, match=r"metrics\.kid\.weights=/nowhere"):
        KID(weights="/nowhere")


def test_what_torch_fidelity_gets(monkeypatch):
    calls = []

    def calculate_metrics(input1, input2, **options):
        calls.append((input1, input2, options))
        if options.get("fid"):
            return {"frechet_inception_distance": 3.5}
        return {"kernel_inception_distance_mean": 0.25, "kernel_inception_distance_std": 0.5}

    monkeypatch.setitem(sys.modules, "torch_fidelity", types.SimpleNamespace(calculate_metrics=calculate_metrics))
    both = samples(images(20, 0), images(30, 1), spec=DIGITS)
    FID().check(both.dataset, None)
    assert FID().measure(both).value == 3.5
    kid = KID(subsets=3, subset_size=10).measure(both)
    assert (kid.value, kid.diagnostics) == (0.25, {"deviation": 0.5})
    first, second, options = calls[0]
    assert (len(first), len(second)) == (20, 30)
    assert (first[0].shape, first[0].dtype) == ((3, 8, 8), torch.uint8)
    assert int(first[0][2, 0, 0]) == round(int(both.x[0, 0, 0, 0]) / 16 * 255)
    assert options["feature_extractor"] == "inception-v3-compat"
    with pytest.raises(ValueError, match=r"metrics\.kid\.subset_size=1000: there are 20"):
        KID().measure(both)


def test_torch_fidelity_with_a_network_of_ones_own():
    """The FID of an extractor that gives mean colours is the Fréchet distance of mean colours."""
    torchvision("transforms.functional")
    fidelity = pytest.importorskip("torch_fidelity", reason="the extra fid is not installed")
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Mean(FeatureExtractorBase):
        def __init__(self, name, features_list, **options):
            super().__init__(name, features_list)
            self.layer = nn.Identity()

        get_provided_features_list = staticmethod(lambda: ("mean",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "mean")
        can_be_compiled = staticmethod(lambda: True)
        get_dummy_input_for_compile = staticmethod(lambda: torch.zeros(1, 3, 8, 8, dtype=torch.uint8))

        def forward(self, x):
            return (x.float().mean(2)[:, 0, :4],)

    fidelity.register_feature_extractor("gencli-test-mean", Mean)
    both = samples(images(300, 0) // 2, images(400, 1), spec=DIGITS)
    means = [
        Mean("m", ["mean"])(both.dataset.to_image(x).mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1))[0]
        for x in (both.x, both.reference.x)
    ]
    found = FID(network="gencli-test-mean").measure(both)
    assert found.value == pytest.approx(between(*means), rel=1e-4)
    assert KID(network="gencli-test-mean", subsets=4, subset_size=50).measure(both).value > 0
    with pytest.raises(ValueError, match="network=nope"):
        FID(network="nope").measure(both)
