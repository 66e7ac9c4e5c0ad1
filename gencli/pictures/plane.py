"""Points and densities in the plane: clouds, surfaces, and the two side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gencli.pictures import canvas, style
from gencli.pictures.caption import columns_of, title
from gencli.pictures.surface import Surface, frame, has_surface, in_plane, some_data, surface_of
from gencli.run.assembly import Parts

DEPTH = 10.0
"""Nats below its highest point at which a log-density is cut."""


def log_limits(surfaces: Sequence[Surface]) -> tuple[float, float]:
    """The colours' ends that surfaces of log p share."""
    high = max(float(s.log_p[s.log_p.isfinite()].max()) for s in surfaces)
    return high - DEPTH, high


def draw_log(figure: Any, axis: Any, surface: Surface, limits: tuple[float, float] | None = None) -> None:
    """Log p, or -E where Z is unknown, on an axis, under what it is."""
    low, high = limits or log_limits([surface])
    shown = image(axis, surface, surface.log_p.clamp(min=low), low, high)
    words = "log p(x), nats" if surface.normalised else "-E(x) = log p(x) + log Z, nats"
    words += f"; KL(data | model) = {surface.kl:.4f}" if surface.kl is not None else ""
    axis.set_title("\n".join(filter(None, (words, surface.how))))
    _bar(figure, axis, shown, "min")


def draw_p(figure: Any, axis: Any, surface: Surface, high: float) -> None:
    """P on an axis, under what it is and how much of it the frame holds."""
    shown = image(axis, surface, surface.log_p.exp(), 0.0, high)
    beyond = float(surface.log_p.max()) > math.log(high) + 1e-6
    axis.set_title("\n".join(filter(None, (f"p(x), {surface.mass:.3f} of it in the frame", surface.how))))
    _bar(figure, axis, shown, "max" if beyond else "neither")


def image(axis: Any, surface: Surface, values: Tensor, low: float, high: float) -> Any:
    """Values at the points of a surface, between two ends of the colours."""
    (left, down), (right, up) = surface.low.tolist(), surface.high.tolist()
    return axis.imshow(values, origin="lower", extent=(left, right, down, up), vmin=low, vmax=high)


def _bar(figure: Any, axis: Any, shown: Any, extend: str) -> None:
    """The colours' scale, as high as the axis."""
    figure.colorbar(shown, cax=axis.inset_axes((1.03, 0, 0.035, 1)), extend=extend)


def in_frame(axis: Any, low: Tensor, high: Tensor, names: Sequence[str]) -> None:
    """The limits and the names that all panels of a picture share."""
    axis.set_xlim(float(low[0]), float(high[0]))
    axis.set_ylim(float(low[1]), float(high[1]))
    axis.set_aspect("equal")
    axis.set_xlabel(names[0])
    axis.set_ylabel(names[1])


def names_of(parts: Parts) -> list[str]:
    """Names of the two coordinates; of points that examples stand for, none."""
    names = columns_of(parts)
    return names if len(names) == 2 else ["", ""]


def aspect_of(low: Tensor, high: Tensor) -> float:
    """Height over width of a frame, within what a page can have."""
    return min(max(float((high - low)[1] / (high - low)[0]), 0.4), 1.5)


def clouds_and_surface(parts: Parts, points: Tensor) -> Any:
    """A figure of data, samples at points (n, 2), and the model's density where it has one that is cheap."""
    data = in_plane(parts.dataset, some_data(parts))
    assert data is not None
    low, high = frame(data)
    dense = has_surface(parts)
    figure, axes = canvas.figure(2 + dense, 12.5 if dense else 8, 1.3 + 3.4 * aspect_of(low, high))
    clouds = [(f"{len(data)} training examples", data, style.DATA), (f"{len(points)} samples", points, style.MODEL)]
    for axis, (name, cloud, colour) in zip(axes, clouds, strict=False):
        scatter(axis, cloud, colour)
        axis.set_title(name)
    if dense:
        draw_log(figure, axes[2], surface_of(parts, low, high))
    for axis in axes:
        in_frame(axis, low, high, names_of(parts))
    figure.suptitle(title(parts), wrap=True)
    return figure


def scatter(axis: Any, cloud: Tensor, colour: str, size: float | None = None, alpha: float = 0.5) -> Any:
    """A cloud of points (n, 2), larger ones where they are few; one image within a vector file."""
    size = size or min(max(1000 / max(len(cloud), 1), 2.0), 12.0)
    return axis.scatter(
        cloud[:, 0], cloud[:, 1], s=size, alpha=alpha, linewidths=0, color=colour, rasterized=len(cloud) > 2000
    )


def of_both(surfaces: Sequence[Surface]) -> float:
    """The largest p of surfaces, which their colours share."""
    return max(math.exp(float(s.log_p.max())) for s in surfaces)
