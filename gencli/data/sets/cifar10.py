"""CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes, read from the published archive."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.options import Range
from gencli.core.spec import Spec, Support
from gencli.data.lazy import OfficialSplits
from gencli.data.root import fetch

_ARCHIVE = "cifar-10-python.tar.gz"
_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
_URL = f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}"
_FOLDER = "cifar-10-batches-py"
_BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


class CIFAR10(OfficialSplits):
    """Small photographs ("Learning multiple layers of features from tiny images", Krizhevsky, 2009).

    The official 50,000 and 10,000; validation is the last ``validation`` images of the 50,000. Read from
    root/cifar-10-python.tar.gz where it lies, or from root/cifar-10-batches-py/ where somebody unpacked it.

    Args:
        root: the folder of data files.
        validation: size of the validation split; 0: there is none.
        download: whether missing files may be fetched.

    Raises:
        UsageError: (by ``split``) the archive is missing and cannot be downloaded, or is damaged.
    """

    name = "cifar10"
    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"

    def __init__(
        self,
        root: str | None = None,
        validation: Annotated[int, Range(low=0, high=49_999)] = 5_000,
        download: bool = True,
    ) -> None:
        super().__init__(root, download, validation)
        self.spec = Spec((3, 32, 32), Support.parse(self.support), classes=10)

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        batches = self._batches(["test_batch"] if part == "test" else sorted(_BATCHES)[:5])
        x = torch.from_numpy(np.concatenate([np.asarray(b["data"], np.uint8) for b in batches])).view(-1, 3, 32, 32)
        y = torch.tensor([label for b in batches for label in b["labels"]])
        return x, y

    def _batches(self, names: list[str]) -> list[dict[Any, Any]]:
        if (self.root / _FOLDER).is_dir():
            return [_unpickled(self.root / _FOLDER / n) for n in names]
        archive = fetch(self.root / _ARCHIVE, _ARCHIVE_MD5, [_URL], self.download)
        found = {}
        with tarfile.open(archive) as tar:  # in one pass: going back in a gzip stream starts it again
            for member in tar:
                name = Path(member.name).name
                if name in names and (file := tar.extractfile(member)):
                    found[name] = _unpickled(archive.parent / _FOLDER / name, file.read())
        return [found[n] for n in names]


def _unpickled(path: Path, content: bytes | None = None) -> dict[Any, Any]:
    """A batch, which is a pickle: these very bytes must have the published checksum before they are loaded."""
    if content is None:
        content = path.read_bytes() if path.is_file() else b""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != _BATCHES[path.name]:
        raise UsageError(
            f"{path} is missing or damaged: fetch {_URL} into {path.parents[1]}/ and remove {path.parent}/"
        )
    return pickle.loads(content, encoding="latin1")
