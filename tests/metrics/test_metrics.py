"""Metrics against known answers: their values, their errors, and what they look at."""

import math

import pytest
import torch
from clouds import REAL, Data, draw, samples

from gencli.core.spec import Batch, Spec, Support
from gencli.data.sets.toys import GENERATORS, MODES, Toy
from gencli.data.split import TensorSplit
from gencli.metrics.base import Samples, scaled, squared_distances
from gencli.metrics.c2st import C2ST
from gencli.metrics.mmd import MMD, HammingMMD, median_distance, two_sample
from gencli.metrics.modes import Modes
from gencli.metrics.precision_recall import PrecisionRecall
from gencli.metrics.sliced_wasserstein import SlicedWasserstein, sliced
from gencli.models.base import DirectSampling


class Raw(Samples):
    """Reals as they are: closed forms are in the data's own unit."""

    shown = property(lambda self: (self.x, self.reference.x))


def raw(x, reference, seed=0):
    return Raw(x, None, Batch(reference), Data(REAL), seed)


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


@pytest.mark.parametrize("offset", [0, 8192])  # a power of two, which leaves the differences nearly as they are
@pytest.mark.parametrize("dim", [2, 40])
def test_distances(dim, offset):
    a, b = draw(30, 0, dim=dim) + offset, draw(40, 1, dim=dim) + offset
    assert squared_distances(a, b).sqrt().allclose(torch.cdist(a.double(), b.double()).float(), atol=1e-4)


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


@pytest.mark.parametrize("kind", ["binary", "categorical:3"])
def test_hamming_mmd_equals_a_slow_double_loop(kind):
    of = Spec((1, 2, 3), Support.parse(kind))
    x, y = (draw(n, s, dim=6).sigmoid().mul(of.support.size).floor().view(n, 1, 2, 3) for n, s in ((15, 0), (21, 1)))
    k = lambda a, b: math.exp(-0.3 * float((a != b).sum()))  # noqa: E731
    xx = sum(k(x[i], x[j]) for i in range(15) for j in range(15) if i != j) / (15 * 14)
    yy = sum(k(y[i], y[j]) for i in range(21) for j in range(21) if i != j) / (21 * 20)
    xy = sum(k(a, b) for a in x for b in y) / (15 * 21)
    found = HammingMMD(rate=0.3, permutations=5).measure(Samples(x, None, Batch(y), Data(of)))
    assert found.value == pytest.approx(xx + yy - 2 * xy, abs=1e-6)
    with pytest.raises(
        ValueError, match=r"^metrics=\[hamming_mmd\] needs data of bits, levels or categories; this data is real$"
    ):
        HammingMMD().check(Data(REAL), None)


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


@pytest.mark.slow
def test_the_error_of_sliced_wasserstein_is_the_spread_over_sets():
    found = [
        SlicedWasserstein(projections=200).measure(raw(draw(300, s, shift=1.0), draw(300, 500 + s), s))
        for s in range(60)
    ]
    values, errors = torch.tensor([f.value for f in found]), torch.tensor([f.se for f in found])
    assert float(values.std() / errors.mean()) == pytest.approx(1, abs=4 / math.sqrt(2 * 59))


@pytest.mark.slow
def test_c2st_of_one_distribution_is_a_half():
    found = [C2ST(hidden=20, folds=3).measure(samples(draw(100, s), draw(100, 100 + s), s)) for s in range(8)]
    z = torch.tensor([(f.value - 0.5) / f.se for f in found])
    assert float(z.abs().max()) < 3.5
    assert abs(float(z.mean())) < 3 / math.sqrt(8)


@pytest.mark.slow
def test_c2st_tells_what_differs():
    found = C2ST(hidden=20, folds=3).measure(samples(draw(300, 0, shift=3.0), draw(400, 1)))
    # the best rule for Gaussians 3 sqrt(2) apart is right with Phi(3 / sqrt(2)) = 0.983
    assert found.value == pytest.approx(0.983, abs=0.02)
    assert found.diagnostics["p_value"] < 1e-10
    with pytest.raises(ValueError, match="at least 50 of each"):
        C2ST().measure(samples(draw(20, 0), draw(400, 1)))


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


class Gaussian(DirectSampling):
    """x ~ N(0, 1) with no likelihood to offer."""

    def sample(self, n, y=None, *, noise, temperature=1.0):
        return temperature * noise.randn(n, *self.spec.shape)


ALL = {
    "mmd": MMD(permutations=20),
    "sliced_wasserstein": SlicedWasserstein(projections=20),
    "c2st": C2ST(hidden=10, folds=2),
    "precision_recall": PrecisionRecall(),
}


@pytest.mark.slow
def test_no_metric_opens_the_training_split(tmp_path):
    from gencli.data.preprocess import Preprocess
    from gencli.run.assembly import Parts
    from gencli.run.measure import Measurement, measure
    from gencli.run.quality import Metrics
    from gencli.samplers.direct import Direct

    data = Data(REAL, test=TensorSplit(draw(100, 5)))
    parts = Parts(
        torch.device("cpu"), data, Preprocess(REAL, ("real",), ("vector",)), Gaussian(REAL), None, Direct(), None
    )
    own = {"sampler": {"temperature": 1.0}, "choices": {"sampler": "direct", "data": "ours"}, "data": {}}
    config = own | {"metrics": {name: {} for name in ALL}}

    def records_of(split, batch_size=64):
        where = {"parts": parts, "run": tmp_path, "config": config, "trained": own | {"trainer": {"ema_decay": 0}}}
        at = Measurement(**where, split=split, seed=0, batch_size=batch_size)
        return [record for record, _ in measure(at, Metrics(metrics=ALL))]

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
