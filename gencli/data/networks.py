"""Networks as data: an adjacency matrix (n, n) as one bit for each dyad, in the order of ``Graph.dyads``."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gencli.core.spec import Graph, Spec, Support
from gencli.data.base import Split
from gencli.data.lazy import Lazy
from gencli.data.split import TensorSplit

BITS = Support("binary", 2)


def to_dyads(adjacency: np.ndarray, graph: Graph) -> Tensor:
    """Adjacency matrices (N, n, n) of 0 and 1 -> bits (N, D)."""
    i, j = np.array(graph.dyads, dtype=np.int64).reshape(-1, 2).T
    return torch.from_numpy(np.ascontiguousarray(adjacency[:, i, j].astype(np.uint8)))


def to_adjacency(x: Tensor, graph: Graph) -> np.ndarray:
    """Bits (N, D) -> adjacency matrices (N, n, n) of 0 and 1, symmetric where the networks are undirected."""
    i, j = np.array(graph.dyads, dtype=np.int64).reshape(-1, 2).T
    bits = x.cpu().numpy().astype(np.uint8)
    matrices = np.zeros((len(bits), graph.nodes, graph.nodes), dtype=np.uint8)
    matrices[:, i, j] = bits
    if not graph.directed:
        matrices[:, j, i] = bits
    return matrices


class Observed(Lazy):
    """One network, embedded in the package: it is trained on, and it is measured on.

    Nothing is held out, and its records say ``in-sample``: an exponential random graph with a few parameters is judged
    by its maximum likelihood, AIC and BIC.
    """

    layout: ClassVar[str] = "network"
    in_sample = True
    train_on = "all"

    def __init__(self) -> None:
        super().__init__()
        graph, self.adjacency = self.read()
        self.spec = Spec((graph.size,), BITS, graph=graph)

    @abstractmethod
    def read(self) -> tuple[Graph, np.ndarray]:
        """The nodes, and the adjacency matrix (n, n) of 0 and 1."""

    def load(self, name: str) -> Split | None:
        graph = self.spec.graph
        assert graph is not None
        return None if name == "val" else TensorSplit(to_dyads(self.adjacency[None], graph))
