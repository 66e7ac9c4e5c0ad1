"""Goodness of fit of random graphs: what the model was not told of the observed network, beside simulated ones.

"Goodness of fit of social network models" (Hunter, Goodreau and Handcock, 2008).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gencli.core.errors import UsageError
from gencli.core.spec import Graph
from gencli.data.networks import to_adjacency
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.sampling import draw


@dataclass(frozen=True, kw_only=True)
class GoodnessOfFit(Picture):
    """Degrees, edgewise shared partners and geodesic distances: the observed network as a line over box plots.

    The boxes are of n networks that the run's sampler draws; whiskers end at their 2.5 and 97.5 %. Degrees are shares
    of nodes (in-degrees and out-degrees of directed networks), shared partners of ties, distances of dyads; the last
    distance stands for dyads that no path joins. Of many observed networks the line is their mean. Files: ``.png``, and
    ``.npz`` with the shares of each network.
    """

    layouts = ("network",)

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        graph = graph_of(parts, "goodness_of_fit")
        observed = observed_networks(parts)
        simulated = to_adjacency(draw(parts, n, seed).x, graph)
        found = {
            name: (shares(observed, graph), shares(simulated, graph)) for name, shares in distributions(graph).items()
        }
        figure, axes = canvas.figure(len(found), 4.2 * len(found), 4.0)
        arrays = {}
        for axis, (name, (own, drawn)) in zip(axes, found.items(), strict=True):
            arrays[f"observed_{name}"], arrays[f"simulated_{name}"] = own, drawn
            _panel(axis, name.replace("_", " "), own.mean(0), drawn)
        axes[0].set_ylabel("share")
        boxes = axes[0].plot([], [], color=style.MODEL, label=f"{n} simulated, box: quartiles, whiskers: 2.5 to 97.5 %")
        figure.legend(handles=[axes[0].lines[-2], *boxes], loc="outside lower center", ncols=2)
        figure.suptitle(title(parts), wrap=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return Drawn({".npz": buffer.getvalue()}, figures={"": figure})


def graph_of(parts: Parts, picture: str) -> Graph:
    """The nodes of a run's networks.

    Raises:
        UsageError: its data are none.
    """
    graph = parts.dataset.spec.graph
    if graph is None:
        raise UsageError(f"picture={picture} is of networks; data={parts.dataset.name} has none")
    return graph


def observed_networks(parts: Parts, most: int = 1000) -> np.ndarray:
    """Adjacency matrices (N, n, n) of the test split, or of the training split where there is none."""
    split = parts.dataset.split("test") or parts.dataset.split("train")
    graph = parts.dataset.spec.graph
    assert split is not None
    assert graph is not None
    return to_adjacency(split.gather(torch.arange(min(most, len(split)))).x, graph)


def distributions(graph: Graph) -> dict[str, Any]:
    """What networks are compared by: adjacency matrices (N, n, n) -> shares (N, K)."""
    degrees = {"in_degree": _degrees(1), "out_degree": _degrees(2)} if graph.directed else {"degree": _degrees(2)}
    return {**degrees, "edgewise_shared_partners": shared_partners, "geodesic_distance": geodesics}


def _degrees(axis: int) -> Any:
    def shares(adjacency: np.ndarray, graph: Graph) -> np.ndarray:
        return _counted(adjacency.sum(axis, dtype=np.int64), graph.nodes) / graph.nodes

    return shares


def shared_partners(adjacency: np.ndarray, graph: Graph) -> np.ndarray:
    """Shares of ties i -> j with 0, 1, ... nodes k on a path i -> k -> j."""
    y = adjacency.astype(np.float32)  # counts of nodes are exact
    paths = np.where(adjacency > 0, np.rint(y @ y), -1).astype(np.int64)
    counts = _counted(paths.reshape(len(y), -1), max(1, graph.nodes - 1))
    return counts / np.maximum(1, counts.sum(1, keepdims=True))


def geodesics(adjacency: np.ndarray, graph: Graph) -> np.ndarray:
    """Shares of dyads at distance 1, ..., n - 1, and of those that no path joins."""
    from scipy.sparse.csgraph import shortest_path

    n = graph.nodes
    off = ~np.eye(n, dtype=bool)
    rows = []
    for matrix in adjacency:
        distance = shortest_path(matrix.astype(float), directed=graph.directed, unweighted=True)[off]
        rows.append(np.where(np.isfinite(distance), distance, n).astype(np.int64) - 1)
    return _counted(np.stack(rows), n) / off.sum()


def _counted(values: np.ndarray, size: int) -> np.ndarray:
    """How often 0, ..., size - 1 are there in each row (N, *); negative values are no values."""
    return np.stack([np.bincount(row[row >= 0], minlength=size)[:size] for row in values])


def _panel(axis: Any, name: str, own: np.ndarray, drawn: np.ndarray) -> None:
    """Box plots of the shares up to the last value that is there, and for dyads without a path one more."""
    unjoined = name == "geodesic distance"
    first = int(unjoined)
    body, bodies = (own[:-1], drawn[:, :-1]) if unjoined else (own, drawn)
    last = 1 + int(np.flatnonzero((body > 0) | (np.quantile(bodies, 0.975, axis=0) > 0)).max(initial=0))
    own, drawn = (
        (np.append(own[:last], own[-1:]), np.c_[drawn[:, :last], drawn[:, -1:]])
        if unjoined
        else (
            own[:last],
            drawn[:, :last],
        )
    )
    at = np.arange(len(own))
    axis.boxplot(drawn, positions=at, whis=(2.5, 97.5), showfliers=False, widths=0.6, manage_ticks=False)
    axis.plot(at, own, color=style.ink(), linewidth=1.6, label="observed")
    labels = [str(first + k) for k in range(last)] + ["none"] * unjoined
    step = max(1, len(labels) // 12)
    axis.set_xticks([*at[::step]], labels[::step])
    axis.set_xlabel(name)
