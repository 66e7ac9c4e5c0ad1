"""Data sets without files: embedded, drawn from a seed, or the user's own, and every refusal's text."""

import ast
import gzip
import hashlib
import importlib
import io
import math
import os
import pickle
import re
import stat
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from gencli.core.errors import UsageError
from gencli.core.noise import StepNoise
from gencli.core.spec import Support
from gencli.data.sets.array import Array
from gencli.data.sets.binarized_mnist import BinarizedMNIST
from gencli.data.sets.cifar10 import CIFAR10
from gencli.data.sets.crabs import COUNTS, Crabs
from gencli.data.sets.csv import CSV
from gencli.data.sets.digits import Digits
from gencli.data.sets.gaussian import Gaussian
from gencli.data.sets.gmm import Mixture
from gencli.data.sets.image_folder import ImageFolder
from gencli.data.sets.mnist import KMNIST, MNIST, FashionMNIST, read_idx
from gencli.data.sets.tabular import BSDS300, Gas, Hepmass, Miniboone, Power, read_frame
from gencli.data.sets.toys import GENERATORS, Toy
from gencli.data.sets.uci_binary import UCIBinary

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
MODULES = Path(__file__).parents[2] / "gencli" / "data" / "sets"
RNG = np.random.default_rng(0)
FETCHED = os.environ.get("GENCLI_DATA")
needs_files = pytest.mark.skipif(not FETCHED, reason="GENCLI_DATA names no folder with the files")


def refused(text):
    return pytest.raises(UsageError, match=f"^{re.escape(text)}$")


def rows(split):
    return [tuple(r) for r in split.x.flatten(1).tolist()]


# --- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_config_is_one_call(path):
    assert re.match(r"# \S.{10,100}\n_target_: ", path.read_text())
    node = yaml.safe_load(path.read_text())
    module, name = node.pop("_target_").rsplit(".", 1)
    tree = ast.parse((MODULES / f"{module.rsplit('.', 1)[1]}.py").read_text())
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    literals = {
        n.target.id: n.value.value
        for n in cls.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.value, ast.Constant)
    }
    if path.stem not in ("array", "csv", "text_file"):  # whose support is in the file or an option
        assert Support.parse(literals["support"])
    if path.stem not in ("array", "text_file"):
        assert literals["shape_kind"] in ("vector", "image")
    if path.stem in ("array", "csv", "image_folder", "text_file"):
        return

    for key in ("transform", "alpha", "flip"):
        node.pop(key, None)
    data = getattr(importlib.import_module(module), name)(**node)
    assert data.name == (f"{path.stem}_{data.set}" if hasattr(data, "set") else path.stem)
    assert data.spec.kind == literals["shape_kind"]
    assert str(data.spec.support) == literals["support"]


# --- embedded --------------------------------------------------------------------------------------------------------


def test_digits_are_the_known_split():
    data = Digits()
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [len(s) for s in splits] == [1297, 200, 300]
    assert data.split("other") is None
    from sklearn.datasets import load_digits

    everything = sorted(tuple(r) for r in load_digits().data.astype(int).tolist())
    assert sorted(r for s in splits for r in rows(s)) == everything

    # The independent categorical model, smoothed by one count: 107.8 nats are known for this split.
    train, test = splits[0].x.flatten(1).long(), splits[2].x.flatten(1).long()
    p = (torch.nn.functional.one_hot(train, 17).double().sum(0) + 1) / (len(train) + 17)
    assert float(-p.gather(1, test.T).log().sum(0).mean()) == pytest.approx(107.84, abs=0.1)

    image = data.to_image(splits[0].x)
    assert (image.min(), image.max(), tuple(image.shape)) == (0, 1, (1297, 1, 8, 8))


def test_crabs_are_pearsons():
    whole = Crabs()
    assert (len(whole.split("train")), whole.split("val"), whole.split("test"), whole.train_on) == (
        1000,
        None,
        None,
        "all",
    )
    assert torch.bincount(whole.split("train").x.flatten().int()).tolist() == [count for _, count in COUNTS]
    offset, width = Crabs.unit
    for k, (upper, _) in enumerate(COUNTS[:-1]):
        assert offset + width * (k + 1) == pytest.approx(upper)

    dealt = Crabs(in_sample=False)
    assert [len(dealt.split(n)) for n in ("train", "val", "test")] == [800, 100, 100]
    assert dealt.train_on == "train"


@needs_files
def test_crabs_equal_the_published_table():
    lines = (Path(FETCHED) / "naples_crabs" / "pearson.txt").read_text().split("\n")[1:]
    assert [(float(a), int(b)) for a, b in (line.split() for line in lines if line)] == list(COUNTS)


# --- drawn from a seed -----------------------------------------------------------------------------------------------


def mixture_nll(x, centres, std):
    """-log p under equal isotropic Gaussians, (N,)."""
    squares = (x[:, None] - centres[None]).square().sum(2) / (2 * std**2)
    return -((-squares).logsumexp(1) - math.log(len(centres)) - math.log(2 * math.pi * std**2))


def ring_nll(x, radii, std):
    """-log p under equal rings of radius R blurred by std: the mean over R of N(r; R) exp(..) I0(r R / std^2)."""
    r = x.norm(dim=1, keepdim=True)
    radii = torch.tensor(radii, dtype=torch.float64)
    bessel = torch.special.i0e(r * radii / std**2).log()
    return -((-((r - radii) ** 2) / (2 * std**2) + bessel).logsumexp(1) - math.log(len(radii) * 2 * math.pi * std**2))


def eight():
    angle = torch.arange(8).double() * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1) * 4 / 1.414


TRUE_NLL = {
    "circles": lambda x: ring_nll(x, [3.0, 1.5], 0.24),
    "rings": lambda x: ring_nll(x, [3.0, 2.25, 1.5, 0.75], 0.08),
    "eight_gaussians": lambda x: mixture_nll(x, eight(), 0.5 / 1.414),
    "twentyfive_gaussians": lambda x: mixture_nll(
        x, torch.cartesian_prod(*[torch.arange(-2, 3).double() * 4] * 2) / 1.414, 0.2 / 1.414
    ),
    "two_gaussians": lambda x: (
        -torch.logaddexp(
            math.log(0.2) - 0.5 * (x - x.new_tensor([-4.0, 0.0])).square().sum(1),
            math.log(0.8) - 0.5 * (x - x.new_tensor([4.0, 0.0])).square().sum(1),
        )
        + math.log(2 * math.pi)
    ),
    "checkerboard": lambda x: torch.where(
        ((x[:, 0] / 2).floor() + (x[:, 1] / 2).floor()) % 2 == 0, x.new_tensor(math.log(32)), math.inf
    ),
}


@pytest.mark.parametrize("which", sorted(TRUE_NLL))
def test_nll_of_the_true_density_is_the_entropy(which):
    data = Toy(which)
    nll = TRUE_NLL[which](data.split("train").x.double())
    assert nll.isfinite().all()
    error = nll.std().item() / math.sqrt(len(nll))
    assert nll.mean().item() == pytest.approx(data.entropy, abs=4 * error + data.entropy_error + 1e-9)


def test_entropies_are_the_tabulated_ones():
    table = {
        "twentyfive_gaussians": 2.145032,
        "eight_gaussians": 2.8317,
        "circles": 3.2680,
        "moons": 2.3935,
        "pinwheel": 2.3181,
        "swissroll": 2.6695,
        "spirals": 2.6455,
        "checkerboard": 3.465736,
    }
    for which, entropy in table.items():
        assert GENERATORS[which][1] == pytest.approx(entropy, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["moons", "circles", "rings", "pinwheel", "swissroll", "spirals", "eight_gaussians"])
def test_histogram_entropy_is_the_tabulated_one(which):
    """Histogram entropies with Miller-Madow correction; Richardson removes their error of order (bin size)^2."""
    generate, entropy, _ = GENERATORS[which]
    rng, n = np.random.default_rng(5), 4_000_000
    x = generate(rng, n)
    estimates = []
    for side in (0.05, 0.1):
        cells = np.floor(x / side).astype(np.int64)
        counts = np.unique(cells[:, 0] * 100_000 + cells[:, 1], return_counts=True)[1]
        p = counts / n
        estimates.append(-(p * np.log(p)).sum() + (len(p) - 1) / (2 * n) + 2 * math.log(side))
    assert (4 * estimates[0] - estimates[1]) / 3 == pytest.approx(entropy, abs=4e-3)


def test_toy_splits_are_fixed_and_apart():
    a, b = Toy("moons", 500, 200, 100), Toy("moons", 500, 200, 100)
    assert [len(a.split(n)) for n in ("train", "val", "test")] == [500, 200, 100]
    assert a.split("train").sha256 == b.split("train").sha256
    assert len({r for n in ("train", "val", "test") for r in rows(a.split(n))}) == 800
    assert Toy("moons", 500, 200, 100, seed=1).split("train").sha256 != a.split("train").sha256


@pytest.mark.parametrize("dim", [1, 2, 30])
def test_gaussian_entropy_is_its_nll(dim):
    data = Gaussian(dim=dim, seed=4)
    law = torch.distributions.MultivariateNormal(data.mean, data.covariance)
    assert data.entropy == pytest.approx(law.entropy().item())
    nll = -law.log_prob(data.split("train").x.double())
    assert nll.mean().item() == pytest.approx(data.entropy, abs=4 * nll.std().item() / math.sqrt(len(nll)))


@pytest.mark.parametrize("dim", [1, 2, 30])
def test_mixture_entropy_is_its_nll(dim):
    data = Mixture(dim=dim, components=4, seed=4)
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(data.weights),
        torch.distributions.Independent(torch.distributions.Normal(data.means, 1.0), 1),
    )
    x = data.split("train").x.double()
    torch.testing.assert_close(data.log_prob(x), law.log_prob(x))
    nll = -data.log_prob(x)
    error = math.hypot(nll.std().item() / math.sqrt(len(nll)), data.entropy_error)
    assert nll.mean().item() == pytest.approx(data.entropy, abs=4 * error)


# --- MNIST and its likes ---------------------------------------------------------------------------------------------


@needs_files
@pytest.mark.parametrize("cls", [MNIST, FashionMNIST])
def test_idx_files_are_read_where_they_lie(cls):
    before = sorted((p, p.stat().st_mtime_ns) for p in Path(FETCHED).rglob("*"))
    data = cls()
    splits = [data.split(n) for n in ("train", "val", "test")]
    assert [len(s) for s in splits] == [50_000, 10_000, 10_000]
    assert splits[0].x.shape[1:] == data.spec.shape
    assert [len(s.y.unique()) for s in splits] == [10, 10, 10]
    assert data.to_image(splits[2].x[:3]).max() == 1
    assert sorted((p, p.stat().st_mtime_ns) for p in Path(FETCHED).rglob("*")) == before


@needs_files
def test_mnist_independent_bernoulli_is_near_206_nats():
    data = MNIST()
    p = (data.split("train").x.flatten(1).double() / 255).mean(0).clamp(1e-4, 1 - 1e-4)
    x = data.split("test").x.flatten(1).double() / 255
    assert float(-(x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean()) == pytest.approx(206, abs=1)


def test_checksums_are_torchvisions():
    from gencli.core.torchvision_compat import torchvision

    published = torchvision("datasets")
    for cls in (MNIST, FashionMNIST, KMNIST):
        assert cls.checksums == dict(getattr(published, cls.__name__).resources)
        assert set(cls.mirrors) & set(getattr(published, cls.__name__).mirrors)
    from gencli.data.sets import cifar10, svhn

    assert published.CIFAR10.tgz_md5 == cifar10._ARCHIVE_MD5
    assert dict(published.CIFAR10.train_list + published.CIFAR10.test_list) == cifar10._BATCHES
    assert {k: published.SVHN.split_list[k][2] for k in ("train", "test")} == svhn._FILES


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_idx_round_trip_and_damage():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert (read_idx(idx(array), Path("f")) == array).all()
    for content in (b"", idx(array)[:3], idx(array)[:9], idx(array)[:-1], idx(array) + b"x", b"\x1f\x8b junk"):
        with refused("f is no whole IDX file of bytes: remove it, or change data.root"):
            read_idx(content, Path("f"))


def test_uncompressed_idx_files_are_read(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.RandomState(0).randint(0, 256, (30, 28, 28)).astype(np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(30, dtype=np.uint8) % 10))
    data = MNIST(root=str(tmp_path), validation=10)
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [20, 10, 30]
    assert (data.split("val").x[:, 0].numpy() == images[20:]).all()
    assert MNIST(root=str(tmp_path), validation=0).split("val") is None


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"something else"))
    with refused(
        f"{path} is damaged (its MD5 is not f68b3c2dcbeaaa9fbdd348bbdeb94873): remove it, or change data.root"
    ):
        MNIST(root=str(tmp_path)).split("train")


@pytest.mark.parametrize("cls", [MNIST, KMNIST, CIFAR10])
def test_missing_files_offline(cls, tmp_path, monkeypatch):
    from gencli.core.torchvision_compat import torchvision

    def offline(*args):
        raise OSError("no network")

    monkeypatch.setattr(torchvision("datasets.utils"), "download_url", offline)
    data = cls(root=str(tmp_path / "data"))
    with pytest.raises(UsageError) as caught:
        data.split("test")
    text = str(caught.value)
    assert "\n" not in text
    for part in ("no network", "by hand into", str(tmp_path), "data.root", "GENCLI_DATA", "MD5"):
        assert part in text
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_cifar10_is_read_from_its_archive(tmp_path, monkeypatch):
    from gencli.data.root import md5
    from gencli.data.sets import cifar10

    pixels = RNG.integers(0, 256, (6, 40, 3072)).astype(np.uint8)
    names = list(cifar10._BATCHES)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        for k, name in enumerate(names):
            content = pickle.dumps({"data": pixels[k], "labels": list(range(40))})
            monkeypatch.setitem(cifar10._BATCHES, name, hashlib.md5(content).hexdigest())
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(cifar10, "_ARCHIVE_MD5", md5(tmp_path / "cifar-10-python.tar.gz"))
    data = CIFAR10(root=str(tmp_path), validation=10)
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [190, 10, 40]
    assert (data.split("test").x.flatten(1).numpy() == pixels[5]).all()
    assert data.split("val").y.tolist() == list(range(30, 40))
    assert [p.name for p in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]

    (tmp_path / "cifar-10-batches-py").mkdir()  # an unpacked folder is believed only with its checksums
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UsageError, match="test_batch is missing or damaged"):
        CIFAR10(root=str(tmp_path)).split("test")


def test_svhn_is_read_from_its_files(tmp_path, monkeypatch):
    from scipy.io import savemat

    from gencli.data.root import md5
    from gencli.data.sets import svhn

    x = RNG.integers(0, 256, (32, 32, 3, 12)).astype(np.uint8)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": x, "y": np.arange(12)[:, None] % 10 + 1})
    monkeypatch.setattr(svhn, "_FILES", {p: md5(tmp_path / f"{p}_32x32.mat") for p in ("train", "test")})
    data = svhn.SVHN(root=str(tmp_path), validation=2)
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [10, 2, 12]
    assert (data.split("test").x[3].numpy() == x[..., 3].transpose(2, 0, 1)).all()
    assert data.split("test").y.tolist() == [*range(1, 10), 0, 1, 2]


def test_a_root_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="could not be downloaded"):
        MNIST(root=str(tmp_path / "file")).split("test")


# --- tabular ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Power, Gas, Hepmass, Miniboone, BSDS300])
def test_tables_say_where_they_come_from(cls, tmp_path):
    with refused(
        f"{tmp_path / cls.file} is missing: fetch data.tar.gz from https://zenodo.org/records/1161203 by hand and put "
        f"its file {cls.file} there (data.root or GENCLI_DATA says where data lie)"
    ):
        cls(root=str(tmp_path)).split("train")


def test_miniboone_protocol(tmp_path):
    x = np.random.RandomState(0).randn(1000, 43) * 5 + 3
    (tmp_path / "miniboone").mkdir()
    np.save(tmp_path / "miniboone" / "data.npy", x)
    data = Miniboone(root=str(tmp_path))
    train, val, test = (data.split(n).x for n in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (810, 90, 100)
    seen = torch.cat([train, val])
    torch.testing.assert_close(seen.mean(0), torch.zeros(43), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(43), rtol=0, atol=1e-5)
    assert torch.equal(test, torch.from_numpy((x[-100:] - x[:900].mean(0)) / x[:900].std(0)).float())


def test_another_file_is_not_miniboone(tmp_path):
    (tmp_path / "miniboone").mkdir()
    np.save(tmp_path / "miniboone" / "data.npy", np.random.RandomState(0).randn(100, 4))
    with pytest.raises(UsageError, match=r"gives 4 columns instead of 43: another file\?"):
        Miniboone(root=str(tmp_path)).split("train")


def test_power_protocol(tmp_path):
    (tmp_path / "power").mkdir()
    np.save(tmp_path / "power" / "data.npy", np.random.RandomState(0).randn(2000, 8))
    data = Power(root=str(tmp_path))
    assert [tuple(data.split(n).x.shape) for n in ("train", "val", "test")] == [(1620, 6), (180, 6), (200, 6)]


def test_hepmass_protocol(tmp_path):
    rng = np.random.RandomState(0)
    (tmp_path / "hepmass").mkdir()
    for part, extra in (("train", 0), ("test", 1)):
        table = rng.randn(400, 1 + 23 + extra)
        table[:, 0] = np.arange(400) % 2
        table[:, [3, 9]] = rng.randint(0, 3, (400, 2))  # columns with many equal values are dropped
        pd.DataFrame(table).to_csv(tmp_path / "hepmass" / f"1000_{part}.csv", index=False)
    data = Hepmass(root=str(tmp_path))
    assert [tuple(data.split(n).x.shape) for n in ("train", "val", "test")] == [(180, 21), (20, 21), (200, 21)]


def test_gas_protocol(tmp_path):
    rng = np.random.RandomState(0)
    table = pd.DataFrame(rng.randn(500, 8), columns=[f"s{i}" for i in range(8)])
    for i in range(3):
        table[f"copy{i}"] = table[f"s{i}"] + 0.01 * rng.randn(500)
    for name in ("Meth", "Eth", "Time"):
        table[name] = rng.randn(500)
    table.columns = pd.Index(table.columns, dtype=object)  # as older versions of pandas wrote names
    (tmp_path / "gas").mkdir()
    table.to_pickle(tmp_path / "gas" / "ethylene_CO.pickle")
    data = Gas(root=str(tmp_path))
    assert [tuple(data.split(n).x.shape) for n in ("train", "val", "test")] == [(405, 8), (45, 8), (50, 8)]


class Payload:
    def __reduce__(self):
        return os.system, ("touch stolen",)


def test_a_pickle_that_is_no_table_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "t.pickle"
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UsageError, match=r"names (posix|nt)\.system, which is no part of a table: it is not loaded"):
        read_frame(path)
    assert not (tmp_path / "stolen").exists()


# --- array -----------------------------------------------------------------------------------------------------------


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_array_with_a_key_a_split(tmp_path):
    x = np.random.RandomState(0).randint(0, 256, (40, 3, 5, 4)).astype(np.uint8)
    y = np.arange(40) % 4
    path = save(tmp_path / "a.npz", train=x[:30], train_labels=y[:30], test=x[30:], test_labels=y[30:])
    data = Array(path)
    assert (data.name, data.spec.shape, str(data.spec.support), data.spec.classes) == ("a", (3, 5, 4), "levels:256", 4)
    assert data.split("val") is None
    assert (data.split("test").x.numpy() == x[30:]).all()
    assert data.split("test").y.tolist() == y[30:].tolist()
    assert data.to_image(data.split("test").x).shape == (10, 3, 5, 4)


@pytest.mark.parametrize(
    ("array", "shape", "support"),
    [
        (RNG.normal(size=50), (1,), "real"),
        (RNG.normal(size=(50, 7)), (7,), "real"),
        (np.zeros((50, 4, 4), np.uint8), (1, 4, 4), "levels:256"),
        (RNG.normal(size=(50, 2, 4, 4)).astype(np.float32), (2, 4, 4), "real"),
        (np.ones((50, 3), bool), (3,), "binary"),
    ],
)
def test_one_array_is_split(array, shape, support, tmp_path):
    np.save(tmp_path / "a.npy", array)
    data = Array(str(tmp_path / "a.npy"))
    assert (data.spec.shape, str(data.spec.support)) == (shape, support)
    splits = [data.split(n) for n in ("train", "val", "test")]
    assert [len(s) for s in splits] == [40, 5, 5]
    joined = torch.cat([s.x for s in splits]).flatten(1)
    assert sorted(map(tuple, joined.tolist())) == sorted(
        map(tuple, torch.tensor(array).to(joined).view(50, -1).tolist())
    )


def test_array_options(tmp_path):
    path = save(tmp_path / "a.npz", x=np.arange(60).reshape(20, 3) % 5, labels=RNG.normal(size=(20, 2)))
    data = Array(path, support="levels:5", val=0.25, test=0.0)
    assert (data.spec.context, data.spec.classes) == (2, None)
    assert len(data.split("val")) == 5
    assert data.split("test") is None
    assert data.split("train").x.dtype == torch.uint8
    assert Array(path, support="real").split("train").x.dtype == torch.float32
    assert Array(path, support="categorical:500").split("train").x.dtype == torch.int64


class Object:
    pass


ARRAYS = [
    ({"train": np.array([[0.5, np.nan]])}, None, "train holds 1 values that are not finite (NaN or infinite)"),
    (
        {"train": np.array([[0.0, 2.0]])},
        "unit",
        "train does not fit data.support=unit: it needs values from 0 to 1; found 0 to 2",
    ),
    (
        {"train": np.array([[0.0, 0.5]])},
        "levels:4",
        "train does not fit data.support=levels:4: it needs integers from 0 to 3; found 0 to 0.5",
    ),
    (
        {"train": np.array([[0, 7]])},
        "binary",
        "train does not fit data.support=binary: it needs integers from 0 to 1; found 0 to 7",
    ),
    ({"train": np.zeros((0, 3))}, None, "the training split is empty"),
    ({"a": np.zeros((3, 3)), "b": np.zeros((3, 3))}, None, "key 'train' is needed, or one array; found a, b"),
    (
        {"train": np.zeros((3, 3)), "train_labels": np.zeros(4, int)},
        None,
        "train has 3 examples and labels int64(4,)",
    ),
]


@pytest.mark.parametrize(("arrays", "support", "text"), ARRAYS)
def test_arrays_that_do_not_fit(arrays, support, text, tmp_path):
    path = save(tmp_path / "a.npz", **arrays)
    with refused(f"data.path={path}: {text}"):
        Array(path, support=support)


def test_array_refusals(tmp_path):
    with refused("data.path is needed: an .npz or .npy file"):
        Array()
    with refused(f"data.path={tmp_path}/no.npz: there is no such file or folder; an .npz or .npy file is expected"):
        Array(f"{tmp_path}/no.npz")
    integers = save(tmp_path / "i.npz", train=np.arange(6).reshape(2, 3))
    with refused(f"data.path={integers} holds int64: say data.support=levels:K, categorical:K or real"):
        Array(integers)
    with pytest.raises(ValueError, match=r"^data.support: 'levels' is no support: real, unit"):
        Array(integers, support="levels")
    text = tmp_path / "t.npy"
    text.write_text("no array")
    with pytest.raises(UsageError, match=r"is no .npz or .npy file of numbers"):
        Array(str(text))
    shapes = save(tmp_path / "s.npz", train=np.zeros((5, 3)), test=np.zeros((5, 4)))
    with refused(f"data.path={shapes}: test has examples of shape (4,), train of (3,)"):
        Array(shapes).split("test")
    labels = save(tmp_path / "l.npz", train=np.zeros((5, 3)), test=np.zeros((5, 3)), test_labels=np.zeros(5, int))
    with refused(f"data.path={labels}: test and train disagree: labels for both or for neither"):
        Array(labels).split("test")


def test_arrays_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "o.npz", train=np.array([Object()], dtype=object))
    with pytest.raises(UsageError, match="key 'train' cannot be read"):
        Array(str(tmp_path / "o.npz"))
    np.save(tmp_path / "o.npy", np.array([Object()], dtype=object))
    with pytest.raises(UsageError, match="of numbers"):
        Array(str(tmp_path / "o.npy"))


# --- csv -------------------------------------------------------------------------------------------------------------


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return str(tmp_path / "t.csv")


def test_csv_columns_labels_and_split(tmp_path):
    path = table(tmp_path, "a,b,kind,part\n1,2.5,x,train\n3,-4,y,train\n5,6,x,test\n")
    data = CSV(path, label="kind", split="part")
    assert (data.spec.shape, data.spec.classes, data.name) == ((2,), 2, "t")
    assert data.split("train").x.tolist() == [[1, 2.5], [3, -4]]
    assert data.split("test").y.tolist() == [0]
    assert data.split("val") is None
    other = CSV(path, columns=["b"], context=["a"], val=0.0, test=0.0)
    assert sorted(other.split("train").y.flatten().tolist()) == [1, 3, 5]
    assert other.spec.context == 1


def test_csv_without_header_and_compressed(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write("\n".join(f"{i};{i % 3}" for i in range(100)))
    data = CSV(str(tmp_path / "t.csv.gz"), header=False, separator=";", columns=[1], support="levels:3")
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [80, 10, 10]
    assert data.split("train").x.unique().tolist() == [0, 1, 2]


def test_csv_refusals(tmp_path):
    path = table(tmp_path, "a,b,part\n1,2,train\n3,oops,train\n5,,dev\n")
    number = "(data.columns chooses columns)"
    with refused(f"data.path={path}: column 'b', line 3 is 'oops', not a number {number}"):
        CSV(path, columns=["a", "b"])
    with refused(f"data.path={path} has no column 'aa'. Did you mean 'a'?"):
        CSV(path, columns=["aa"])
    with refused("data.split=part: the column says train, val or test; found dev"):
        CSV(path, columns=["a"], split="part")
    with refused(f"data.path={path}: column 'b', line 4 is empty"):
        CSV(path, columns=["a"], label="b")
    with refused(f"data.path={path} does not fit data.support=binary: it needs integers from 0 to 1; found 1 to 5"):
        CSV(path, columns=["a"], support="binary")
    missing = table(tmp_path, "a\n1\nNaN\n")
    with refused(f"data.path={missing}: column 'a', line 3 is 'NaN', not a number {number}"):
        CSV(missing)
    with pytest.raises(UsageError, match="is no table"):
        CSV(table(tmp_path, ""))
    with refused("data.path is needed: a .csv file"):
        CSV()


# --- images ----------------------------------------------------------------------------------------------------------


def picture(path, grey, size=(10, 8)):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, 0, 255 - grey)).save(path)


def test_image_folder_with_classes(tmp_path):
    for i in range(20):
        picture(tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i:02}.png", i)
    data = ImageFolder(str(tmp_path / "pets"), size=4)
    assert (data.name, data.spec.shape, data.spec.classes, data.classes) == ("pets", (3, 4, 4), 2, ["cat", "dog"])
    splits = [data.split(n) for n in ("train", "val", "test")]
    assert [len(s) for s in splits] == [16, 2, 2]
    greys = []
    for split in splits:
        batch = split.gather(torch.arange(len(split)))
        assert batch.x.dtype == torch.uint8
        greys += batch.x[:, 0, 0, 0].tolist()
        assert torch.equal(batch.x[:, 0, 0, 0] % 2 == 0, batch.y == 1)
    assert sorted(greys) == list(range(20))
    assert splits[0].sha256 == ImageFolder(str(tmp_path / "pets"), size=4).split("train").sha256
    assert splits[0].sha256 != ImageFolder(str(tmp_path / "pets"), size=5).split("train").sha256


def test_image_folder_with_splits_and_without_classes(tmp_path):
    for part, n in (("train", 3), ("test", 2)):
        for i in range(n):
            picture(tmp_path / part / f"{i}.png", i)
    data = ImageFolder(str(tmp_path), size=4, channels=1)
    assert data.spec.classes is None
    assert (len(data.split("train")), data.split("val"), len(data.split("test"))) == (3, None, 2)
    assert data.split("test").gather(torch.tensor([1])).y is None
    assert data.split("test").gather(torch.tensor([1])).x.shape == (1, 1, 4, 4)


def test_image_folder_refusals(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=re.escape(f"data.path={tmp_path}/empty has no training images (.bmp, .gif")):
        ImageFolder(f"{tmp_path}/empty")
    picture(tmp_path / "mixed" / "a.png", 0)
    picture(tmp_path / "mixed" / "cat" / "b.png", 0)
    with refused(f"data.path={tmp_path}/mixed mixes images with folders of images: use one or the other"):
        ImageFolder(f"{tmp_path}/mixed")
    with refused("data.path is needed: a folder of images, or of one folder a class"):
        ImageFolder()


def test_celeba_streams_from_its_archive(tmp_path):
    import zipfile

    from gencli.data.loading import held_out_batches
    from gencli.data.sets.celeba import CelebA

    folder = tmp_path / "celeba"
    with_images = folder / "list_eval_partition.txt"
    folder.mkdir()
    with_images.write_text("".join(f"{i:06}.jpg {min(i // 4, 2)}\n" for i in range(10)))
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for i in range(10):
            picture(tmp_path / "x.jpg", 20 * i, size=(178, 218))
            archive.write(tmp_path / "x.jpg", f"img_align_celeba/{i:06}.jpg")
    data = CelebA(root=str(tmp_path), size=16)
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [4, 4, 2]
    for workers in (0, 2):
        found = [batch.x for _, batch in held_out_batches(data.split("val"), 3, workers=workers)]
        assert [len(x) for x in found] == [3, 1]
        assert (torch.cat(found)[:, 0, 8, 8] - torch.tensor([80, 100, 120, 140])).abs().max() <= 2
    assert len(list(folder.iterdir())) == 2


def test_a_read_only_root_is_read(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.zeros((30, 28, 28), np.uint8)
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(30, np.uint8)))
    for folder in (raw, raw.parent, tmp_path):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(MNIST(root=str(tmp_path)).split("test")) == 30
        assert sorted(p.name for p in raw.iterdir()) == ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    finally:
        for folder in (tmp_path, raw.parent, raw):
            folder.chmod(stat.S_IRWXU)


# --- bits ------------------------------------------------------------------------------------------------------------


def independent(data):
    """Test NLL of independent bits at the training rates, smoothed by half a count."""
    train, test = (data.split(name).x.flatten(1).double() for name in ("train", "test"))
    p = (train.sum(0) + 0.5) / (len(train) + 1)
    return float(-(test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean())


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
    assert data.split("train").x.unique().tolist() == [0, 1]
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
    p = (whole.split("train").x.flatten(1).double() / 255).mean(0).clamp(1e-5, 1 - 1e-5)
    test = gwg.split("test").x.flatten(1).double()
    assert float(-(test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean()) == pytest.approx(205.9, abs=0.2)


def test_refusals_of_binarization():
    with pytest.raises(ValueError, match=r"^data.validation=1000: the protocol iwae has 400 of them$"):
        MNIST(binarization="iwae", validation=1000)
    assert KMNIST(binarization="fixed").binarization == "fixed"
    assert (MNIST().validation, MNIST(binarization="gwg").validation) == (10_000, 10_000)


def test_a_run_on_dynamic_bits_says_so(grey_root, tmp_path):
    import json

    import gencli

    data = ["data=mnist", f"data.root={grey_root}", "data.validation=10", "data.binarization=dynamic"]
    steps = ["trainer.max_steps=3", "trainer.batch_size=8", "logger=none", "n=0", "device=cpu"]
    gencli.train([*data, *steps, "model=made", "model.hidden=[8]", f"run_dir={tmp_path}/run"])
    record = json.loads((tmp_path / "run" / "eval" / "test-exact.json").read_text())
    assert (record["protocol"]["binarization"], record["protocol"]["support"]) == ("dynamic", "binary")
    assert record["bound"] == "exact"
