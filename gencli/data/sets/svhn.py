"""SVHN: colour images of house numbers, 32x32 pixels in 10 classes, read from the published MATLAB files."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from gencli.core.options import Range
from gencli.core.spec import Spec, Support
from gencli.data.lazy import OfficialSplits
from gencli.data.root import fetch

_URL = "http://ufldl.stanford.edu/housenumbers/"
_FILES = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}


class SVHN(OfficialSplits):
    """Street view house numbers ("Reading digits in natural images", Netzer et al., 2011).

    The official 73,257 and 26,032; validation is the last ``validation`` images of the 73,257. Read from
    root/{train,test}_32x32.mat.

    Args:
        root: the folder of data files.
        validation: size of the validation split; 0: there is none.
        download: whether missing files may be fetched.

    Raises:
        UsageError: (by ``split``) a file is missing and cannot be downloaded, or is damaged.
    """

    name = "svhn"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"

    def __init__(
        self,
        root: str | None = None,
        validation: Annotated[int, Range(low=0, high=73_256)] = 5_000,
        download: bool = True,
    ) -> None:
        super().__init__(root, download, validation)
        self.spec = Spec((3, 32, 32), Support.parse(self.support), classes=10)

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        from scipy.io import loadmat

        filename = f"{part}_32x32.mat"
        content = loadmat(fetch(self.root / filename, _FILES[part], [_URL + filename], self.download))
        x = torch.from_numpy(content["X"]).permute(3, 2, 0, 1)  # stored as (H, W, C, N)
        y = torch.from_numpy(content["y"]).flatten().long() % 10  # the digit 0 is stored as 10
        return x, y
