"""MNIST and the sets in its format (IDX): 70,000 grey images of 28x28 pixels in 10 classes.

The published ``.gz`` files are read where they lie, root/<folder>/raw/, after a check of their MD5; torchvision
downloads what is missing. Uncompressed files beside them are taken as they are.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.data.lazy import OfficialSplits
from gencli.data.root import data_root, fetch
from gencli.errors import UsageError
from gencli.interfaces import Spec, Support


class MNIST(OfficialSplits):
    """Handwritten digits ("Gradient-based learning applied to document recognition", LeCun et al., 1998).

    The official 60,000 and 10,000; validation is the last ``validation`` images of the 60,000.

    Args:
        root: the folder of data files.
        validation: size of the validation split; 0: there is none.

    Raises:
        ValueError: validation is not in 0..59999.
        UsageError: (by ``split``) a file is missing and cannot be downloaded, or is damaged.
    """

    name = "mnist"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"
    folder: ClassVar[str] = "MNIST"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    checksums: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(self, root: str | None = None, validation: int = 10_000) -> None:
        super().__init__(validation, total=60_000)
        self.raw = data_root(root) / self.folder / "raw"
        self.spec = Spec((1, 28, 28), Support.parse(self.support), classes=10)

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
        if plain.exists() and not (self.raw / filename).exists():
            return read_idx(plain.read_bytes(), plain)
        urls = [mirror + filename for mirror in self.mirrors]
        path = fetch(self.raw / filename, self.checksums[filename], urls)
        return read_idx(gzip.decompress(path.read_bytes()), path)


class FashionMNIST(MNIST):
    """Articles of clothing ("Fashion-MNIST: a novel image dataset", Xiao, Rasul and Vollgraf, 2017)."""

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


class KMNIST(MNIST):
    """Cursive Japanese characters ("Deep learning for classical Japanese literature", Clanuwat et al., 2018)."""

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
