"""Binary data: published tables, and the protocols that make grey images binary."""

import gzip

import numpy as np
import pytest
import torch
from data_sets import idx, needs_files, refused, save

from gencli.core.errors import UsageError
from gencli.core.noise import StepNoise
from gencli.data.sets.binarized_mnist import BinarizedMNIST
from gencli.data.sets.digits import Digits
from gencli.data.sets.mnist import KMNIST, MNIST
from gencli.data.sets.uci_binary import UCIBinary


def independent(data):
    """Test NLL of independent bits at the training rates, smoothed by half a count."""
    train, test = (data.split(name).x.flatten(1) for name in ("train", "test"))
    return cross_entropy(test, (train.sum(0).double() + 0.5) / (len(train) + 1))


def cross_entropy(bits, p):
    """Mean nats of rows of bits at these rates."""
    mean = bits.sum(0).double() / len(bits)
    return float(-(mean * p.log() + (1 - mean) * (1 - p).log()).sum())


@needs_files
@pytest.mark.parametrize(
    ("name", "sizes", "nats"), [("dna", [1400, 600, 1186], 100.388), ("mushrooms", [2000, 500, 5624], 34.232)]
)
def test_binary_tables_are_the_published_ones(name, sizes, nats):
    data = UCIBinary(name)
    assert data.name == f"uci_binary_{name}"
    assert [len(data.split(n)) for n in ("train", "val", "test")] == sizes
    assert independent(data) == pytest.approx(nats, abs=1e-3)


def test_binary_tables_that_are_not_there_or_wrong(tmp_path):
    path = tmp_path / "uci_binary" / "web.npz"
    with pytest.raises(UsageError, match=f"^{path} is missing: fetch datasets/web.npz of https://github.com/mgermain"):
        UCIBinary("web", root=str(tmp_path)).split("train")
    path.parent.mkdir()
    save(path, train_data=np.zeros((4, 7)), valid_data=np.full((4, 300), 2))
    data = UCIBinary("web", root=str(tmp_path))
    with refused(f"{path}: train_data is of shape (4, 7) instead of (N, 300): another file?"):
        data.split("train")
    with refused(f"{path}: valid_data does not fit data.support=binary: it needs integers from 0 to 1; found 2 to 2"):
        data.split("val")
    with pytest.raises(UsageError, match=f"^{path} is no file of this suite: "):
        data.split("test")
    path.write_text("no archive")
    with pytest.raises(UsageError, match=f"^{path} is no file of this suite: "):
        UCIBinary("web", root=str(tmp_path)).split("train")


@pytest.mark.slow
@needs_files
def test_binarized_mnist_is_larochelles():
    data = BinarizedMNIST()
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [50_000, 10_000, 10_000]
    assert data.split("test").x.shape == (10_000, 1, 28, 28)
    train = data.split("train").x
    assert (train.dtype, int(train.min()), int(train.max())) == (torch.uint8, 0, 1)
    assert independent(data) == pytest.approx(205.79, abs=0.01)
    digit = data.split("test").x[0, 0]  # a zero, upright: ink in a ring around an empty middle
    assert digit[4:24, 4:24].sum() > 60
    assert digit[12:16, 12:16].sum() == 0


def test_binarized_mnist_that_is_damaged(tmp_path):
    folder = tmp_path / "binarized_mnist"
    folder.mkdir()
    path = folder / "binarized_mnist_test.amat.gz"
    path.write_bytes(gzip.compress(b"0 1 0"))
    with pytest.raises(UsageError, match=f"^{path} is damaged"):
        BinarizedMNIST(root=str(tmp_path)).split("test")
    path.write_bytes(gzip.compress(b"0 1 0")[:-9])
    with pytest.raises(UsageError, match=f"^{path} is no whole gzip file"):
        BinarizedMNIST(root=str(tmp_path)).split("test")


@pytest.fixture
def grey_root(tmp_path):
    """40 training and 30 test images of MNIST's format, of random grey levels."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, n in (("train", 40), ("t10k", 30)):
        images = np.random.RandomState(n).randint(0, 256, (n, 28, 28)).astype(np.uint8)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx((np.arange(n) % 10).astype(np.uint8)))
    return str(tmp_path)


def test_protocols_of_binarization(grey_root):
    grey = MNIST(grey_root, validation=10)
    sets = {b: MNIST(grey_root, validation=10, binarization=b) for b in ("threshold", "fixed", "dynamic")}
    for name, data in sets.items():
        assert (data.binarization, str(data.spec.support), data.spec.classes) == (name, "binary", 10)
        for part in ("train", "val", "test"):
            split, other = data.split(part), MNIST(grey_root, validation=10, binarization=name).split(part)
            assert (split.sha256, split.x.dtype) == (other.sha256, torch.uint8)
            assert split.x.unique().tolist() == [0, 1]
            assert torch.equal(split.y, grey.split(part).y)
    for part in ("train", "val", "test"):
        assert torch.equal(sets["threshold"].split(part).x, (grey.split(part).x > 127).byte())
        assert sets["fixed"].split(part).sha256 == sets["dynamic"].split(part).sha256
        x, bits = grey.split(part).x.double() / 255, sets["fixed"].split(part).x.double()
        z = (bits - x).sum() / (x * (1 - x)).sum().sqrt()
        assert z.abs() < 4
        assert bits[x == 1].min() == 1
        assert bits[x == 0].max() == 0
    assert (grey.binarization, str(grey.spec.support)) == (None, "levels:256")


def test_dynamic_training_draws_anew_and_the_rest_stays(grey_root):
    data = MNIST(grey_root, validation=10, binarization="dynamic")
    grey = data.training()
    assert torch.equal(grey.x, MNIST(grey_root, validation=10).split("train").x)
    draws = torch.stack([data.augment(grey.x, StepNoise(torch.device("cpu"), 0, step)) for step in range(200)])
    assert (draws.dtype, draws.unique().tolist()) == (torch.uint8, [0, 1])
    assert torch.equal(draws[3], data.augment(grey.x, StepNoise(torch.device("cpu"), 0, 3)))
    p = grey.x.double() / 255
    error = (p * (1 - p) / 200).sqrt()
    z = ((draws.double().mean(0) - p) / error)[error > 0]
    assert z.abs().max() < 6
    assert z.square().mean() == pytest.approx(1, abs=0.05)
    for name in ("fixed", "none", "threshold"):
        other = MNIST(grey_root, validation=10, binarization=name)
        assert other.training() is other.split("train")
        assert torch.equal(other.augment(grey.x, StepNoise(torch.device("cpu"), 0)), grey.x)


@pytest.mark.slow
@needs_files
def test_published_protocols_of_binarization():
    iwae, gwg = MNIST(binarization="iwae"), MNIST(binarization="gwg")
    assert [len(iwae.split(n)) for n in ("train", "val", "test")] == [59_600, 400, 10_000]
    assert [len(gwg.split(n)) for n in ("val", "test")] == [10_000, 10_000]
    stream = np.random.RandomState(777)  # as the published code: binomial draws of float32 pixels, validation first
    whole = MNIST()
    for name in ("val", "test"):
        drawn = stream.binomial(1, whole.split(name).x.flatten(1).float().numpy() / 255.0)
        assert np.array_equal(gwg.split(name).x.flatten(1).numpy(), drawn)
    grey = whole.split("train").x.flatten(1)
    p = (grey.sum(0).double() / len(grey) / 255).clamp(1e-5, 1 - 1e-5)
    assert cross_entropy(gwg.split("test").x.flatten(1), p) == pytest.approx(205.9, abs=0.2)


def test_bits_of_digits_are_a_named_protocol():
    levels, bits = Digits(), Digits(binarize=7)
    assert (bits.binarization, str(bits.spec.support), levels.binarization) == ("> 7", "binary", None)
    for name in ("train", "val", "test"):
        assert torch.equal(bits.split(name).x, (levels.split(name).x > 7).byte())
        assert torch.equal(bits.split(name).y, levels.split(name).y)
    assert independent(bits) == pytest.approx(25.199, abs=0.01)


def test_refusals_of_binarization():
    with pytest.raises(ValueError, match=r"^data.validation=1000: the protocol iwae has 400 of them$"):
        MNIST(binarization="iwae", validation=1000)
    assert KMNIST(binarization="fixed").binarization == "fixed"
    assert (MNIST().validation, MNIST(binarization="gwg").validation) == (10_000, 10_000)


@pytest.mark.slow
def test_a_run_on_dynamic_bits_says_so(grey_root, tmp_path):
    import json

    import gencli

    data = ["data=mnist", f"data.root={grey_root}", "data.validation=10", "data.binarization=dynamic"]
    steps = ["trainer.max_steps=3", "trainer.batch_size=8", "logger=none", "n=0", "device=cpu"]
    gencli.train([*data, *steps, "model=made", "model.hidden=[8]", f"run_dir={tmp_path}/run"])
    record = json.loads((tmp_path / "run" / "eval" / "test-exact.json").read_text())
    assert (record["protocol"]["binarization"], record["protocol"]["support"]) == ("dynamic", "binary")
    assert record["bound"] == "exact"
