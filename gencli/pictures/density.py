"""The density of a model in the plane, beside the one that its data were drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from gencli.core.options import Natural, Range
from gencli.pictures import canvas, plane
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.pictures.surface import (
    COARSE_SIDE,
    SIDE,
    Surface,
    frame,
    in_plane,
    refuse_lacking,
    some_data,
    surface_of,
    truth_of,
)
from gencli.run.assembly import Parts
from gencli.run.sampling import draw


@dataclass(frozen=True, kw_only=True)
class Density(Picture):
    """p(x) and log p(x) of a model of two real columns, with the true density at their left where it is known.

    A density in one pass is shown as it is. A flow by an ODE is solved with a tolerance of 1e-3, a latent variable
    model by 200 importance weights a point: a lower bound on log p, and said so. Of an energy, log Z is that of the
    run's own record; without one, -E is shown and said to be no density. Both densities have the same colours. The
    title of p says how much of it the frame holds: of a density that fits, nearly 1.

    Args:
        side: points a side of the grid; None: 200 where a point costs one pass, else 80.
        samples: so many samples of the run's sampler are drawn over log p.
    """

    side: Annotated[int, Range(low=2, high=2000)] | None = None
    samples: Natural = 0

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        refuse_lacking(parts, "density")
        data = in_plane(parts.dataset, some_data(parts))
        assert data is not None
        low, high = frame(data)
        own = surface_of(parts, low, high, self.side)
        # the true density costs little, and a coarser grid would make it look worse than it is
        real = parts.dataset.spec.dim == 2 and parts.dataset.spec.support.continuous
        truth = truth_of(parts, low, high, max(SIDE, self.side or COARSE_SIDE)) if real else None
        points = None if not self.samples else in_plane(parts.dataset, draw(parts, self.samples, seed).x)
        return Drawn(figures={"": _panels(parts, own, truth, points)})


def _panels(parts: Parts, own: Surface, truth: Surface | None, points: Tensor | None) -> Any:
    """Rows p and log p, columns truth and model; one row where Z is unknown."""
    columns = [("true", truth), ("model", own)] if truth is not None else [("model", own)]
    rows = 1 + own.normalised
    high = 0.95 + 3.7 * plane.aspect_of(own.low, own.high)
    figure, axes = canvas.figure(len(columns), 0.4 + 4.6 * len(columns), 0.3 + rows * high, rows)
    axes = axes if rows > 1 else [axes]
    known = [surface for _, surface in columns if surface is not None and surface.normalised]
    for k, (name, surface) in enumerate(columns):
        assert surface is not None
        if own.normalised:
            plane.draw_p(figure, axes[0][k], surface, plane.of_both(known))
        plane.draw_log(figure, axes[-1][k], surface, plane.log_limits(known if surface.normalised else [surface]))
        for row in axes:
            plane.in_frame(row[k], own.low, own.high, plane.names_of(parts))
            row[k].set_title(f"{name}: {row[k].get_title()}")
    if points is not None:
        axes[-1][-1].scatter(*points.T, s=6, color="white", edgecolors="black", linewidths=0.4)  # seen on any colour
    figure.suptitle(title(parts), wrap=True)
    return figure
