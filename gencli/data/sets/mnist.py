"""MNIST and the sets in its format (IDX): 70,000 grey images of 28x28 pixels in 10 classes.

The published ``.gz`` files are read where they lie, root/<folder>/raw/, after a check of their MD5; torchvision
downloads what is missing. Uncompressed files beside them are taken as they are.

Grey images become bits by a named protocol, whose numbers never compare with those of another; x is a pixel, 0..255:

- ``none``: grey levels as they are.
- ``threshold``: 1 where x > 127.
- ``fixed``: every image drawn once, 1 with probability x / 255, and kept: the same bits in every epoch.
- ``dynamic``: training images drawn anew at each visit; validation and test are the draws of ``fixed``.
- ``iwae``: ``dynamic`` with the split of "Importance weighted autoencoders" (Burda, Grosse and Salakhutdinov, 2016):
  59,600 training and 400 validation images. There the test images are drawn anew at each measurement; here once.
- ``gwg``: ``dynamic``, 50,000/10,000/10,000, with the held-out draws of "VAE with a VampPrior" (Tomczak and Welling,
  2018), which "Oops I took a gradient" (Grathwohl et al., 2021) took over: numpy's seed 777, validation, then test.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Noise
from gencli.core.options import Range
from gencli.core.spec import Spec, Support
from gencli.data.base import Split
from gencli.data.lazy import OfficialSplits
from gencli.data.root import fetch
from gencli.data.split import SPLITS, TensorSplit

_ANEW = ("dynamic", "iwae", "gwg")
"""Protocols that draw training images at each visit."""

_VALIDATION = {"iwae": 400, "gwg": 10_000}
"""Validation images that a published protocol fixes."""


Validation = Annotated[int, Range(low=0, high=59_999)]
Protocol = Literal["none", "threshold", "fixed", "dynamic"]


class IDX(OfficialSplits):
    """Images in the format of MNIST: the official 60,000 and 10,000; validation is the last images of the 60,000.

    Args:
        root: the folder of data files.
        download: whether missing files may be fetched.
        validation: size of the validation split; 0: there is none.
        binarization: the protocol; ``none`` or None: grey levels.

    Raises:
        UsageError: (by ``split``) a file is missing and cannot be downloaded, or is damaged.
    """

    name: str
    shape_kind: ClassVar[str] = "image"
    support: ClassVar[str] = "levels:256"
    folder: ClassVar[str]
    mirrors: ClassVar[tuple[str, ...]]
    checksums: ClassVar[dict[str, str]]

    def __init__(self, root: str | None, download: bool, validation: int, binarization: str | None) -> None:
        super().__init__(root, download, validation)
        self.raw = self.root / self.folder / "raw"
        self.binarization = None if binarization == "none" else binarization
        support = Support.parse(self.support if self.binarization is None else "binary")
        self.spec = Spec((1, 28, 28), support, classes=10)
        self._grey: TensorSplit | None = None

    def load(self, name: str) -> Split | None:
        split = super().load(name)
        if split is None or self.binarization is None:
            return split
        assert isinstance(split, TensorSplit)
        return TensorSplit(self._bits(split.x, name), split.y)

    def training(self) -> Split | None:
        if self.binarization not in _ANEW:
            return super().training()
        if self._grey is None:
            grey = super().load("train")
            assert isinstance(grey, TensorSplit)
            self._grey = grey
        return self._grey

    def augment(self, x: Tensor, noise: Noise) -> Tensor:
        """Training images of the protocols that draw anew: grey levels x -> bits, 1 with probability x / 255."""
        return (255 * noise.rand(*x.shape) < x).to(torch.uint8) if self.binarization in _ANEW else x

    def _bits(self, grey: Tensor, name: str) -> Tensor:
        """The one draw of a split that is kept; numpy's RandomState has frozen streams."""
        if self.binarization == "threshold":
            return (grey > 127).to(torch.uint8)
        if self.binarization == "gwg" and name != "train":
            stream = np.random.RandomState(777)
            if name == "test":  # the validation images come first in the stream
                held = super().load("val")
                assert isinstance(held, TensorSplit)
                stream.binomial(1, _probability(held.x))
            return torch.from_numpy(stream.binomial(1, _probability(grey)).astype(np.uint8))
        stream = np.random.RandomState(SPLITS.index(name))
        bits = [255 * stream.random_sample(tuple(part.shape)) < part.numpy() for part in grey.split(1000)]
        return torch.from_numpy(np.concatenate(bits).astype(np.uint8))

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        stem = "t10k" if part == "test" else "train"
        x = torch.from_numpy(self._read(f"{stem}-images-idx3-ubyte.gz")).unsqueeze(1)
        y = torch.from_numpy(self._read(f"{stem}-labels-idx1-ubyte.gz")).long()
        if tuple(x.shape[1:]) != self.spec.shape or len(x) != len(y):
            raise UsageError(
                f"{self.raw}: these files do not hold {self.name}: images {tuple(x.shape)}, {len(y)} labels"
            )
        return x, y

    def _read(self, filename: str) -> np.ndarray:
        plain = self.raw / filename.removesuffix(".gz")
        if plain.is_file() and not (self.raw / filename).exists():
            return read_idx(plain.read_bytes(), plain)
        urls = [mirror + filename for mirror in self.mirrors]
        path = fetch(self.raw / filename, self.checksums[filename], urls, self.download)
        return read_idx(gzip.decompress(path.read_bytes()), path)


class MNIST(IDX):
    """Handwritten digits ("Gradient-based learning applied to document recognition", LeCun et al., 1998).

    Args:
        root: the folder of data files.
        validation: size of the validation split; 0: there is none; None: 10,000, or what the protocol says.
        binarization: the protocol.
        download: whether missing files may be fetched.

    Raises:
        ValueError: another size of the validation split than the protocol's.
    """

    name = "mnist"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"
    folder = "MNIST"
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(
        self,
        root: str | None = None,
        validation: Validation | None = None,
        binarization: Literal["none", "threshold", "fixed", "dynamic", "iwae", "gwg"] | None = "none",
        download: bool = True,
    ) -> None:
        published = _VALIDATION.get(binarization or "none", validation)
        if validation not in (None, published):
            raise ValueError(f"data.validation={validation}: the protocol {binarization} has {published} of them")
        super().__init__(root, download, 10_000 if published is None else published, binarization)


class FashionMNIST(IDX):
    """Articles of clothing ("Fashion-MNIST: a novel image dataset", Xiao, Rasul and Vollgraf, 2017).

    Args:
        root: the folder of data files.
        validation: size of the validation split; 0: there is none.
        binarization: the protocol.
        download: whether missing files may be fetched.
    """

    name = "fashion_mnist"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"
    folder = "FashionMNIST"
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }

    def __init__(
        self,
        root: str | None = None,
        validation: Validation = 10_000,
        binarization: Protocol | None = "none",
        download: bool = True,
    ) -> None:
        super().__init__(root, download, validation, binarization)


class KMNIST(IDX):
    """Cursive Japanese characters ("Deep learning for classical Japanese literature", Clanuwat et al., 2018).

    Args:
        root: the folder of data files.
        validation: size of the validation split; 0: there is none.
        binarization: the protocol.
        download: whether missing files may be fetched.
    """

    name = "kmnist"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"
    folder = "KMNIST"
    mirrors = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",)
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    }

    def __init__(
        self,
        root: str | None = None,
        validation: Validation = 10_000,
        binarization: Protocol | None = "none",
        download: bool = True,
    ) -> None:
        super().__init__(root, download, validation, binarization)


def _probability(grey: Tensor) -> np.ndarray:
    """Grey levels as the float32 probabilities of the published code."""
    return grey.numpy().astype(np.float32) / np.float32(255)


def read_idx(content: bytes, path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: 0, 0, 8, number of dimensions, the dimensions (big-endian), the bytes.

    Raises:
        UsageError: the content is something else, or cut short.
    """
    dims = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = np.frombuffer(content, ">i4", dims, 4) if dims and len(content) >= 4 + 4 * dims else ()
    if not dims or len(content) != 4 + 4 * dims + int(np.prod(shape)):
        raise UsageError(f"{path} is no whole IDX file of bytes: remove it, or change data.root")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(tuple(shape)).copy()
