"""Runs side by side: their samples, their densities, their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.options import Range
from gencli.models.base import Unnormalized
from gencli.pictures import canvas, plane, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import record_of
from gencli.pictures.samples import image_columns, real_images
from gencli.pictures.several import labels_of, numbers_of, opened
from gencli.pictures.surface import Surface, frame, in_plane, lacking, some_data, surface_of, truth_of
from gencli.run.assembly import Parts
from gencli.run.sampling import draw

CLOUD = 2000
"""Samples at least in the plane: a handful of points shows no density."""

FINE, COARSE = 120, 60
"""Points a side of a density: where a point costs one pass, and where it costs more."""


@dataclass(frozen=True, kw_only=True)
class Compare(Picture):
    """The run and further ones side by side, each under its model, with its NLL, bound and error below.

    In the plane: training examples and true density at the left, then the samples of each run above its density, all
    in the same limits and colours. Of images: a grid of each. Runs must have the same data; whether two numbers may be
    compared is said below each, and ``gencli compare`` says why.

    Args:
        runs: further runs, by their folders.
        log: show log p, not p.
        side: points a side of a density; None: 120 where a point costs one pass, else 60.
    """

    example_keys = "picture.runs=[ANOTHER_RUN]"
    runs: Sequence[str] = ()
    log: bool = True
    side: Annotated[int, Range(low=2, high=2000)] | None = None

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        runs = opened(parts, self.runs, "compare")
        several = [run.parts for run in runs]
        spec = parts.dataset.spec
        for name, other in zip(self.runs, several[1:], strict=True):
            if (other.dataset.name, other.dataset.spec.shape) != (parts.dataset.name, spec.shape):
                raise UsageError(f"picture.runs={name}: its data are {other.dataset.name}, not {parts.dataset.name}")
            if other.sampler is None:
                raise UsageError(f"picture.runs={name}: its model has no sampler")
        labels, numbers = labels_of(runs), numbers_of([record_of(each) for each in several])
        example = some_data(parts)[:1].view(1, *spec.shape)
        if parts.dataset.to_image(example) is not None:
            return Drawn(figures={"": _images(several, labels, numbers, n, seed)})
        if in_plane(parts.dataset, example) is None:
            raise UsageError(
                f"picture=compare shows images and points in the plane; data={parts.dataset.name} is neither"
            )
        return Drawn(figures={"": self._plane(several, labels, numbers, max(n, CLOUD), seed)})

    def _plane(self, several: Sequence[Parts], labels: Sequence[str], numbers: Sequence[str], n: int, seed: int) -> Any:
        first = several[0]
        data = in_plane(first.dataset, some_data(first))
        assert data is not None
        low, high = frame(data)
        surfaces = [self._surface(parts, low, high) for parts in several]
        real = first.dataset.spec.dim == 2 and first.dataset.spec.support.continuous
        truth = truth_of(first, low, high, self.side or FINE) if real else None
        clouds = [in_plane(parts.dataset, draw(parts, n, seed).x) for parts in several]
        columns = len(several) + 1
        figure, axes = canvas.figure(columns, 0.4 + 2.5 * columns, 1.7 + 5.0 * plane.aspect_of(low, high), 2)
        known = [s for s in (truth, *surfaces) if s is not None and s.normalised]
        panels = zip(["training examples", *labels], [data[:n], *clouds], [truth, *surfaces], strict=True)
        for k, (label, cloud, surface) in enumerate(panels):
            assert cloud is not None
            plane.scatter(axes[0][k], cloud, style.MODEL if k else style.DATA)
            axes[0][k].set_title(label)
            self._density(axes[1][k], surface, known)
            for row in axes:
                plane.in_frame(row[k], low, high, ["", ""])
                row[k].set_xticks([])
                row[k].set_yticks([])
        axes[0][0].set_ylabel("samples")
        axes[1][0].set_ylabel("log p" if self.log else "p")
        for axis, text in zip(axes[1][1:], numbers, strict=True):
            axis.set_xlabel(text, fontsize="small")
        axes[1][0].set_xlabel("true density" if truth is not None else "", fontsize="small")
        figure.suptitle(first.dataset.name)
        return figure

    def _surface(self, parts: Parts, low: Tensor, high: Tensor) -> Surface | None:
        if lacking(parts) is not None:
            return None
        return surface_of(parts, low, high, self.side or (FINE if isinstance(parts.model, Unnormalized) else COARSE))

    def _density(self, axis: Any, surface: Surface | None, known: Sequence[Surface]) -> None:
        """A density in the colours of all, or why there is none."""
        if surface is None:
            axis.text(0.5, 0.5, "no density", ha="center", va="center", transform=axis.transAxes)
            axis.spines[:].set_visible(False)
        elif self.log or not surface.normalised:
            low, high = plane.log_limits(known if surface.normalised else [surface])
            plane.image(axis, surface, surface.log_p.clamp(min=low), low, high)
        else:
            plane.image(axis, surface, surface.log_p.exp(), 0.0, plane.of_both(known))
        if surface is not None and (surface.how or not surface.normalised):
            axis.set_title(surface.how if surface.normalised else "-E, log Z unknown", fontsize="small")


def _images(several: Sequence[Parts], labels: Sequence[str], numbers: Sequence[str], n: int, seed: int) -> Any:
    """A grid of training examples, and one of the samples of each run."""
    first, blocks = several[0], []
    n = min(n, 64)
    real = real_images(first, n, None)
    if real is not None:
        blocks.append(canvas.Block(real, image_columns(n), title="training examples"))
    for parts, label, number in zip(several, labels, numbers, strict=True):
        images = parts.dataset.to_image(draw(parts, n, seed).x.cpu())
        assert images is not None
        blocks.append(canvas.Block(torch.as_tensor(images), image_columns(n), title=label, below=number))
    return canvas.blocks(blocks, first.dataset.name, 36)
