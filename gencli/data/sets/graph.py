"""Your own networks: one that is observed, or many on the same nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from gencli.core.errors import UsageError, near, quoted
from gencli.core.files import named
from gencli.core.options import BelowOne, Seed
from gencli.core.spec import Graph, Spec
from gencli.data.base import Split
from gencli.data.graph_files import Found, read, read_nodes, reordered
from gencli.data.lazy import UserFiles, counted, listed
from gencli.data.networks import BITS, to_dyads
from gencli.data.root import user_path
from gencli.data.split import SPLITS, TensorSplit, leaving, shares


class GraphFile(UserFiles):
    """Networks of a file, one bit a dyad.

    One network is trained on and measured on, and its records say ``in-sample``; many get a fixed seeded split. Of an
    edge list, nodes without ties are known from ``nodes`` only, and the first row is a heading where its words are
    usual ones (source, target ...), or none of ``nodes``.

    Args:
        path: an edge list or an adjacency matrix as text, ``.graphml``, ``.gml``, or ``.npy`` or ``.npz`` with an array
            (n, n) or (N, n, n).
        nodes: a table of the nodes: their names, then a column for each attribute.
        directed: whether i -> j and j -> i are two dyads; None: what GraphML and GML say, or whether a matrix is not
            symmetric; an edge list is undirected.
        val: share of the validation split of many networks.
        test: share of the test split of many networks.
        seed: of that split.

    Raises:
        UsageError: (by ``spec`` and ``split``) a file is missing or holds something else.
    """

    layout: ClassVar[str] = "network"
    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        path: str | None = None,
        nodes: str | None = None,
        directed: bool | None = None,
        val: BelowOne = 0.1,
        test: BelowOne = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__(path, "a network (.csv, .graphml, .gml, .npy)")
        self.nodes = None if nodes is None else named(nodes, "data.nodes=")
        self.directed, self.shares, self.seed = directed, leaving((val, test)), seed

    # --- what the file means -------------------------------------------------------------------------------------

    def understand(self) -> dict[str, Any]:
        found = self._found
        attributes = dict(found.attributes)
        if self.nodes is not None:
            names, columns = self._table
            for name in found.names:
                if name not in names:
                    raise UsageError(
                        f"data.nodes={self.nodes}: no row for node '{name}'. {quoted(near(name, names), 200)}"
                    )
            attributes |= {key: [cells[names.index(n)] for n in found.names] for key, cells in columns.items()}
        directed = self.directed
        if directed is None:
            directed = found.directed
        if directed is None:
            directed = not found.listed and bool((found.adjacency != found.adjacency.transpose(0, 2, 1)).any())
        matrices = self._matrices(found, found.names, directed)
        graph = Graph(len(found.names), directed)
        return {
            "names": found.names,
            "directed": directed,
            "attributes": attributes,
            "networks": len(matrices),
            "sha256": TensorSplit(to_dyads(matrices, graph)).sha256,
        }

    def specify(self, schema: Mapping[str, Any]) -> Spec:
        names, attributes = schema["names"], schema["attributes"]
        if len(names) < 2 or not all(len(values) == len(names) for values in attributes.values()):
            raise ValueError(f"{len(names)} nodes with attributes {list(attributes)}")
        own = tuple((str(key), tuple(values)) for key, values in attributes.items())
        graph = Graph(len(names), bool(schema["directed"]), tuple(map(str, names)), own)
        return Spec((graph.size,), BITS, graph=graph)

    @property
    def in_sample(self) -> bool:  # type: ignore[override]
        """Of one network: that of training, and no other file that the run was given later."""
        return self.meaning["networks"] == 1 and self._every.sha256 == self.meaning["sha256"]

    @property
    def train_on(self) -> str:  # type: ignore[override]
        return "all" if self.meaning["networks"] == 1 else "train"

    def understood(self) -> list[str]:
        if "_found" not in vars(self):
            return []
        graph = self._graph
        lines = [f"{self.name}: {note}" for note in self._found.notes]
        if self.kept:
            return lines
        ties = int(self._every.x.sum())
        many = len(self._every)
        kind = "directed" if graph.directed else "undirected"
        line = f"{self.name}: {many:,} {kind} network{'s' * (many > 1)} of {graph.nodes} nodes, {ties:,} ties"
        if many > 1:
            line += f" in all; {counted({s: len(part) if (part := self.split(s)) else 0 for s in SPLITS})}"
        attributes = [key for key, _ in graph.attributes]
        return [*lines, line + (f"; attributes: {listed(attributes)}" if attributes else "; no attributes")]

    # --- what it holds -------------------------------------------------------------------------------------------

    @cached_property
    def _graph(self) -> Graph:
        graph = self.spec.graph
        assert graph is not None
        return graph

    @cached_property
    def _table(self) -> tuple[list[str], dict[str, list[float | str]]]:
        assert self.nodes is not None
        user_path(str(self.nodes), "a table of nodes", typed=self.typed)
        return read_nodes(self.nodes)

    @cached_property
    def _found(self) -> Found:
        self.opened()
        known = self.meaning["names"] if self.kept else self._table[0] if self.nodes is not None else ()
        directed = self.meaning["directed"] if self.kept else self.directed
        return read(self.path, known, directed=bool(directed))

    def _matrices(self, found: Found, names: list[str], directed: bool) -> Any:
        """Adjacency matrices (N, n, n); an undirected tie is one that is there in either direction."""
        for name in found.names:
            if name not in names:
                raise UsageError(
                    f"data.path={self.path}: node '{name}' is none of the run's. {quoted(near(name, names), 200)}"
                )
        if len(found.names) < len(names):
            raise UsageError(f"data.path={self.path} has {len(found.names)} nodes; the run has {len(names)}")
        matrices = reordered(found, names)
        return matrices if directed else matrices | matrices.transpose(0, 2, 1)

    @cached_property
    def _every(self) -> TensorSplit:
        graph = self._graph
        return TensorSplit(to_dyads(self._matrices(self._found, list(graph.names), graph.directed), graph))

    def whole(self) -> Split | None:
        return self._every

    def load(self, name: str) -> TensorSplit | None:
        if self.meaning["networks"] == 1:
            return None if name == "val" else self._every
        rows = torch.from_numpy(shares(len(self._every), self.shares, self.seed)[name])
        return TensorSplit(self._every.x[rows]) if len(rows) else None


def _close(name: str, names: Sequence[str]) -> str:
    """The nodes that a name may have meant."""
    return quoted(near(name, names), 200)
