"""Plots as numbers: where points, lines and ticks of an SVG lie; the page's template draws them.

Nothing here is text of a run but labels, which the template escapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 22.0, 14.0, 38.0
LETTER = 7.5
"""Width of a letter, about."""
MOST = 400
"""Points of a line; more are averaged in cells of neighbours."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A polyline: its points as SVG has them, its name, and which of the page's colours it has."""

    points: str
    name: str
    colour: int


@dataclass(frozen=True)
class Dot:
    """A point with what is told of it."""

    x: float
    y: float
    name: str
    colour: int = 0


@dataclass(frozen=True)
class Plot:
    """A plot of WIDTH x HEIGHT.

    Args:
        title: what it shows.
        x_label: of the axis below.
        y_label: of the axis at the left.
        x_ticks: marks below.
        y_ticks: marks at the left.
        lines: polylines.
        dots: points.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from data to the page."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(value) if self.log else value
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)

    def ticks(self) -> list[Tick]:
        """About five round numbers; of a logarithmic axis powers of ten, where two lie within."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            if len(powers) >= 2:
                every = max(1, len(powers) // 5)
                return [Tick(self(10.0**p), f"{10.0**p:g}") for p in powers if p % every == 0]
            return [Tick(self(v), f"{v:.3g}") for v in (self.low, self.high)]
        step = _round((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first
        return [Tick(self(k * step), f"{k * step:.6g}") for k in range(first, first + count + 1)]


def scale(values: Sequence[float], start: float, end: float, log: bool = False) -> Scale:
    """An axis that holds some finite values."""
    low, high = min(values), max(values)
    if log and low > 0:
        return Scale(low, high, start, end, True) if high > low else Scale(low / 2, low * 2, start, end, True)
    if high <= low:
        pad = abs(low) / 2 or 1.0
        low, high = low - pad, high + pad
    return Scale(low, high, start, end)


def _round(step: float) -> float:
    """1, 2 or 5 times a power of ten, near a step."""
    power = 10 ** math.floor(math.log10(step))
    return float(next(m for m in (1, 2, 5, 10) if step <= m * power * 1.01) * power)


def curves(title: str, y_label: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Plot | None:
    """Lines over training steps; outliers beyond the middle 98 % of each are cut at the frame. None: no points.

    Args:
        title: of the plot.
        y_label: what is measured.
        series: a name and points (step, value) each.
    """
    kept = [(name, [(x, y) for x, y in points if math.isfinite(y)]) for name, points in series]
    lined = [(name, thinned(points)) for name, points in kept if points]
    if not lined:
        return None
    ys = sorted(y for _, points in lined for _, y in points)
    cut = len(ys) // 100
    x = scale([x for _, points in lined for x, _ in points], LEFT, WIDTH - RIGHT)
    y = scale(ys[cut : len(ys) - cut], HEIGHT - BOTTOM, TOP)
    lines = []
    for number, (name, points) in enumerate(lined):
        at = [f"{x(a)},{min(max(y(b), TOP), HEIGHT - BOTTOM)}" for a, b in points]
        lines.append(Line(" ".join(at), name, number % 8))
    return Plot(title, "step", y_label, x.ticks(), y.ticks(), lines)


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most MOST points: means of equal numbers of neighbours."""
    each = math.ceil(len(points) / MOST)
    if each <= 1:
        return points
    cells = [points[i : i + each] for i in range(0, len(points), each)]
    return [(cell[-1][0], sum(y for _, y in cell) / len(cell)) for cell in cells]


def scatter(title: str, x_label: str, y_label: str, points: Sequence[tuple[float, float, str]]) -> Plot | None:
    """Points (x, y, name), over a logarithmic axis where x covers more than a factor of 20; None: fewer than two."""
    kept = [(x, y, name) for x, y, name in points if math.isfinite(x) and math.isfinite(y)]
    if len(kept) < 2:
        return None
    xs, ys = [x for x, _, _ in kept], [y for _, y, _ in kept]
    wide = min(xs) > 0 and max(xs) > 20 * min(xs)
    across, up = scale(xs, LEFT + 8, WIDTH - RIGHT - 8, wide), scale(ys, HEIGHT - BOTTOM - 8, TOP + 8)
    dots = [Dot(across(x), up(y), name) for x, y, name in kept]
    return Plot(title, x_label, y_label, across.ticks(), up.ticks(), (), dots)


@dataclass(frozen=True)
class Axis:
    """A vertical axis of parallel coordinates: where it stands, its name, its marks and at which side they stand."""

    at: float
    name: str
    ticks: Sequence[Tick]
    right: bool = False


@dataclass(frozen=True)
class Parallel:
    """Runs as lines over their hyper-parameters, the last axis their number; best runs have the first colours."""

    axes: Sequence[Axis]
    lines: Sequence[Line]
    width: float


def parallel(
    keys: Sequence[str], rows: Sequence[tuple[str, Sequence[object], float]], value_name: str
) -> Parallel | None:
    """Parallel coordinates.

    Args:
        keys: names of hyper-parameters.
        rows: (name, value of each key, number) of each run, the best first.
        value_name: of the number.
    """
    rows = [row for row in rows if math.isfinite(row[2])]
    if len(rows) < 2 or not keys:
        return None
    columns: list[list[object]] = [[row[1][k] for row in rows] for k in range(len(keys))]
    columns.append([row[2] for row in rows])
    start = max(LEFT, 14 + LETTER * max(len(str(value)[:24]) for value in columns[0]))
    apart = max(130.0, LETTER * max(map(len, keys)) + 10)
    width = max(WIDTH, start + apart * len(keys) + LEFT)
    axes, heights = [], []
    for k, (name, values) in enumerate(zip([*keys, value_name], columns, strict=True)):
        at, last = start + (width - start - LEFT) * k / len(keys), k == len(keys)
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == len(values):
            log = min(numbers) > 0 and max(numbers) > 20 * min(numbers)
            axis = scale(numbers, HEIGHT - BOTTOM, TOP + 16, log)
            axes.append(Axis(at, name, axis.ticks(), last))
            heights.append([axis(v) for v in numbers])
        else:
            names = list(dict.fromkeys(str(v) for v in values))
            gap = (HEIGHT - BOTTOM - TOP - 16) / max(len(names) - 1, 1)
            places = {name: round(TOP + 16 + gap * i, 1) for i, name in enumerate(names)}
            axes.append(Axis(at, name, [Tick(place, label[:24]) for label, place in places.items()], last))
            heights.append([places[str(v)] for v in values])
    lines = []
    for i, (name, _, value) in enumerate(rows):
        points = " ".join(f"{axis.at:.1f},{column[i]}" for axis, column in zip(axes, heights, strict=True))
        lines.append(Line(points, f"{name}: {value:.4g}", min(7, 8 * i // len(rows))))
    return Parallel(axes, lines, width)
