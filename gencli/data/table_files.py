"""Files of tables: csv, tsv and other text, plain or compressed, parquet, npz with an array a column."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gencli.core.errors import UsageError, quoted
from gencli.data.dialect import Dialect, read_lines
from gencli.data.plain import read_plain
from gencli.data.tables import TYPED, Table
from gencli.data.typed import Columns, objects, of_npz, of_parquet

UNSAID = Dialect()

_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    rb"\x1f\x8b": gzip.decompress,
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.decompress,
    rb"\xfd7zXZ": lzma.decompress,
}
"""By how they begin, with more than the name of a column may have."""

_PARQUET = re.compile(rb"PAR1[^\t\n\r -~]")

_UNNAMED = re.compile(r"(Unnamed: [\d.]+|__index_level_\d+__)?")


def read(
    path: Path,
    dialect: Dialect = UNSAID,
    kept: Dialect = UNSAID,
    names: Collection[str] = (),
    *,
    unnamed: bool = False,
    key: str = "data.path",
    texts: Collection[str] = (),
    memory: float = math.inf,
) -> Table:
    """Read a table.

    Args:
        path: the file; what it is, its first bytes say.
        dialect: what the user says of a text file.
        kept: how the training file was written, where this is another one.
        names: columns that it must have, where they are known.
        unnamed: whether a column without a name is kept (as ``Unnamed: 0``), as older runs had it.
        key: that names the file, for messages.
        texts: columns whose cells are wanted as texts (``Table.texts``).
        memory: GB of numbers that are kept in memory; more of them lie in a file (``room``), where the table is so
            large that its numbers are read at once.

    Raises:
        UsageError: it is no table, or can be read in two ways.
    """
    where = f"{key}={quoted(path, 200)}"
    try:
        with path.open("rb") as opened:
            file: BinaryIO = opened
            for magic, unpack in _PACKED.items():
                if re.match(magic, _start(file)):
                    file = io.BytesIO(unpack(file.read()))
            if _PARQUET.match(_start(file)):
                return _table(where, of_parquet(file, where, texts, memory), unnamed=unnamed)
            if _is_zip(file):
                members = zipfile.ZipFile(file).namelist()
                file.seek(0)
                if all(name.endswith(".npy") for name in members):
                    return _table(where, of_npz(file, where), unnamed=unnamed)
                file = io.BytesIO(_member(file, members, where))
            return _text(file, where, dialect, kept, names, unnamed, texts, memory)
    except UsageError:
        raise
    except Exception as error:  # of every decompressor, numpy and pyarrow over a damaged file
        raise UsageError(f"{where} is no table: {quoted(str(error) or type(error).__name__, 200)}") from error


def _start(file: BinaryIO) -> bytes:
    """The first bytes of a file, which is at its beginning again."""
    file.seek(0)
    start = file.read(16)
    file.seek(0)
    return start


def _is_zip(file: BinaryIO) -> bool:
    """Whether a file is a zip, or begins as one; the first column of a text may be called PK."""
    start, ends_so = _start(file), zipfile.is_zipfile(file)
    file.seek(0)
    return start.startswith(b"PK\x03\x04") or (start.startswith(b"PK") and ends_so)


def _member(file: BinaryIO, members: list[str], where: str) -> bytes:
    """The one file of a zip."""
    if "[Content_Types].xml" in members:
        raise UsageError(f"{where} is a workbook: save its sheet as .csv")
    files = [name for name in members if not name.endswith("/")]
    if len(files) != 1:
        raise UsageError(f"{where} holds {len(files)} files; one table is expected")
    return zipfile.ZipFile(file).read(files[0])


def _text(
    file: BinaryIO,
    where: str,
    dialect: Dialect,
    kept: Dialect,
    names: Collection[str],
    unnamed: bool,
    texts: Collection[str],
    memory: float,
) -> Table:
    """A table of text in UTF-8."""
    plain = None if unnamed else read_plain(file, where, dialect, kept, names, texts, memory)
    if plain is not None:
        top, columns = plain
        return _table(where, columns, top.lines[0], top.dialect, top.notes, unnamed=unnamed)
    file.seek(0)
    content = file.read()
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"{where} is UTF-16: save it as UTF-8")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{where} is no UTF-8 (line {line}): save it as UTF-8") from error
    if "\0" in text:
        raise UsageError(f"{where} is no table: line {text.count(chr(10), 0, text.index(chr(0))) + 1} has a zero byte")
    found = read_lines(text, where, dialect, kept, names)
    cells = zip(*found.rows, strict=True) if found.rows else [() for _ in found.names]
    columns = Columns(found.names, [objects(column) for column in cells])
    return _table(where, columns, np.array(found.lines), found.dialect, found.notes, unnamed=unnamed)


def _table(
    where: str,
    columns: Columns,
    lines: np.ndarray | int | None = None,
    dialect: Dialect = TYPED,
    notes: Iterable[str] = (),
    *,
    unnamed: bool,
) -> Table:
    """Columns by name, without those that only number the rows.

    Raises:
        UsageError: two columns have the same name.
    """
    kept: dict[str, int] = {}
    said, others = list(notes), []
    for k, name in enumerate(columns.names):
        if unnamed:
            name = name or f"Unnamed: {k}"
        elif _UNNAMED.fullmatch(name):
            cells = columns.cells[k]
            if _counts(cells):
                said.append(f"column {k + 1} has no name and counts the rows: it is left out")
            elif cells.dtype == object and not any(cells):
                said.append(f"column {k + 1} has no name and no cells: it is left out")
            else:
                others.append(k + 1)
            continue
        if name in kept:
            raise UsageError(f"{where} has two columns '{quoted(name)}': give each a name of its own")
        kept[name] = k
    return Table(
        where,
        {name: columns.cells[k] for name, k in kept.items()},
        lines,
        dialect,
        tuple(said),
        tuple(others),
        {name: columns.first[k] for name, k in kept.items()} if columns.first else None,
        columns.values,
        {name: columns.places[k] for name, k in kept.items() if k in columns.places},
    )


def _counts(cells: np.ndarray) -> bool:
    """Whether cells are n, n + 1, n + 2 ... from 0 or 1 on."""
    try:
        values = cells.astype(np.float64)
    except ValueError:
        return False
    return bool(len(values) and values[0] in (0, 1) and (np.diff(values) == 1).all())
