"""The observed network beside simulated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gencli.core.options import Count
from gencli.core.spec import Graph
from gencli.data.networks import to_adjacency
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.pictures.goodness_of_fit import graph_of, observed_networks
from gencli.run.assembly import Parts
from gencli.run.sampling import draw


@dataclass(frozen=True, kw_only=True)
class NetworkSamples(Picture):
    """One observed network and n - 1 that the run's sampler draws, all laid out by the springs of the first.

    Args:
        columns: networks in a row.
        most: networks in the picture at most.
    """

    layouts = ("network",)
    columns: Count = 4
    most: Count = 8

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        graph_of(parts, "networks")
        count = max(2, min(n, self.most))
        return Drawn(figures={"": beside_observed(parts, draw(parts, count - 1, seed).x, self.columns)})


def beside_observed(parts: Parts, x: Tensor, columns: int = 4) -> Any:
    """A figure of the first observed network and of samples x (n, D); a node has the same place in all of them."""
    import networkx as nx  # half a second, which other pictures need not wait for

    graph = graph_of(parts, "networks")
    networks = np.concatenate([observed_networks(parts, 1), to_adjacency(x, graph)])
    places = nx.spring_layout(nx.from_numpy_array(networks[0]), seed=0)
    columns = min(columns, len(networks))
    rows = -(-len(networks) // columns)
    figure, axes = canvas.figure(columns, 2.8 * columns, 3.0 * rows, rows)
    for k, axis in enumerate(np.ravel(axes)):
        axis.set_axis_off()
        if k < len(networks):
            _network(axis, networks[k], graph, places)
            ties = int(networks[k].sum()) // (1 if graph.directed else 2)
            axis.set_title(f"{'simulated' if k else 'observed'}, {ties} ties", fontsize=9)
    figure.suptitle(title(parts), wrap=True)
    return figure


def _network(axis: Any, adjacency: np.ndarray, graph: Graph, places: Mapping[int, Sequence[float]]) -> None:
    """Nodes at their places, coloured by the first attribute that has few values."""
    colour: Any = style.DATA
    for _, values in graph.attributes:
        if 2 <= len(set(values)) <= len(style.COLOURS):
            levels = sorted(set(values), key=str)
            colour = [f"C{levels.index(value)}" for value in values]
            break
    for i, j in np.argwhere(adjacency if graph.directed else np.triu(adjacency)):
        (x, y), (u, v) = places[i], places[j]
        if graph.directed:
            axis.annotate("", (u, v), (x, y), arrowprops={"arrowstyle": "->", "lw": 0.5, "color": "grey"})
        else:
            axis.plot([x, u], [y, v], color="grey", linewidth=0.5, zorder=1)
    at = np.array([places[k] for k in range(graph.nodes)])
    axis.scatter(at[:, 0], at[:, 1], c=colour, s=18, zorder=2)
