"""Metrics on samples against closed forms, slow double loops and their own nulls; none opens the training split."""

import math
import sys
import types

import pytest
import torch
from torch import nn

from gencli.core.spec import Batch, Spec, Support
from gencli.core.torchvision_compat import torchvision
from gencli.data.base import Dataset
from gencli.data.sets.toys import GENERATORS, MODES, Toy
from gencli.data.split import TensorSplit
from gencli.metrics.base import Samples, scaled, squared_distances
from gencli.metrics.c2st import C2ST
from gencli.metrics.classifier import ClassifierFrechet, ClassifierMMD, LabelAccuracy, fit, trained
from gencli.metrics.fidelity import FID, KID
from gencli.metrics.frechet import between, frechet_distance, jackknife
from gencli.metrics.mmd import MMD, median_distance, two_sample
from gencli.metrics.modes import Modes
from gencli.metrics.precision_recall import PrecisionRecall
from gencli.metrics.sliced_wasserstein import SlicedWasserstein, sliced
from gencli.models.base import DirectSampling

REAL = Spec((2,), Support.parse("real"))


class Data(Dataset):
    """Held-out examples only: to ask for the training split is an error."""

    name = "data"

    def __init__(self, spec, test=None, modes=None, train=None):
        self.spec, self.test, self.modes, self.train = spec, test, modes, train

    def split(self, name):
        if name == "train" and self.train is None:
            raise AssertionError("a metric opened the training split")
        return {"train": self.train, "test": self.test}.get(name)

    def to_image(self, x):
        return x.float() / (self.spec.support.levels - 1) if self.spec.kind == "image" else None


def draw(n, seed, shift=0.0, scale=1.0, dim=2):
    return shift + scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def samples(x, reference, seed=0, spec=None, **data):
    return Samples(x, None, Batch(reference), Data(spec or Spec(x.shape[1:], REAL.support), **data), seed)


class Raw(Samples):
    """Reals as they are: closed forms are in the data's own unit."""

    shown = property(lambda self: (self.x, self.reference.x))


def raw(x, reference, seed=0):
    return Raw(x, None, Batch(reference), Data(REAL), seed)


# --- the space of comparison -----------------------------------------------------------------------------------------


def test_examples_compare_as_they_are_shown():
    x = torch.tensor([[[[0, 16], [8, 4]]]], dtype=torch.uint8)
    assert scaled(x, Spec((1, 2, 2), Support.parse("levels:17"))).tolist() == [[0, 1, 0.5, 0.25]]
    assert scaled(torch.tensor([[0, 1]], dtype=torch.uint8), Spec((2,), Support.parse("binary"))).tolist() == [[0, 1]]
    symbols = scaled(torch.tensor([[0, 2], [1, 2]]), Spec((2,), Support.parse("categorical:3")))
    assert squared_distances(symbols, symbols).allclose(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=1e-6)


def test_reals_are_standardised_by_the_reference():
    reference = torch.tensor([3.0, 5.0]) + torch.tensor([2.0, 0.0]) * draw(500, 0)
    x, shown = samples(reference[:10] + 1, reference).shown
    assert shown.mean(0).allclose(torch.zeros(2), atol=1e-5)
    assert float(shown[:, 0].std()) == pytest.approx(1, abs=1e-5)
    assert x[:, 1].tolist() == [1.0] * 10  # a constant coordinate keeps its unit


@pytest.mark.parametrize("dim", [2, 40])
def test_distances(dim):
    a, b = draw(30, 0, dim=dim), draw(40, 1, dim=dim)
    assert squared_distances(a, b).sqrt().allclose(torch.cdist(a.double(), b.double()).float(), atol=1e-4)


# --- MMD -------------------------------------------------------------------------------------------------------------


def gauss(a, b):
    return (-0.5 * squared_distances(a, b)).exp()


def test_mmd_equals_a_slow_double_loop(monkeypatch):
    monkeypatch.setattr("gencli.metrics.base.ENTRIES", 100)  # many blocks
    x, y = draw(17, 0), draw(23, 1, shift=0.5)
    k = lambda a, b: math.exp(-0.5 * float((a.double() - b.double()).square().sum()))  # noqa: E731
    xx = sum(k(x[i], x[j]) for i in range(17) for j in range(17) if i != j) / (17 * 16)
    yy = sum(k(y[i], y[j]) for i in range(23) for j in range(23) if i != j) / (23 * 22)
    xy = sum(k(a, b) for a in x for b in y) / (17 * 23)
    found = two_sample(x, y, gauss, 5, torch.Generator().manual_seed(0))
    assert found.value == pytest.approx(xx + yy - 2 * xy, abs=1e-6)


def test_mmd_is_unbiased_with_a_calibrated_error_and_null():
    """Over 200 pairs of sets of one distribution: mean 0, spread within se, p-values uniform."""
    runs = [
        two_sample(draw(60, s), draw(90, 1000 + s), gauss, 99, torch.Generator().manual_seed(s)) for s in range(200)
    ]
    values, p = torch.tensor([r.value for r in runs]), torch.tensor([r.p_value for r in runs])
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(200)
    assert 0.65 < float(values.std()) / float(torch.tensor([r.se for r in runs]).mean()) < 1.05
    for level in (0.05, 0.2, 0.5):
        rejected = float((p <= level).float().mean())
        assert abs(rejected - level) < 3 * math.sqrt(level * (1 - level) / 200)


def test_the_error_of_mmd_holds_away_from_the_null():
    """Closed form of Gaussians a apart with kernel width 1 in one dimension: 2/sqrt(3) (1 - exp(-a^2 / 6))."""
    a, runs = 1.0, []
    for s in range(100):
        x, y = draw(150, s, dim=1), draw(100, 1000 + s, shift=a, dim=1)
        runs.append(two_sample(x, y, gauss, 1, torch.Generator().manual_seed(0)))
    values, errors = torch.tensor([r.value for r in runs]), torch.tensor([r.se for r in runs])
    exact = 2 / math.sqrt(3) * (1 - math.exp(-(a**2) / 6))
    assert abs(float(values.mean()) - exact) < 3 * float(values.std()) / 10
    assert float(values.std() / errors.mean()) == pytest.approx(1, abs=0.25)


def test_mmd_takes_its_bandwidth_from_the_reference():
    reference = draw(300, 0)
    found = MMD(permutations=20).measure(samples(draw(200, 1, shift=1), reference))
    assert found.diagnostics["bandwidth"] == pytest.approx(median_distance(samples(reference, reference).shown[1]))
    assert found.diagnostics["p_value"] == pytest.approx(1 / 21)
    assert found.value > 6 * found.se
    with pytest.raises(ValueError, match=r"give metrics\.mmd\.bandwidth"):
        median_distance(torch.zeros(9, 2))


# --- sliced Wasserstein ----------------------------------------------------------------------------------------------


def test_sliced_wasserstein_of_shifted_gaussians():
    """SW_2^2 = |shift|^2 / D; for scaled ones (s - 1)^2."""
    shifted = SlicedWasserstein(projections=200).measure(
        raw(draw(3000, 0, shift=torch.tensor([2.0, 1.0])), draw(2000, 1))
    )
    assert abs(shifted.value - math.sqrt(2.5)) < 4 * shifted.se
    scaled_ = SlicedWasserstein(projections=200).measure(raw(draw(3000, 0, scale=1.5), draw(3000, 1)))
    assert abs(scaled_.value - 0.5) < 4 * scaled_.se
    assert shifted.se < 0.1


def test_sliced_wasserstein_in_one_dimension_is_the_exact_transport():
    x, y = draw(40, 0, dim=1), draw(40, 1, dim=1)
    squared, _ = sliced(x, y, torch.ones(3, 1))
    assert squared == pytest.approx(float((x.sort(0).values - y.sort(0).values).square().mean()), rel=1e-5)
    repeated, _ = sliced(x.repeat_interleave(3, 0), y, torch.ones(2, 1))  # sizes that differ
    assert repeated == pytest.approx(squared, rel=1e-5)


def test_the_floor_of_sliced_wasserstein_is_what_exact_samples_have():
    found = [SlicedWasserstein(projections=100).measure(raw(draw(400, s), draw(800, 1000 + s), s)) for s in range(30)]
    values = torch.tensor([f.value**2 for f in found])
    floors = torch.tensor([f.diagnostics["floor"] ** 2 for f in found])
    error = float((values - floors).std()) / math.sqrt(30)
    assert abs(float((values - floors).mean())) < 3.5 * error


def test_the_error_of_sliced_wasserstein_is_the_spread_over_sets():
    found = [
        SlicedWasserstein(projections=200).measure(raw(draw(300, s, shift=1.0), draw(300, 500 + s), s))
        for s in range(60)
    ]
    values, errors = torch.tensor([f.value for f in found]), torch.tensor([f.se for f in found])
    assert float(values.std() / errors.mean()) == pytest.approx(1, abs=4 / math.sqrt(2 * 59))


# --- C2ST ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_c2st_of_one_distribution_is_a_half():
    found = [C2ST(hidden=20).measure(samples(draw(300, s), draw(300, 100 + s), s)) for s in range(8)]
    z = torch.tensor([(f.value - 0.5) / f.se for f in found])
    assert float(z.abs().max()) < 3.5
    assert abs(float(z.mean())) < 3 / math.sqrt(8)


def test_c2st_tells_what_differs():
    found = C2ST(hidden=20).measure(samples(draw(300, 0, shift=3.0), draw(400, 1)))
    # the best rule for Gaussians 3 sqrt(2) apart is right with Phi(3 / sqrt(2)) = 0.983
    assert found.value == pytest.approx(0.983, abs=0.02)
    assert found.diagnostics["p_value"] < 1e-10
    with pytest.raises(ValueError, match="at least 50 of each"):
        C2ST().measure(samples(draw(20, 0), draw(400, 1)))


# --- precision and recall --------------------------------------------------------------------------------------------


def test_precision_and_recall_of_equal_and_of_far_sets():
    x = draw(300, 0)
    same, far = (PrecisionRecall().measure(samples(y, x)) for y in (x, x + 100))
    assert [same.value, same.diagnostics["precision"], same.diagnostics["recall"]] == [1, 1, 1]
    assert [far.value, far.diagnostics["precision"], far.diagnostics["recall"]] == [0, 0, 0]
    assert far.diagnostics["coverage"] == far.diagnostics["density"] == 0


def test_density_and_coverage_of_exact_samples():
    """E density = 1, and E coverage = 1 - C(m - 1, k) / C(n + m - 1, k) (Naeem et al., 2020), here n = m."""
    n, k = 2000, 5
    found = PrecisionRecall(k=k).measure(samples(draw(n, 0), draw(n, 1)))
    expected = 1 - math.comb(n - 1, k) / math.comb(2 * n - 1, k)
    assert found.diagnostics["coverage"] == pytest.approx(expected, abs=0.02)
    assert found.diagnostics["density"] == pytest.approx(1, abs=0.06)


def test_a_dropped_mode_costs_recall_and_noise_costs_precision():
    toy = Toy("eight_gaussians", test=2000)
    reference = toy.split("test").x
    import numpy as np

    x = torch.from_numpy(GENERATORS["eight_gaussians"][0](np.random.default_rng(7), 4000)).float()
    half = x[x[:, 0] > 0][:1500]
    noisy = torch.cat([x[:750], 8 * torch.rand(750, 2, generator=torch.Generator().manual_seed(0)) - 4])
    whole, dropped, noised = (
        PrecisionRecall().measure(samples(y, reference)).diagnostics for y in (x[:1500], half, noisy)
    )
    assert whole["recall"] > 0.95
    assert dropped["precision"] > 0.95
    assert dropped["recall"] == pytest.approx(0.5, abs=0.1)
    assert noised["precision"] < 0.8
    assert noised["recall"] > 0.95


# --- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", sorted(MODES))
def test_modes_of_exact_samples(which):
    import numpy as np

    toy = Toy(which)
    x = torch.from_numpy(GENERATORS[which][0](np.random.default_rng(1), 20_000)).float()
    found = Modes().measure(Samples(x, None, Batch(x[:5]), toy))
    count = len(toy.modes.centres)
    assert found.value == found.diagnostics["of"] == count
    assert abs(found.diagnostics["within"] - (1 - math.exp(-8))) < 4 * found.diagnostics["se_within"] + 1e-4
    assert found.diagnostics["chi2_p"] > 1e-3
    assert found.diagnostics["kl"] == pytest.approx((count - 1) / 40_000, abs=4 * math.sqrt(2 * (count - 1)) / 40_000)

    lost = x[torch.cdist(x.double(), toy.modes.centres).argmin(1) != 0]
    found = Modes().measure(Samples(lost, None, Batch(x[:5]), toy))
    assert found.value == count - 1
    assert found.diagnostics["chi2_p"] < 1e-6
    assert found.diagnostics["kl"] == pytest.approx(math.log(count / (count - 1)), abs=0.01)


def test_modes_of_nothing_near_and_of_other_data():
    toy = Toy("eight_gaussians")
    found = Modes().measure(Samples(torch.zeros(50, 2), None, Batch(torch.zeros(5, 2)), toy))
    assert (found.value, found.diagnostics["within"]) == (0, 0)
    with pytest.raises(ValueError, match="data=moons has none"):
        Modes().check(Toy("moons"), None)


# --- Fréchet ---------------------------------------------------------------------------------------------------------


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


# --- the classifier --------------------------------------------------------------------------------------------------

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


# --- torch-fidelity --------------------------------------------------------------------------------------------------


def images(n, seed):
    return torch.randint(0, 17, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_without_torch_fidelity_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r"pip install gencli\[fid\]"):
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


# --- end to end: the command, its records, and what is never opened --------------------------------------------------


class Gaussian(DirectSampling):
    """x ~ N(0, 1) with no likelihood to offer."""

    def sample(self, n, y=None, *, noise, temperature=1.0):
        return temperature * noise.randn(n, *self.spec.shape)


ALL = {
    "mmd": MMD(permutations=20),
    "sliced_wasserstein": SlicedWasserstein(projections=20),
    "c2st": C2ST(hidden=10),
    "precision_recall": PrecisionRecall(),
}


def test_no_metric_opens_the_training_split(tmp_path):
    from gencli.data.preprocess import Preprocess
    from gencli.run.assembly import Parts
    from gencli.run.measure import Measurement, measure
    from gencli.run.quality import SampleMetrics
    from gencli.samplers.direct import Direct

    data = Data(REAL, test=TensorSplit(draw(100, 5)))
    parts = Parts(
        torch.device("cpu"), data, Preprocess(REAL, ("real",), ("vector",)), Gaussian(REAL), None, Direct(), None
    )
    config = {"metrics": {name: {} for name in ALL}, "sampler": {"temperature": 1.0}, "choices": {"sampler": "direct"}}

    def records_of(split, batch_size=64):
        at = Measurement(parts=parts, run=tmp_path, split=split, seed=0, batch_size=batch_size)
        return list(measure(at, SampleMetrics(metrics=ALL, config=config)))

    records = records_of("test")
    assert [(r.n_samples, r.n_reference) for r in records] == [(100, 100)] * 4
    assert records[0].diagnostics["p_value"] > 0.01
    with pytest.raises(AssertionError, match="opened the training split"):  # the guard can fail
        records_of("train")
    assert [r.value for r in records_of("test", 7)] == [r.value for r in records]  # batches do not matter


def test_a_large_split_is_thinned_to_the_same_examples():
    from gencli.run.quality import MOST, reference_of

    split = TensorSplit(torch.arange(MOST + 500)[:, None])
    assert torch.equal(reference_of(split, None).x, reference_of(split, 50).x)
    assert len(reference_of(split, None).x) == MOST
    assert len(reference_of(split, MOST + 100).x) == MOST + 100
    assert len(reference_of(split, 10**6).x) == MOST + 500
