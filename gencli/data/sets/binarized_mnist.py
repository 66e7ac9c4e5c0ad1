"""Larochelle's binarized MNIST: each image was drawn once from Bernoulli(grey level), and kept.

This is the static set of "On the quantitative analysis of deep belief networks" (Salakhutdinov and Murray, 2008), in
the files of "The neural autoregressive distribution estimator" (Larochelle and Murray, 2011): 50,000, 10,000 and 10,000
rows without labels, text of 784 digits a row. The published ``.amat`` files and gzipped ones (``.amat.gz``) are read
where they lie, root/binarized_mnist/.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from typing import ClassVar

import numpy as np
import torch

from gencli.core.errors import UsageError
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, fetch
from gencli.data.split import TensorSplit

_SOURCE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_FILES = {
    "train": ("binarized_mnist_train.amat", 50_000, "db28b1a6ae0fe70cbd3da91acf46e477"),
    "val": ("binarized_mnist_valid.amat", 10_000, "bf37822a04e94123630de6a7dfd9c9ef"),
    "test": ("binarized_mnist_test.amat", 10_000, "14e41ae11040adba6ab8cb291eda0dd8"),
}
"""File, rows, and MD5 of the uncompressed text."""


class BinarizedMNIST(Lazy):
    """The fixed binary digits, 1x28x28.

    Args:
        root: the folder of data files.
        download: whether missing files may be fetched.

    Raises:
        UsageError: (by ``split``) a file is missing and cannot be downloaded, or is damaged.
    """

    name = "binarized_mnist"
    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "image"
    binarization = "larochelle"

    def __init__(self, root: str | None = None, download: bool = True) -> None:
        super().__init__()
        self.folder, self.download = data_root(root) / "binarized_mnist", download
        self.spec = Spec((1, 28, 28), Support.parse(self.support))

    def load(self, name: str) -> TensorSplit:
        filename, rows, md5 = _FILES[name]
        packed = self.folder / f"{filename}.gz"
        if packed.is_file() and not (self.folder / filename).exists():
            path = packed
            try:
                text = gzip.decompress(packed.read_bytes())
            except (OSError, EOFError, zlib.error) as error:
                raise UsageError(f"{packed} is no whole gzip file ({error}): remove it, or change data.root") from error
            if hashlib.md5(text, usedforsecurity=False).hexdigest() != md5:
                raise UsageError(f"{packed} is damaged (the MD5 of its text is not {md5}): remove it")
        else:
            path = fetch(self.folder / filename, md5, [_SOURCE + filename], self.download)
            text = path.read_bytes()
        return TensorSplit(torch.from_numpy(read_bits(text, rows)).reshape(rows, 1, 28, 28))


def read_bits(text: bytes, rows: int) -> np.ndarray:
    """The digits 0 and 1 of a text whose MD5 is known, (rows, D) uint8."""
    characters = np.frombuffer(text, np.uint8)
    return (characters[characters >= ord("0")] - ord("0")).reshape(rows, -1)
