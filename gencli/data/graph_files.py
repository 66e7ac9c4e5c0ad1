"""Files of networks: edge lists, adjacency matrices, GraphML, GML, arrays; and tables of their nodes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gencli.core.errors import UsageError, near, quoted
from gencli.data.dialect import MISSING
from gencli.data.lazy import listed

Value = float | str

_HEADS = {"from", "to", "source", "target", "sender", "receiver", "ego", "alter", "i", "j", "node1", "node2"}
"""Words that usually head the columns of an edge list."""


@dataclass(frozen=True)
class Found:
    """Networks on the same nodes, as a file has them.

    Args:
        adjacency: (N, n, n) of 0 and 1, without loops.
        names: of the nodes.
        directed: what the file says; None: it does not say.
        attributes: of the nodes, by name.
        notes: what was left out, a sentence each.
        listed: whether it lists ties, so that nothing is said of their direction.
    """

    adjacency: np.ndarray
    names: list[str]
    directed: bool | None = None
    attributes: dict[str, list[Value]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    listed: bool = False


def read(path: Path, nodes: Sequence[str], *, directed: bool = False) -> Found:
    """The networks of a file.

    Args:
        path: ``.npy`` or ``.npz`` arrays, ``.graphml``, ``.gml``, or text: an edge list or an adjacency matrix.
        nodes: names that are known from elsewhere, of which an edge list need not have all.
        directed: whether a tie of an edge list and its reverse are two.

    Raises:
        UsageError: the file holds something else, or can be read in two ways.
    """
    kind = path.suffix.lower()
    try:
        if kind in (".npy", ".npz"):
            return _arrays(path)
        if kind in (".graphml", ".gml"):
            return _networkx(path, kind)
        return _text(path, nodes, directed)
    except UsageError:
        raise
    except Exception as error:  # networkx, numpy and zipfile raise errors of many kinds over a damaged file
        raise _error(path, f"cannot be read as a network: {quoted(error, 200)}") from error


def read_nodes(path: Path) -> tuple[list[str], dict[str, list[Value]]]:
    """Names, and attributes by name, of a table with a header, whose first column names the nodes.

    Raises:
        UsageError: the table is none, or a cell is empty.
    """
    rows = _rows(path, "data.nodes")
    if len(rows) < 2 or len(rows[0]) < 1 or any(len(row) != len(rows[0]) for row in rows):
        raise UsageError(f"data.nodes={path}: a header and a row for each node, all of the same length, are needed")
    names = [row[0] for row in rows[1:]]
    _unique(names, f"data.nodes={path}")
    columns = {}
    for k, column in enumerate(rows[0][1:], start=1):
        cells = [row[k] for row in rows[1:]]
        if "" in cells:
            raise UsageError(f"data.nodes={path}: column '{quoted(column)}' has no value for {names[cells.index('')]}")
        columns[column] = _plain(cells)
    return names, columns


def _plain(cells: Sequence[Any]) -> list[Value]:
    """Numbers where all cells are finite numbers, else texts."""
    try:
        numbers = [float(cell) for cell in cells]
    except (TypeError, ValueError):
        return [str(cell) for cell in cells]
    return list(numbers) if all(map(math.isfinite, numbers)) else [str(cell) for cell in cells]


def _arrays(path: Path) -> Found:
    content = np.load(path, allow_pickle=False)
    if not isinstance(content, np.ndarray):
        with content:
            if len(content.files) != 1:
                raise _error(path, f"one array is needed; found {listed(content.files)}")
            content = content[content.files[0]]
    matrices = content[None] if content.ndim == 2 else content
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or 0 in matrices.shape:
        raise _error(path, f"an array of shape {content.shape}: (n, n) or (N, n, n) is needed")
    return _found(path, matrices, [str(k) for k in range(1, matrices.shape[1] + 1)])


def _networkx(path: Path, kind: str) -> Found:
    import networkx as nx  # half a second, which other data need not wait for

    if kind == ".graphml":
        graph = nx.read_graphml(path)
    else:
        try:
            graph = nx.read_gml(path)
        except nx.NetworkXError:  # nodes without labels
            graph = nx.read_gml(path, label="id")
    keys = {key for _, own in graph.nodes(data=True) for key in own}
    attributes = {}
    for key in sorted(keys):
        cells = [own.get(key) for _, own in graph.nodes(data=True)]
        if None not in cells:
            attributes[str(key)] = _plain(cells)
    matrix = nx.to_numpy_array(graph, weight=None)[None]
    found = _found(path, matrix, [str(node) for node in graph.nodes])
    return replace(found, directed=graph.is_directed(), attributes=attributes)


def _text(path: Path, nodes: Sequence[str], directed: bool) -> Found:
    rows = _rows(path, "data.path")
    if not rows:
        raise _error(path, "it is empty")
    width = len(rows[0])
    if len(rows) == width and all(len(row) == width for row in rows) and (found := _square(path, rows, nodes)):
        return found
    if any(len(row) not in (2, 3) for row in rows):
        raise _error(path, "an edge list has two columns, from and to (a third, the weight, counts as a tie if not 0)")
    skipped = int(_heading(path, rows, nodes))
    named = {name for row in rows[skipped:] for name in row[:2]}
    for name in sorted(named - set(nodes)) if nodes else ():
        raise _error(path, f"node '{quoted(name)}' is not one of data.nodes. {quoted(near(name, nodes), 200)}")
    names = list(nodes) or _in_order(named)
    found = _found(path, _ties(path, rows, skipped, names, directed)[None], names)
    said = [f"heading {quoted(','.join(rows[0]))} skipped"] * skipped
    return replace(found, listed=True, notes=[*said, *found.notes])


def _square(path: Path, rows: list[list[str]], nodes: Sequence[str]) -> Found | None:
    """The adjacency matrix that as many rows as columns are; None: they are ties.

    Raises:
        UsageError: they may be either.
    """
    width = len(rows)
    names = [str(k) for k in range(1, width + 1)]
    named = rows[0][1:] == [row[0] for row in rows[1:]] and len(set(rows[0])) == width > 2
    if named and not _is_number(rows[0][0]):
        return _found(path, _matrix(path, [row[1:] for row in rows[1:]])[None], rows[0][1:])
    if width > 3 and named:  # as the first row and column of any symmetric matrix are alike
        which = "if they are names, write a word in the corner; if not, save the matrix as .npy"
        raise _error(path, f"row 1 and column 1 may be names or weights: {which}")
    if width > 3:
        return _found(path, _matrix(path, rows)[None], names)
    if not all(_is_number(cell) for row in rows for cell in row):
        return None
    matrix = _matrix(path, rows)
    bits, plain = bool(np.isin(matrix, (0, 1)).all()), bool((matrix == matrix.T).all() and not matrix.diagonal().any())
    if not bits and not (plain and width == 3):
        return None
    no_ties = not {cell for row in rows for cell in row[:2]} <= set(nodes)
    if no_ties if nodes else bits and plain and width == 3:
        found = _found(path, matrix[None], names)
        return replace(
            found, notes=[f"{width} rows of {width} numbers are read as a matrix, not as ties", *found.notes]
        )
    way = "if a matrix, save it as .npy; if ties, put a heading above them, source and target"
    what = f"{width} rows of {width} numbers may be a matrix or ties"
    raise _error(path, f"{what}: {way}{' and weight' * (width == 3)}")


def _heading(path: Path, rows: list[list[str]], nodes: Sequence[str]) -> bool:
    """Whether the first row of an edge list names its columns.

    Raises:
        UsageError: it may as well be a tie.
    """
    words, others = set(rows[0][:2]), {name for row in rows[1:] for name in row[:2]}
    if nodes:
        return not words & set(nodes)
    usual = {word.lower() for word in words} <= _HEADS
    if not words & others:
        if usual or not all(_is_number(cell) or cell.lower() in MISSING for cell in rows[0][2:]):  # a word, no weight
            return True
        if all(map(_is_number, words)) and rows[0][:2] != ["0", "1"]:  # which pandas calls columns without names
            return False
    elif not usual:
        return False
    way = "if a heading, call its columns source and target; if a tie, put such a heading above it, or give data.nodes"
    raise _error(path, f"row 1 ({quoted(', '.join(rows[0]))}) may be a heading or a tie: {way}")


def _ties(path: Path, rows: list[list[str]], skipped: int, names: Sequence[str], directed: bool) -> np.ndarray:
    """Weights (n, n) of an edge list.

    Raises:
        UsageError: a weight is no number, or a tie is there and is not.
    """
    at = {name: k for k, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    seen: dict[tuple[int, int], tuple[bool, int]] = {}
    for number, row in enumerate(rows[skipped:], start=skipped + 1):
        if not all(map(_is_number, row[2:])):
            raise _error(path, f"row {number}: the weight '{quoted(row[2])}' is no number")
        i, j = at[row[0]], at[row[1]]
        matrix[i, j] = float(row[2]) if len(row) == 3 else 1.0
        there, before = seen.setdefault((i, j) if directed else (min(i, j), max(i, j)), (matrix[i, j] != 0, number))
        if there != (matrix[i, j] != 0):
            turned = "" if directed or row[:2] == rows[before - 1][:2] else " (data.directed=true: these are two)"
            tie = quoted(f"{row[0]}, {row[1]}")
            raise _error(
                path, f"rows {before} and {number} contradict each other: one has the tie {tie}, one not{turned}"
            )
    return matrix


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _in_order(names: set[str]) -> list[str]:
    """Numbers by value, else texts by text."""
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def _matrix(path: Path, rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array([[float(cell) for cell in row] for row in rows])
    except ValueError as error:
        raise _error(path, f"a matrix of numbers is needed: {quoted(error)}") from error


def _found(path: Path, matrices: np.ndarray, names: list[str]) -> Found:
    """Matrices of any numbers as ties, without loops."""
    if matrices.dtype.kind not in "biuf" or not np.isfinite(matrices).all():
        raise _error(path, "ties are numbers, 0 for none, and none is missing")
    _unique(names, f"data.path={path}")
    if len(names) < 2:
        raise _error(path, "a network has two nodes or more")
    ties = (matrices != 0).astype(np.uint8)
    notes = []
    if not np.isin(matrices, (0, 1)).all():
        notes.append("weights are not read: any but 0 is a tie")
    diagonal = np.arange(len(names))
    if ties[:, diagonal, diagonal].any():
        notes.append(f"{int(ties[:, diagonal, diagonal].sum())} loops are left out")
        ties[:, diagonal, diagonal] = 0
    return Found(ties, names, notes=notes)


def _rows(path: Path, key: str) -> list[list[str]]:
    """Cells of a text file: tabs, commas, semicolons or spaces; lines that begin with # are comments."""
    try:
        lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip() and line[0] != "#"]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{key}={path}: not a text in UTF-8: {quoted(error, 200)}") from error
    mark = next((mark for mark in "\t,;" if lines and mark in lines[0]), None)
    if mark is None:
        return [line.split() for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]


def _unique(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: node '{quoted(twice)}' is there twice")


def _error(path: Path, text: str) -> UsageError:
    return UsageError(f"data.path={path}: {text}")


def reordered(found: Found, names: Sequence[str]) -> np.ndarray:
    """Adjacency matrices (N, n, n) with the nodes in another order.

    Raises:
        LookupError: a node is missing.
    """
    at: Mapping[str, int] = {name: k for k, name in enumerate(found.names)}
    order = [at[name] for name in names]
    return found.adjacency[:, order][:, :, order]
