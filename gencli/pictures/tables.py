"""The columns of tables, of data and of samples alike, as they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gencli.core.errors import quoted
from gencli.pictures import canvas, style
from gencli.pictures.caption import columns_of, title
from gencli.run.assembly import Parts

MARGINALS, FEW = 6, 24
"""Columns whose marginals are drawn; values up to which a column is drawn value by value."""


@dataclass(frozen=True)
class Column:
    """One column of data and of samples.

    Args:
        name: of the column.
        data: (N,) numbers, NaN where the cell is missing.
        samples: (n,) likewise.
        values: what 0, 1, ... stand for, where the cells are no numbers.
        discrete: whether it has few values, each of which has a mass.
    """

    name: str
    data: np.ndarray
    samples: np.ndarray
    values: tuple[str, ...] = ()
    discrete: bool = False

    def limits(self) -> tuple[float, float]:
        """The ends of an axis: the middle 99.8 % of the data, or all values."""
        there = self.data[~np.isnan(self.data)]
        if not len(there):
            return 0.0, 1.0
        if self.discrete:
            both = np.concatenate([there, self.samples[~np.isnan(self.samples)]])
            return float(both.min()) - 0.5, float(both.max()) + 0.5
        low, high = np.quantile(there, [0.001, 0.999])
        margin = 0.05 * (high - low) or 1.0
        return float(low - margin), float(high + margin)


def columns(parts: Parts, data: Tensor, samples: Tensor) -> list[Column]:
    """All columns, under the user's names and in the user's words where there are any."""
    names, found = columns_of(parts), []
    rows = [parts.dataset.to_rows(x.cpu()) for x in (data, samples)]
    kinds = parts.dataset.spec.support.columns or (parts.dataset.spec.support,) * len(names)
    for k, name in enumerate(names):
        if rows[0] is not None and rows[1] is not None:
            cells = [list(table.values())[k] for table in (rows[0], rows[1])]
        else:
            cells = [x[:, k].tolist() for x in (data.cpu(), samples.cpu())]
        found.append(_column(name, *cells, discrete=kinds[k].discrete))
    return found


def _column(name: str, data: list[Any], samples: list[Any], *, discrete: bool) -> Column:
    there = {cell for cell in data + samples if cell is not None}
    if any(isinstance(cell, str | bool) for cell in there):
        values = sorted(there, key=str)
        number = {value: float(k) for k, value in enumerate(values)}
        own, drawn = (np.array([number.get(c, np.nan) for c in cells]) for cells in (data, samples))
        return Column(name, own, drawn, tuple(quoted(value, 12) for value in values), True)
    own, drawn = (np.array([np.nan if c is None else float(c) for c in cells]) for cells in (data, samples))
    return Column(name, own, drawn, (), discrete and len(there) <= FEW)


def histogram(axis: Any, column: Column, most: int = 50) -> None:
    """The marginal of data and of samples on an axis: shares of values, or densities."""
    low, high = column.limits()
    bins = min(most, max(8, round(2 * len(column.data) ** 0.5)))  # fewer rows, wider bins
    n = max(1, round(high - low)) if column.discrete else bins
    for values, colour, name in ((column.data, style.DATA, "data"), (column.samples, style.MODEL, "samples")):
        there = values[~np.isnan(values)]
        axis.hist(there, bins=n, range=(low, high), density=True, histtype="step", color=colour, label=name)
    axis.set_xlim(low, high)
    ticks(axis.xaxis, column)


def ticks(axis: Any, column: Column) -> None:
    """Names at the values of a column that has no numbers, as far as there is room."""
    if column.values:
        step = max(1, len(column.values) // 6)
        axis.set_ticks(range(0, len(column.values), step), column.values[::step])


def marginals(parts: Parts, data: Tensor, samples: Tensor) -> Any:
    """A figure of the marginals of the first columns; missing cells are left away."""
    shown = columns(parts, data, samples)[:MARGINALS]
    figure, axes = canvas.figure(len(shown), max(4.0, 2.6 * len(shown)), 3.2)
    for axis, column in zip(axes, shown, strict=True):
        histogram(axis, column)
        axis.set_xlabel(column.name)
    axes[0].set_ylabel("density")
    axes[0].legend()
    more = parts.dataset.spec.dim - len(shown)
    figure.suptitle(title(parts, f"marginals{f' of the first {len(shown)} columns' if more else ''}"))
    return figure
