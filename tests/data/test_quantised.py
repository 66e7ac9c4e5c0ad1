"""Toys of the plane in digits: the code, the law of its cells, and the entropy that follows."""

import json
import math

import numpy as np
import pytest
import torch

from gencli.data.cells import entropy, probabilities
from gencli.data.quantised import PUBLISHED
from gencli.data.sets.categorical_toys import CategoricalToys
from gencli.data.sets.gray_toys import GrayToys
from gencli.data.sets.toys import GENERATORS

FEW = {"train": 2000, "val": 100, "test": 100}


@pytest.mark.parametrize("bits", [16, 32])
def test_gray_neighbours_differ_in_one_bit(bits):
    data = GrayToys("moons", bits, **FEW)
    low = data.cells // 2 - 700 if bits == 32 else 0  # across the middle, where sign and size would change at once
    k = np.arange(low, min(data.cells, low + 1400), dtype=np.int32)
    words = data.word(k)
    assert ((words[1:] != words[:-1]).sum(1) == 1).all()
    assert np.array_equal(data.number(torch.from_numpy(words)).numpy(), k)
    assert len({tuple(word) for word in words.tolist()}) == len(k)


@pytest.mark.parametrize(
    "data",
    [
        GrayToys("pinwheel", 16, **FEW),
        GrayToys("circles", **FEW),
        CategoricalToys(**FEW),
        CategoricalToys("moons", 10, **FEW),
    ],
    ids=lambda d: f"{d.name}-{d.spec.dim}",
)
def test_examples_are_the_toys_to_half_a_cell(data):
    x = data.split("train").x
    assert x.dtype == torch.uint8
    assert tuple(x.shape) == (2000, data.spec.dim)
    assert int(x.max()) == data.spec.support.size - 1
    rng = np.random.default_rng([0, 0])
    points = torch.from_numpy(GENERATORS[data.toy][0](rng, 2000))
    assert float((data.to_plane(x) - points).abs().max()) <= 0.5001 / data.scale
    assert torch.equal(data.from_plane(data.to_plane(x)), x)
    assert data.protocol()["scale"] == pytest.approx(data.scale, rel=1e-5)
    assert data.split("train").sha256 == type(data)(*data_options(data), **FEW).split("train").sha256


def data_options(data):
    return (data.toy, data.spec.dim if data.spec.support.kind == "binary" else data.spec.support.size)


@pytest.mark.parametrize("toy", sorted(PUBLISHED))
def test_cells_have_the_frequencies_of_the_generator(toy):
    """Pearson's chi squared over cells of at least 20 expected examples, within 4 deviations of its mean."""
    cells, n = 128, 400_000
    half = 2**15 / PUBLISHED[toy][0]
    p = probabilities(toy, cells, half)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p.min() >= -1e-15
    k = np.floor((GENERATORS[toy][0](np.random.default_rng(7), n) + half) * cells / (2 * half)).clip(0, cells - 1)
    counts = np.bincount((k[:, 0] * cells + k[:, 1]).astype(int), minlength=cells**2).reshape(cells, cells)
    many = p * n > 20
    chi = ((counts - p * n) ** 2)[many] / (p * n)[many]
    assert chi.sum() == pytest.approx(many.sum(), abs=4 * math.sqrt(2 * many.sum()))
    assert counts[p < 1e-12].sum() == 0


def log_law(data, x):
    """log p of examples of 16 bits, from the list of all."""
    every, log_p = data.law()
    code = 1 << torch.arange(16)
    at = torch.empty(1 << 16, dtype=torch.float64)
    at[(every.long() * code).sum(1)] = log_p
    return at[(x.long() * code).sum(1)]


def test_the_law_lists_every_state_once():
    every, log_p = GrayToys("circles", 16, **FEW).law()
    assert len(every.unique(dim=0)) == 1 << 16
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("toy", sorted(PUBLISHED))
def test_the_entropy_of_16_bits_is_the_mean_of_the_log_law(toy):
    data = GrayToys(toy, 16, train=100_000, val=1, test=1)
    nll = -log_law(data, data.split("train").x)
    assert data.entropy == pytest.approx(float(nll.mean()), abs=4 * float(nll.std()) / math.sqrt(len(nll)))


@pytest.mark.parametrize("toy", sorted(set(PUBLISHED) - {"pinwheel", "checkerboard"}))
def test_the_entropy_of_small_cells_is_that_of_the_density(toy):
    """H + 2 ln(size of a cell) with an error of its square, which Richardson's extrapolation takes away."""
    scale, h = PUBLISHED[toy]
    at = [entropy(probabilities(toy, n, 2**15 / scale)) + 2 * math.log(2**16 / scale / n) for n in (256, 512)]
    assert (4 * at[1] - at[0]) / 3 == pytest.approx(h, abs=1e-5)
    assert GENERATORS[toy][1] == pytest.approx(h, abs=GENERATORS[toy][2] + 1e-6)
    assert GrayToys(toy).entropy == pytest.approx(h + 2 * math.log(scale))


def test_entropies_of_32_bits_are_the_published_floors():
    floors = {"spirals": 20.038, "eight_gaussians": 19.979, "circles": 20.553, "moons": 19.718, "pinwheel": 19.547}
    floors |= {"swissroll": 20.141, "checkerboard": 20.677}
    for toy, floor in floors.items():
        assert GrayToys(toy).entropy == pytest.approx(floor, abs=2.5e-3)


def test_a_scale_that_is_too_fine_is_refused():
    with pytest.raises(ValueError, match=r"^data.scale=7000: at most 6301.54; the toys reach 5.2$"):
        GrayToys(scale=7000)
    coarse = GrayToys("moons", 16, scale=10.0, **FEW)
    assert coarse.entropy == pytest.approx(PUBLISHED["moons"][1] + 2 * math.log(10), abs=0.05)
    assert log_law(coarse, coarse.split("val").x).isfinite().all()
    assert GrayToys(**FEW).law() is None


@pytest.mark.slow
def test_a_run_tells_the_scale_and_the_divergence_over_all_states(tmp_path):
    import gencli

    data = ["data=gray_toys", "data.bits=16", "data.train=5000", "data.val=10", "data.test=4000", "data.toy=moons"]
    gencli.train([*data, "model=independent", "trainer.max_steps=2", "logger=none", "n=0", f"run_dir={tmp_path}/run"])
    record = json.loads((tmp_path / "run" / "eval" / "test-exact.json").read_text())
    assert record["protocol"]["data"] == "gray_toys_moons"
    assert (record["protocol"]["scale"], record["protocol"]["digits"]) == (22.5773, "16 of binary")
    told = record["diagnostics"]
    assert told["kl"] == pytest.approx(told["nll_minus_entropy"], abs=4 * record["se_examples"])
    assert told["kl"] > 1
