"""The observed network beside simulated ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gencli.core.options import Count
from gencli.core.spec import Graph
from gencli.data.networks import to_adjacency
from gencli.pictures import canvas
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.goodness_of_fit import graph_of, observed_networks
from gencli.run.assembly import Parts
from gencli.run.sampling import draw


@dataclass(frozen=True, kw_only=True)
class NetworkSamples(Picture):
    """One observed network and n - 1 that the run's sampler draws, each laid out by its own springs.

    Args:
        columns: networks in a row.
        most: networks in the picture at most.
    """

    columns: Count = 4
    most: Count = 8

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        graph = graph_of(parts, "networks")
        count = max(2, min(n, self.most))
        simulated = to_adjacency(draw(parts, count - 1, seed).x, graph)
        networks = np.concatenate([observed_networks(parts, 1), simulated])
        columns = min(self.columns, count)
        rows = -(-count // columns)
        figure, axes = canvas.figure(columns, 2.8 * columns, 3.0 * rows, rows)
        for k, axis in enumerate(np.ravel(axes)):
            axis.set_axis_off()
            if k < count:
                _network(axis, networks[k], graph, seed)
                ties = int(networks[k].sum()) // (1 if graph.directed else 2)
                axis.set_title(f"{'simulated' if k else 'observed'}, {ties} ties", fontsize=9)
        return Drawn({".png": canvas.save(figure)})


def _network(axis: Any, adjacency: np.ndarray, graph: Graph, seed: int) -> None:
    """Nodes where springs pull them, coloured by the first attribute that has few values."""
    import networkx as nx  # half a second, which other pictures need not wait for

    kind = nx.DiGraph if graph.directed else nx.Graph
    network = nx.from_numpy_array(adjacency, create_using=kind)
    places = nx.spring_layout(network, seed=seed)
    colour: Any = "tab:blue"
    for _, values in graph.attributes:
        if 2 <= len(set(values)) <= 10:
            levels = sorted(set(values), key=str)
            colour = [f"C{levels.index(value)}" for value in values]
            break
    for i, j in network.edges:
        (x, y), (u, v) = places[i], places[j]
        if graph.directed:
            axis.annotate("", (u, v), (x, y), arrowprops={"arrowstyle": "->", "lw": 0.5, "color": "grey"})
        else:
            axis.plot([x, u], [y, v], color="grey", linewidth=0.5, zorder=1)
    at = np.array([places[k] for k in range(graph.nodes)])
    axis.scatter(at[:, 0], at[:, 1], c=colour, s=18, zorder=2)
