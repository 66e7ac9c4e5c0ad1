"""Samples of a field on their way from noise to data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Range
from gencli.models.base import TimeField, VelocityField
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.pictures.samples import grid_of
from gencli.pictures.surface import frame, some_data
from gencli.run.assembly import Parts
from gencli.run.sampling import labels
from gencli.samplers.diffusion.walk import Guided, Visit, Walk

SHOWN, ROWS = 64, 10
"""Images in the GIF at most, and of those in the strip."""

CLOUD = 1000
"""Points at least: a handful of them shows no density."""


def walker(parts: Parts, picture: str) -> Walk[Any]:
    """The run's sampler, if it walks from noise to data.

    Raises:
        UsageError: it does not, or it completes examples.
    """
    if not isinstance(parts.sampler, Walk):
        raise UsageError(f"picture={picture} needs a sampler that goes from noise to data in time, such as sampler=ode")
    if parts.sampler.given is not None:
        raise UsageError(f"picture={picture} shows samples, of which nothing is given; take sampler.given=null")
    return parts.sampler


@dataclass
class Point:
    """x_t (n, *) in model space and t."""

    x: Tensor
    t: Tensor


class Recorder:
    """Keeps every so many points of a walk of unknown length, its first and last among them, at most 4 ``most``."""

    def __init__(self, most: int) -> None:
        self.most, self.every, self.seen = most, 1, 0
        self.kept: list[Point] = []
        self.last: Point | None = None

    def __call__(self, x: Tensor, t: Tensor) -> None:
        self.last = Point(x.cpu(), t.cpu())
        if self.seen % self.every == 0:
            self.kept.append(self.last)
        self.seen += 1
        if len(self.kept) > 4 * self.most:
            self.kept, self.every = self.kept[::2], 2 * self.every

    def points(self, k: int) -> list[Point]:
        """At most k points, from the first to the last, as evenly spaced in t as those that were kept allow."""
        assert self.last is not None
        whole = self.kept if self.kept[-1] is self.last else [*self.kept, self.last]
        t = torch.stack([point.t for point in whole]).double()
        wanted = torch.linspace(0, 1, k, dtype=torch.float64) * (t[-1] - t[0]) + t[0]
        return [whole[i] for i in (wanted[:, None] - t).abs().argmin(1).unique().tolist()]


@dataclass(frozen=True, kw_only=True)
class SamplePath(Picture):
    """Samples of the run's sampler at times from noise to data: ``.png``, a strip of frames, and a film.

    Of images the strip has a row a sample and a column a time, and ``-x0.png`` is the same strip of denoised means
    E[x_0 | x_t], what the model makes of x_t at that time. In the plane both are panels of clouds, each point in the
    colour of the direction that it came from. Frames are evenly spaced in t, as far as the sampler's own times allow;
    dopri5, of which each row has times of its own, is solved in 40 even stretches, so that its samples are those of
    ``gencli sample`` up to its tolerance. Where sigma is above 1, x_t / sigma is shown.

    Args:
        frames: columns of the strip.
        steps: frames of the film.
    """

    requires = (VelocityField,)
    frames: Annotated[int, Range(low=2)] = 8
    steps: Annotated[int, Range(low=2)] = 40

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        sampler, spec = walker(parts, "path"), parts.dataset.spec
        plane = spec.kind == "vector" and spec.dim == 2
        n = max(n, CLOUD) if plane else min(n, SHOWN)
        y = labels(parts, n)
        y = None if y is None else y.to(parts.device)
        recorder = Recorder(max(self.frames, self.steps))
        _run(parts, sampler, n, y, seed, recorder)
        film, strip = recorder.points(self.steps + 1), recorder.points(self.frames)
        assert isinstance(parts.model, VelocityField)
        means = _means(parts, Guided(parts.model, y, sampler.guidance), strip)
        if plane:
            return self._clouds(parts, strip, means, film)
        noised = [_images(parts, _shown(parts, point)) for point in strip]
        figures = {"": _strip(strip, noised, title(parts, "x_t from noise to data, by t"))}
        if means is not None:
            figures["-x0"] = _strip(strip, [_images(parts, x) for x in means], title(parts, "E[x_0 | x_t], by t"))
        grids = [grid_of(parts, _shown(parts, point)) for point in film]
        return Drawn(figures=figures, film=canvas.Film([grid for grid in grids if grid is not None], pause=15))

    def _clouds(self, parts: Parts, strip: list[Point], means: list[Tensor] | None, film: list[Point]) -> Drawn:
        seen, moved = ([_shown(parts, point) for point in points] for points in (strip, film))
        data = some_data(parts)
        low, high = frame(data)
        start = moved[0]
        low, high = torch.minimum(low, start.quantile(0.01, 0)), torch.maximum(high, start.quantile(0.99, 0))
        away = start - start.mean(0)
        hue = torch.atan2(away[:, 1], away[:, 0])
        rows = [seen] if means is None else [seen, means]
        aspect = min(max(float((high - low)[1] / (high - low)[0]), 0.3), 3.0)
        figure, axes = canvas.figure(len(strip), 2 * len(strip), 0.3 + (2 * aspect + 0.3) * len(rows), len(rows))
        for name, clouds, row in zip(("x_t", "E[x_0 | x_t]"), rows, axes if len(rows) > 1 else [axes], strict=False):
            for point, cloud, axis in zip(strip, clouds, row, strict=True):
                _cloud(axis, data, cloud, hue, low, high)
                axis.set_title(f"t = {float(point.t):.2f}")
            row[0].set_ylabel(name)
        frames = []
        moving, (axis,) = canvas.figure(1, 5, 5 * aspect + 0.3)
        dots = _cloud(axis, data, start, hue, low, high)
        for point, cloud in zip(film, moved, strict=True):
            dots.set_offsets(cloud.numpy())
            axis.set_title(f"t = {float(point.t):.2f}")
            frames.append(canvas.pixels(moving))
        figure.suptitle(title(parts), wrap=True)
        return Drawn(figures={"": figure}, film=canvas.Film(frames, pause=15))


@torch.no_grad()
def _run(parts: Parts, sampler: Walk[Any], n: int, y: Tensor | None, seed: int, visit: Visit) -> None:
    sampler.run(parts.view, n, y, RowNoise(stream(seed, Purpose.SAMPLING), torch.arange(n, device=parts.device)), visit)


@torch.no_grad()
def _means(parts: Parts, field: Guided[Any], points: list[Point]) -> list[Tensor] | None:
    """Denoised means in data space; of the last point, where no noise is left, x itself. None: a field without path."""
    if not isinstance(field.model, TimeField):
        return None
    z = [field(p.x.to(parts.device), p.t.to(parts.device)).x0 for p in points[:-1]] + [points[-1].x.to(parts.device)]
    return [parts.preprocess.inverse(x).cpu() for x in z]


def _shown(parts: Parts, point: Point) -> Tensor:
    """x_t in data space, or x_t / sigma where noise has outgrown the data."""
    sigma = float(parts.model.path.sigma(point.t)) if isinstance(parts.model, TimeField) else 1.0
    return parts.preprocess.inverse(point.x.to(parts.device) / max(1.0, sigma)).cpu()


def _images(parts: Parts, x: Tensor) -> Tensor:
    images = parts.dataset.to_image(x)
    if images is None:
        raise UsageError(f"picture=path shows images and data in the plane; data={parts.dataset.name} is neither")
    return images


def _strip(points: list[Point], columns: list[Tensor], title: str) -> Any:
    images = torch.stack([images[:ROWS] for images in columns], 1).flatten(0, 1)
    heads = [f"{float(p.t):.2f}" for p in points]
    return canvas.labelled(images, len(points), heads=heads, title=title)


def _cloud(axis: Any, data: Tensor, cloud: Tensor, hue: Tensor, low: Tensor, high: Tensor) -> Any:
    axis.scatter(data[:, 0], data[:, 1], s=2, color=style.faint(), linewidths=0)
    points = axis.scatter(cloud[:, 0], cloud[:, 1], s=4, c=hue, cmap="hsv", linewidths=0)
    axis.set_xlim(float(low[0]), float(high[0]))
    axis.set_ylim(float(low[1]), float(high[1]))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect("equal")
    return points
