"""Tables of typed files, parquet and npz, as columns: numbers and truth values as they are, all else as texts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from gencli.core.errors import UsageError, quoted
from gencli.core.integers import HELD


def objects(cells: Iterable[str]) -> np.ndarray:
    """(N,) texts."""
    return np.array([*cells], dtype=object)


def of_parquet(content: bytes, where: str) -> list[tuple[str, np.ndarray]]:
    """Names and cells of the columns of a parquet file.

    Raises:
        UsageError: pyarrow is missing, or a column is of another kind.
    """
    try:
        from pyarrow import compute, parquet, types
    except ImportError as error:
        raise UsageError(f"{where} is parquet, which needs pyarrow: pip install gencli-nll[parquet]") from error
    table = parquet.ParquetFile(io.BytesIO(content)).read()
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        whole = types.is_integer(kind) or (types.is_decimal(kind) and kind.scale <= 0)
        if types.is_dictionary(column.type):
            column = column.cast(kind)
        if not column.null_count and (types.is_boolean(kind) or types.is_integer(kind)):
            cells = column.to_numpy()
        elif whole and any(abs(cell) > HELD for cell in compute.min_max(column).as_py().values() if cell is not None):
            cells = objects("" if cell is None else str(int(cell)) for cell in column.to_pylist())
        elif numeric:
            cells = column.cast("float64").to_numpy()
        elif types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_null(kind):
            cells = objects("" if cell is None else str(cell).strip() for cell in column.to_pylist())
        else:
            raise UsageError(f"{where}: column '{quoted(name)}' is {kind}: numbers, texts or truth values are needed")
        columns.append((name.strip(), cells))
    return columns


def of_npz(content: bytes, where: str) -> list[tuple[str, np.ndarray]]:
    """Names and arrays of an ``.npz`` file.

    Raises:
        UsageError: an array is none of numbers or texts (N,).
    """
    columns: list[tuple[str, Any]] = []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for name in arrays.files:
            cells = arrays[name]
            if cells.ndim != 1 or cells.dtype.kind not in "biufUS":
                raise UsageError(
                    f"{where}: key '{quoted(name)}' is {cells.dtype}{list(cells.shape)}: one array (N,) of numbers or "
                    "texts a column is needed (data=array reads others)"
                )
            if columns and len(cells) != len(columns[0][1]):
                raise UsageError(
                    f"{where}: '{quoted(name)}' has {len(cells)} rows, '{quoted(columns[0][0])}' {len(columns[0][1])}"
                )
            if cells.dtype.kind == "S":
                cells = np.char.decode(cells, "utf-8")
            columns.append(
                (name.strip(), objects(map(str.strip, cells.tolist())) if cells.dtype.kind == "U" else cells)
            )
    return columns
