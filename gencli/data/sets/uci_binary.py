"""The eight binary tables on which autoregressive models are compared, with the splits of their first use.

"The neural autoregressive distribution estimator" (Larochelle and Murray, 2011) chose them. The files are the .npz of
"MADE: masked autoencoder for distribution estimation" (Germain et al., 2015).
"""

from __future__ import annotations

import zipfile
from typing import ClassVar, Literal

import numpy as np

from gencli.core.errors import UsageError
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, need
from gencli.data.split import TensorSplit, to_support

Table = Literal["adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web"]

COLUMNS: dict[Table, int] = {
    "adult": 123,
    "connect4": 126,
    "dna": 180,
    "mushrooms": 112,
    "nips": 500,
    "ocr_letters": 128,
    "rcv1": 150,
    "web": 300,
}
"""D of each table."""

_KEYS = {"train": "train_data", "val": "valid_data", "test": "test_data"}


class UCIBinary(Lazy):
    """A table of bits with its published splits, read from root/uci_binary/<set>.npz.

    Args:
        set: which table.
        root: the folder of data files.

    Raises:
        UsageError: (by ``split``) the file is missing, or is another one.
    """

    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def __init__(self, set: Table = "mushrooms", root: str | None = None) -> None:
        super().__init__()
        self.set, self.name = set, f"uci_binary_{set}"
        self.path = data_root(root) / "uci_binary" / f"{set}.npz"
        self.spec = Spec((COLUMNS[set],), Support.parse(self.support))

    def load(self, name: str) -> TensorSplit:
        source = f"fetch datasets/{self.set}.npz of https://github.com/mgermain/MADE by hand and put it there"
        path = need(self.path, source)
        try:
            with np.load(path, allow_pickle=False) as file:
                x = file[_KEYS[name]]
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{path} is no file of this suite: {reason}; {source}") from error
        if x.ndim != 2 or x.shape[1] != self.spec.dim:
            raise UsageError(
                f"{path}: {_KEYS[name]} is of shape {x.shape} instead of (N, {self.spec.dim}): another file?"
            )
        return TensorSplit(to_support(x, self.spec.support, f"{path}: {_KEYS[name]}"))
