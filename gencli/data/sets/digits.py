"""The 1,797 handwritten digits of scikit-learn, 8x8 pixels of 17 levels; embedded, so nothing is downloaded."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch

from gencli.core.options import Range
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import TensorSplit

Threshold = Annotated[int, Range(low=0, high=15)]


class Digits(Lazy):
    """8x8 digits in 10 classes ("Optical recognition of handwritten digits", Alpaydin and Kaynak, 1998).

    No official split: ``RandomState(0).permutation`` gives 1297 for training, 200 for validation and 300 for test.

    Args:
        binarize: t: pixels are bits, 1 where the level is above t; None: they are levels. It is the named protocol
            ``> t``.
    """

    name = "digits"
    support: ClassVar[str] = "levels:17"
    shape_kind: ClassVar[str] = "image"

    def __init__(self, binarize: Threshold | None = None) -> None:
        super().__init__()
        self.threshold = binarize
        self.binarization = None if binarize is None else f"> {binarize}"
        support = Support.parse(self.support if binarize is None else "binary")
        self.spec = Spec((1, 8, 8), support, classes=10)

    def load(self, name: str) -> TensorSplit:
        table = _table()
        order = np.random.RandomState(0).permutation(len(table))
        rows = {"train": order[:1297], "val": order[1297:1497], "test": order[1497:]}[name]
        x = torch.from_numpy(table[rows, :64]).view(-1, 1, 8, 8)
        if self.threshold is not None:
            x = (x > self.threshold).to(torch.uint8)
        return TensorSplit(x, torch.from_numpy(table[rows, 64].astype(np.int64)))


@cache
def _table() -> np.ndarray:
    """Scikit-learn's file, (1797, 65): pixels and class; to import scikit-learn for it would take longer than torch."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt") as lines:
        return np.array([line.split(",") for line in lines], dtype=np.float64).astype(np.uint8)
