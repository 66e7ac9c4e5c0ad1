"""Columns of a table against each other: data below the diagonal, samples above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from gencli.core.errors import UsageError, near
from gencli.core.options import Range
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import columns_of, title
from gencli.pictures.surface import some_data
from gencli.pictures.tables import Column, columns, histogram, ticks
from gencli.run.assembly import Parts
from gencli.run.sampling import draw


@dataclass(frozen=True, kw_only=True)
class Pairs(Picture):
    """A corner plot: marginals on the diagonal, pairs of columns of data below it and of samples above it.

    Both have the same limits, the middle 99.8 % of the data. Values of a column that has few are spread a little.

    Args:
        columns: which, by their names; none: the first ``most``.
        most: columns at most, where none are named.
        points: rows of data and of samples.
    """

    columns: Sequence[str] = ()
    most: Annotated[int, Range(low=2, high=12)] = 6
    points: Annotated[int, Range(low=2)] = 1000

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        spec = parts.dataset.spec
        if spec.kind != "vector" or spec.dim < 2 or spec.graph is not None or parts.dataset.per is not None:
            raise UsageError(f"picture=pairs is of tables of two columns or more; data={parts.dataset.name} is none")
        names = columns_of(parts)
        for name in self.columns:
            if name not in names:
                raise UsageError(f"picture.columns: there is no column {name!r}. {near(name, names)}")
        chosen = [names.index(name) for name in self.columns] or list(range(len(names)))[: self.most]
        if not 2 <= len(chosen) <= 12:
            raise UsageError(f"picture.columns={list(self.columns)}: 2 to 12 columns have room")
        data = some_data(parts)[: self.points]
        every = columns(parts, data, draw(parts, len(data), seed).x.cpu().flatten(1))
        figure = _corner([every[k] for k in chosen])
        shown = "" if len(chosen) == len(names) else f"{len(chosen)} of {len(names)} columns"
        figure.suptitle(title(parts, shown), wrap=True)
        return Drawn(figures={"": figure})


def _corner(shown: Sequence[Column]) -> Any:
    size = len(shown)
    figure, axes = canvas.figure(size, max(5.0, 1.7 * size), max(5.0, 1.7 * size) + 0.5, size)
    random = np.random.default_rng(0)  # of the spread of equal values only
    for i, row in enumerate(shown):
        for j, column in enumerate(shown):
            axis = axes[i][j]
            if i == j:
                histogram(axis, column, 30)
                axis.set_yticks([])
            else:
                which, colour = ("data", style.DATA) if i > j else ("samples", style.MODEL)
                x, y = (_spread(c, getattr(c, which), random) for c in (column, row))
                axis.scatter(x, y, s=2 if len(x) > 400 else 6, alpha=0.5, linewidths=0, color=colour, rasterized=True)
                axis.set_xlim(*column.limits())
                axis.set_ylim(*row.limits())
                ticks(axis.xaxis, column)
                ticks(axis.yaxis, row)
            axis.tick_params(labelbottom=i == size - 1, labelleft=j == 0 and i > 0, labelsize=7)
            if i == size - 1:
                axis.set_xlabel(column.name)
            if j == 0:
                axis.set_ylabel(row.name)
    handles = [
        axes[0][0].plot([], [], "o", markersize=4, color=colour, label=name)[0]
        for name, colour in (("data, below the diagonal", style.DATA), ("samples, above it", style.MODEL))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _spread(column: Column, values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return values + random.uniform(-0.25, 0.25, len(values)) if column.discrete else values
