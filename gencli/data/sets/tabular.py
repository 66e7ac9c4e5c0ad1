"""The five tables on which flows are compared, in the protocol of their first use.

"Masked autoregressive flow for density estimation" (Papamakarios, Pavlakou and Murray, 2017) fixed the columns, the
splits and the standardisation; likelihoods are of the standardised values, as in every paper since. The files are those
of the record at zenodo.org/records/1161203 (data.tar.gz), unpacked below data.root by the user.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from gencli.core.errors import UsageError, quoted
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, need
from gencli.data.split import SPLITS, TensorSplit

_SOURCE = "fetch data.tar.gz from https://zenodo.org/records/1161203 by hand and put its file"

_TABLES = (
    r"pandas|pandas\.(core\.)?(frame|index|indexes\.\w+|internals(\.\w+)?)|pandas\._libs\.internals"
    r"|numpy(\._?core\.(multiarray|numeric))?"
)
"""Modules that may define a part of a table."""

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class Tabular(Lazy):
    """A table of the protocol; a member says which file it reads and how.

    Args:
        root: the folder of data files.

    Raises:
        UsageError: (by ``split``) the file is missing, or is another one.
    """

    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    file: ClassVar[str]
    dim: ClassVar[int]

    def __init__(self, root: str | None = None) -> None:
        super().__init__()
        self.root = data_root(root)
        self.spec = Spec((self.dim,), Support.parse(self.support))
        self._arrays: Arrays | None = None

    def _path(self, file: str) -> Path:
        return need(self.root / file, f"{_SOURCE} {file} there")

    @abstractmethod
    def arrays(self) -> Arrays:
        """Training, validation and test rows, standardised."""

    def load(self, name: str) -> TensorSplit:
        if self._arrays is None:  # one file holds all splits
            self._arrays = self.arrays()
            width = self._arrays[0].shape[1]
            if width != self.dim:
                raise UsageError(f"{self.root / self.file} gives {width} columns instead of {self.dim}: another file?")
        x = self._arrays[SPLITS.index(name)]
        return TensorSplit(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)))


class Power(Tabular):
    """Electric power consumption of a household: 6 columns, 2,049,280 rows, made continuous by noise."""

    name = "power"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    file = "power/data.npy"
    dim = 6

    def arrays(self) -> Arrays:
        rng = np.random.RandomState(42)
        data = np.load(self._path(self.file), allow_pickle=False)
        rng.shuffle(data)
        n = len(data)
        data = np.delete(data, [1, 3], axis=1)
        voltage, gap, meters = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1), rng.rand(n, 3)
        return standardised(data + np.hstack([gap, voltage, meters, np.zeros((n, 1))]))


class Gas(Tabular):
    """Chemical sensors exposed to gas mixtures: 8 columns, 1,052,065 rows."""

    name = "gas"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    file = "gas/ethylene_CO.pickle"
    dim = 8

    def arrays(self) -> Arrays:
        table = read_frame(self._path(self.file)).drop(columns=["Meth", "Eth", "Time"])
        # Of columns that correlate by more than 0.98, only the last one stays.
        while (many := (table.corr() > 0.98).to_numpy().sum(1) > 1).any():
            table = table.drop(columns=table.columns[np.flatnonzero(many)[0]])
        return held_out(((table - table.mean()) / table.std()).to_numpy())


class Hepmass(Tabular):
    """Particle collisions, signal only: 21 columns, 525,123 rows."""

    name = "hepmass"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    file = "hepmass/1000_train.csv"
    dim = 21

    def arrays(self) -> Arrays:
        import pandas as pd

        train = pd.read_csv(self._path(self.file), index_col=False)
        test = pd.read_csv(self._path("hepmass/1000_test.csv"), index_col=False)
        x, x_test = train.to_numpy(), test.to_numpy()
        # The first column is the class; the test file has one more column at the end.
        x, x_test = x[x[:, 0] == 1, 1:], x_test[x_test[:, 0] == 1, 1:]
        x_test = x_test[:, : x.shape[1]]
        mean, std = x.mean(0), x.std(0, ddof=1)
        # The protocol drops columns whose smallest value occurs more than five times.
        keep = (x == x.min(0)).sum(0) <= 5
        x, x_test = ((x - mean) / std)[:, keep], ((x_test - mean) / std)[:, keep]
        first = len(x) - int(0.1 * len(x))
        return x[:first], x[first:], x_test


class Miniboone(Tabular):
    """Neutrino events: 43 columns, 36,488 rows; outliers and discrete columns are gone from the published file."""

    name = "miniboone"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    file = "miniboone/data.npy"
    dim = 43

    def arrays(self) -> Arrays:
        return standardised(np.load(self._path(self.file), allow_pickle=False))


class BSDS300(Tabular):
    """8x8 patches of natural images without their mean, last pixel dropped: 63 columns; needs h5py."""

    name = "bsds300"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"
    file = "BSDS300/BSDS300.hdf5"
    dim = 63

    def arrays(self) -> Arrays:
        path = self._path(self.file)
        try:
            import h5py
        except ImportError as error:
            raise UsageError("data=bsds300 is an HDF5 file: pip install h5py") from error
        with h5py.File(path, "r") as file:
            return file["train"][:], file["validation"][:], file["test"][:]


def held_out(data: np.ndarray) -> Arrays:
    """The last tenth is the test split, the last tenth of the rest the validation split."""
    data, test = np.split(data, [len(data) - int(0.1 * len(data))])
    train, val = np.split(data, [len(data) - int(0.1 * len(data))])
    return train, val, test


def standardised(data: np.ndarray) -> Arrays:
    """``held_out``, with mean and deviation of training and validation rows together."""
    train, val, test = held_out(data)
    seen = np.vstack([train, val])
    mean, std = seen.mean(0), seen.std(0)
    return (train - mean) / std, (val - mean) / std, (test - mean) / std


def read_frame(path: Path) -> Any:
    """A pandas table that was published as a pickle, which may name nothing but parts of tables.

    Raises:
        UsageError: it names something else, or is no table.
    """
    import pandas as pd
    from pandas.compat import pickle_compat

    class Unpickler(pickle_compat.Unpickler):  # knows the names of older versions of pandas
        def find_class(self, module: str, name: str) -> Any:
            module = module.replace("pandas.indexes.", "pandas.core.indexes.")  # where indexes lay before pandas 0.20
            parts = {"DataFrame", "BlockManager", "Index", "RangeIndex", "Int64Index", "Float64Index", "_new_Index"}
            parts |= {"new_block", "_unpickle_block", "ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer"}
            known = name in parts and re.fullmatch(_TABLES, module)  # a module is imported before the name is looked up
            if not (
                known or (module, name) in {("builtins", "slice"), ("__builtin__", "slice"), ("_codecs", "encode")}
            ):
                raise UsageError(f"{path} names {module}.{name}, which is no part of a table: it is not loaded")
            return super().find_class(module, name)

    try:
        with path.open("rb") as file:
            table = Unpickler(file, encoding="latin1").load()
    except UsageError:
        raise
    except Exception as error:  # a damaged pickle ends in errors of all kinds
        raise UsageError(f"{path} cannot be read by pandas {pd.__version__}: {quoted(error, 200)}") from error
    if not isinstance(table, pd.DataFrame):
        raise UsageError(f"{path} holds no table")
    return table
