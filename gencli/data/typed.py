"""Tables of typed files, parquet and npz, as columns: numbers and truth values as they are, all else as texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from gencli.core.errors import UsageError, quoted
from gencli.core.integers import HELD
from gencli.data.room import room


def objects(cells: Iterable[str]) -> np.ndarray:
    """(N,) texts."""
    return np.array([*cells], dtype=object)


@dataclass(frozen=True)
class Columns:
    """What a file holds.

    Args:
        names: of the columns.
        cells: (N,) each: numbers, truth values, or texts (dtype object, stripped).
        values: (N, K) in fp64, of which columns of finite numbers, none of them rounded, are views; None: there is no
            such array.
        places: which of the K these columns are, by their number.
        first: cells of the first row, as the file writes them; none: as they are.
    """

    names: list[str]
    cells: list[np.ndarray]
    values: np.ndarray | None = None
    places: Mapping[int, int] = field(default_factory=dict)
    first: Sequence[str] = ()


def of_parquet(file: BinaryIO, where: str, texts: Collection[str], memory: float) -> Columns:
    """The columns of a parquet file, which is read some rows at a time.

    Args:
        file: it.
        where: the file, as messages name it.
        texts: columns that are wanted as texts.
        memory: GB of numbers that are kept in memory (``room``).

    Raises:
        UsageError: pyarrow is missing, a column is of another kind, or there is no room.
        ValueError: the file has more or fewer rows than it says.
    """
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise UsageError(f"{where} is parquet, which needs pyarrow: pip install gencli-nll[parquet]") from error
    source = parquet.ParquetFile(file)
    names, kinds, rows = source.schema_arrow.names, source.schema_arrow.types, source.metadata.num_rows
    numeric = [k for k, kind in enumerate(kinds) if types.is_integer(kind) or types.is_floating(kind)]
    at = {k: j for j, k in enumerate(k for k in numeric if names[k].strip() not in texts)}
    values = room((rows, len(at)), memory)
    others: dict[int, list[Any]] = {k: [] for k in range(len(names)) if k not in at}
    finite, held, first = {*at}, {*at}, dict.fromkeys(at, "")
    n = 0
    for batch in source.iter_batches():
        for k, chunks in others.items():
            chunks.append(batch.column(k))
        for k, j in at.items():
            column, there = batch.column(k), values[n : n + batch.num_rows, j]
            there[:] = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
            if not np.isfinite(there).all():
                finite.discard(k)
            if types.is_integer(column.type) and (np.abs(there) >= HELD).any():
                held.discard(k)
            if n == 0 and batch.num_rows and (cell := column[0].as_py()) is not None:
                first[k] = str(cell)
        n += batch.num_rows
    if n != rows:
        raise ValueError(f"it has {n} rows and says {rows}")
    cells = []
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if k in held:
            cells.append(values[:, at[k]])
        else:  # as they are; a column may have the name of another, and is taken by its number
            chunks = others[k] if k in others else [batch.column(k) for batch in source.iter_batches()]
            cells.append(_cells(pyarrow.chunked_array(chunks, kind), f"{where}: column '{quoted(name)}'"))
    shown = [first[k] if k in held else str(cells[k][0]) for k in range(len(names))] if rows else []
    places = {k: at[k] for k in finite & held}
    return Columns([name.strip() for name in names], cells, values, places, shown)


def _cells(column: Any, where: str) -> np.ndarray:
    """The cells (N,) of a column of pyarrow.

    Raises:
        UsageError: it is of another kind.
    """
    from pyarrow import compute, types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    whole = types.is_integer(kind) or (types.is_decimal(kind) and kind.scale <= 0)
    if types.is_dictionary(column.type):
        column = column.cast(kind)
    if not column.null_count and (types.is_boolean(kind) or types.is_integer(kind)):
        return column.to_numpy()
    if whole and any(abs(cell) > HELD for cell in compute.min_max(column).as_py().values() if cell is not None):
        return objects("" if cell is None else str(int(cell)) for cell in column.to_pylist())
    if numeric:
        return column.cast("float64").to_numpy()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_null(kind):
        return objects("" if cell is None else str(cell).strip() for cell in column.to_pylist())
    raise UsageError(f"{where} is {kind}: numbers, texts or truth values are needed")


def of_npz(file: BinaryIO, where: str) -> Columns:
    """The arrays of an ``.npz`` file as columns.

    Raises:
        UsageError: an array is none of numbers or texts (N,).
    """
    columns: list[tuple[str, Any]] = []
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                cells = arrays[name]
            except ValueError as error:  # Python objects, which would have to be unpickled
                advice = "holds Python objects, which are not loaded: save text as x.astype(str)"
                raise ValueError(f"key '{quoted(name)}' {advice}") from error
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
    return Columns([name for name, _ in columns], [cells for _, cells in columns])
