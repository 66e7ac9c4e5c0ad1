"""Data sets of images: where files lie, damaged and missing ones, and the users' own."""

import gzip
import hashlib
import io
import pickle
import re
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import FETCHED, RNG, Payload, idx, needs_files, refused

from gencli.core.errors import UsageError
from gencli.data.sets.cifar10 import CIFAR10
from gencli.data.sets.image_folder import ImageFolder
from gencli.data.sets.mnist import KMNIST, MNIST, FashionMNIST, read_idx


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


@pytest.mark.slow
@needs_files
def test_mnist_independent_bernoulli_is_near_206_nats():
    data = MNIST()
    p = (data.split("train").x.flatten(1).double() / 255).mean(0).clamp(1e-4, 1 - 1e-4)
    x = data.split("test").x.flatten(1).double() / 255
    assert float(-(x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean()) == pytest.approx(206, abs=1)


@pytest.mark.slow
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


def picture(path, grey, size=(10, 8)):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, 0, 255 - grey)).save(path)


def test_image_folder_with_classes(tmp_path):
    for i in range(20):
        picture(tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i:02}.png", i)
    data = ImageFolder(str(tmp_path / "pets"), size=4)
    assert (data.name, data.spec.shape, data.class_names()) == ("pets", (3, 4, 4), ["cat", "dog"])
    assert data.spec.classes == 2
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
    with pytest.raises(UsageError, match=re.escape(f"data.path={tmp_path}/empty: there are no training images (.bmp")):
        _ = ImageFolder(f"{tmp_path}/empty").spec
    picture(tmp_path / "mixed" / "a.png", 0)
    picture(tmp_path / "mixed" / "cat" / "b.png", 0)
    with refused(f"data.path={tmp_path}/mixed: it mixes images with folders of images: use one or the other"):
        _ = ImageFolder(f"{tmp_path}/mixed").spec
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
