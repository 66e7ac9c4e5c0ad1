"""Pictures of codes: what a latent variable model keeps of an example, and what lies between two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.noise import Noise, Purpose, RowNoise, stream
from gencli.core.options import Count, Natural, Positive, Range
from gencli.core.spec import Batch
from gencli.models.base import DirectSampling, LatentVariable
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title as caption
from gencli.pictures.surface import SHOWN
from gencli.run.assembly import Parts
from gencli.run.sampling import held_out

CHUNK = 500
"""Rows that go through a network at a time."""


def _some(parts: Parts, n: int) -> Batch:
    """The first n held-out examples in data space, or as many as there are."""
    split = held_out(parts)
    return split.gather(torch.arange(min(n, len(split))))


@torch.no_grad()
def _codes(parts: Parts, batch: Batch, seed: int) -> Tensor:
    """Codes (n, d) of examples in data space."""
    model = parts.model
    assert isinstance(model, LatentVariable)
    codes = []
    for ids in torch.arange(len(batch.x), device=parts.device).split(CHUNK):
        z, _ = parts.preprocess(batch.x[ids.cpu()].to(parts.device), RowNoise(stream(seed, Purpose.PICTURES), ids))
        codes.append(model.encode(z, _context(parts, batch.y, ids.cpu())))
    return torch.cat(codes)


@torch.no_grad()
def _decoded(parts: Parts, codes: Tensor, y: Tensor | None) -> Tensor:
    """Images in [0, 1] of codes (n, d)."""
    model = parts.model
    assert isinstance(model, LatentVariable)
    parts_of = [model.decode(codes[ids], _context(parts, y, ids)) for ids in torch.arange(len(codes)).split(CHUNK)]
    return _images(parts, torch.cat(parts_of))


def _context(parts: Parts, y: Tensor | None, index: Tensor) -> Tensor | None:
    some = None if y is None or not parts.model.conditional else y[index].to(parts.device)
    return parts.preprocess.context(some)


def _images(parts: Parts, z: Tensor) -> Tensor:
    """Means in model space as images in [0, 1]; the mean of an integer is shown as it is, not rounded.

    Raises:
        UsageError: data has no images.
    """
    x = z.reshape(len(z), *parts.dataset.spec.shape) if parts.preprocess.untouched else parts.preprocess.inverse(z)
    return _visible(parts, x)


def _visible(parts: Parts, x: Tensor) -> Tensor:
    images = parts.dataset.to_image(x.cpu())
    if images is None:
        raise UsageError(f"this picture shows images; data={parts.dataset.name} has none")
    return images


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Picture):
    """Held-out examples, and below each what its code gives back.

    Args:
        columns: examples side by side.
    """

    layouts = ("image",)
    requires = (LatentVariable,)
    columns: Count = 16

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        batch = _some(parts, n)
        columns = min(self.columns, len(batch.x))
        n = len(batch.x) // columns * columns
        originals = _visible(parts, batch.x[:n])
        again = _decoded(parts, _codes(parts, Batch(batch.x[:n], batch.y), seed), batch.y)
        pairs = torch.stack([t.unflatten(0, (-1, columns)) for t in (originals, again)], 1).flatten(0, 2)
        rows = ["example", "from its code"] * (n // columns)
        title = "held-out examples, and what their codes keep"
        return Drawn(figures={"": canvas.labelled(pairs, columns, rows=rows, title=caption(parts, title))})


@dataclass(frozen=True, kw_only=True)
class Traverse(Picture):
    """One latent after the other takes values across its range, while the others keep those of one held-out example.

    Rows are sorted by activity: the variance of a latent's code over the data ("Importance weighted autoencoders",
    Burda, Grosse and Salakhutdinov, 2016). A latent that the model does not use has none, and changes nothing.

    Args:
        latents: the most rows.
        columns: values from -``width`` to ``width`` standard deviations about the mean over the data.
        width: how far.
        example: number of the held-out example.
    """

    layouts = ("image",)
    requires = (LatentVariable,)
    latents: Count = 12
    columns: Annotated[int, Range(low=2)] = 11
    width: Positive = 3.0
    example: Natural = 0

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        batch = _some(parts, max(SHOWN, self.example + 1))
        if self.example >= len(batch.x):
            raise UsageError(f"picture.example={self.example}: there are {len(batch.x)} held-out examples")
        codes = _codes(parts, batch, seed)
        deviation, mean = torch.std_mean(codes, 0, correction=0)
        shown = deviation.argsort(descending=True)[: self.latents]
        steps = torch.linspace(-self.width, self.width, self.columns, device=codes.device)
        rows = codes[self.example].expand(len(shown), self.columns, -1).clone()
        for row, k in zip(rows, shown, strict=True):
            row[:, k] = mean[k] + steps * deviation[k]
        y = None if batch.y is None else batch.y[torch.full((rows.shape[0] * rows.shape[1],), self.example)]
        images = _decoded(parts, rows.flatten(0, 1), y)
        names = [f"z[{k}]  var {float(deviation[k]) ** 2:.2f}" for k in shown.tolist()]
        heads = [f"{round(step, 1) + 0.0:+.1f}" for step in steps.tolist()]  # + 0.0: no -0.0
        title = "latents by activity; columns: standard deviations from the mean"
        return Drawn(
            figures={"": canvas.labelled(images, self.columns, rows=names, heads=heads, title=caption(parts, title))}
        )


class Between(Noise):
    """Normal noise on the way from one row's to another's: cos(pi t / 2) a + sin(pi t / 2) b, normal for every t.

    Uniform variates, which choose among things that have nothing in between, are those of a.

    Args:
        seed: of the rows.
        left: (n,) rows a.
        right: (n,) rows b.
        t: (n,) in [0, 1].
    """

    def __init__(self, seed: int, left: Tensor, right: Tensor, t: Tensor) -> None:
        sampling = stream(seed, Purpose.SAMPLING)
        self.left, self.right, self.t = RowNoise(sampling, left), RowNoise(sampling, right), t

    def rand(self, *shape: int) -> Tensor:
        self.right.rand(*shape)  # the two streams go on together
        return self.left.rand(*shape)

    def randn(self, *shape: int) -> Tensor:
        angle = (0.5 * math.pi * self.t).view(-1, *[1] * (len(shape) - 1))
        return angle.cos() * self.left.randn(*shape) + angle.sin() * self.right.randn(*shape)


@dataclass(frozen=True, kw_only=True)
class Interpolate(Picture):
    """From left to right a row goes from one example to another.

    Between held-out examples along the line between their codes, where a model has codes; else between samples, along
    an arc between their normal noise, so that every image on the way is a fair sample itself.

    Args:
        columns: images of a row, both ends included.
    """

    requires = (DirectSampling,)
    columns: Annotated[int, Range(low=2)] = 11

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        rows = max(1, n // self.columns)
        t = torch.linspace(0, 1, self.columns, device=parts.device)
        heads = [f"{step:.1f}" for step in t.tolist()]
        if isinstance(parts.model, LatentVariable):
            images, title = self._codes(parts, rows, seed, t), "between held-out examples (first and last column)"
            heads = ["example", *heads, "example"]
        else:
            images, title = self._samples(parts, rows, seed, t), "between samples"
        return Drawn(figures={"": canvas.labelled(images, len(heads), heads=heads, title=caption(parts, title))})

    def _codes(self, parts: Parts, rows: int, seed: int, t: Tensor) -> Tensor:
        """Rows of the left example, the way from its code to the other's, and the right example."""
        batch = _some(parts, 2 * rows)
        if len(batch.x) < 2:
            raise UsageError("picture=interpolate needs two held-out examples")
        rows = len(batch.x) // 2
        ends = _visible(parts, batch.x[: 2 * rows]).unflatten(0, (rows, 2))
        left, right = _codes(parts, Batch(batch.x[: 2 * rows], batch.y), seed).unflatten(0, (rows, 2)).unbind(1)
        way = torch.lerp(left[:, None], right[:, None], t[:, None])
        # A model that is told y decodes the whole row as the left example's
        y = None if batch.y is None else batch.y[: 2 * rows : 2].repeat_interleave(len(t), 0)
        between = _decoded(parts, way.flatten(0, 1), y).unflatten(0, (rows, -1))
        return torch.cat([ends[:, :1], between, ends[:, 1:]], 1).flatten(0, 1)

    @torch.no_grad()
    def _samples(self, parts: Parts, rows: int, seed: int, t: Tensor) -> Tensor:
        model, spec = parts.model, parts.dataset.spec
        assert isinstance(model, DirectSampling)
        if model.spec.support.discrete:
            raise UsageError("picture=interpolate: this model draws integers, between which there is nothing")
        if model.conditional and not spec.classes:
            raise UsageError("picture=interpolate: this model needs a context vector, which no sample has by itself")
        row = torch.arange(rows, device=t.device).repeat_interleave(len(t))
        noise = Between(seed, 2 * row, 2 * row + 1, t.repeat(rows))
        y = row % spec.classes if model.conditional and spec.classes else None
        return _visible(parts, parts.preprocess.inverse(model.sample(len(row), y, noise=noise)))


@dataclass(frozen=True, kw_only=True)
class LatentMap(Picture):
    """Where held-out examples lie in the latent plane, coloured by label; beside it what a grid of codes decodes to.

    Of more than two latents the plane of the two largest principal components of the codes is shown, without a grid.

    Args:
        examples: the most points.
        side: codes a side of the grid.
    """

    requires = (LatentVariable,)
    examples: Annotated[int, Range(low=2)] = 2000
    side: Annotated[int, Range(low=2)] = 12

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        assert isinstance(parts.model, LatentVariable)
        if parts.model.latent_dim < 2:
            raise UsageError("picture=latent needs two latents or more")
        batch = _some(parts, max(n, self.examples))
        codes = _codes(parts, batch, seed)
        flat = codes.shape[1] == 2 and not parts.model.conditional
        names = ["z[0]", "z[1]"]
        points = codes
        if codes.shape[1] > 2:
            centred = codes - codes.mean(0)
            _, size, directions = torch.linalg.svd(centred, full_matrices=False)
            share = size.square() / size.square().sum()
            points = centred @ directions[:2].T
            names = [f"principal component {k + 1} ({100 * float(share[k]):.0f} % of the variance)" for k in (0, 1)]
        points = points.cpu()
        drawn = flat and parts.dataset.to_image(batch.x[:1]) is not None
        figure, axes = canvas.figure(1 + drawn, 6.5 * (1 + drawn), 6)
        self._scatter(axes[0], points, batch.y if parts.dataset.spec.classes else None, parts.dataset.class_names())
        axes[0].set_title(f"codes of {len(points)} held-out examples")
        if drawn:
            low, high = torch.quantile(codes, torch.tensor([0.01, 0.99]).to(codes), dim=0)
            self._grid(axes[1], parts, low, high)
        for axis in axes:
            axis.set_xlabel(names[0])
            axis.set_ylabel(names[1])
        figure.suptitle(caption(parts), wrap=True)
        return Drawn(figures={"": figure})

    def _scatter(self, axis: Any, points: Tensor, y: Tensor | None, names: list[str] | None) -> None:
        if y is None:
            axis.scatter(points[:, 0], points[:, 1], s=8, linewidths=0)
            return
        from matplotlib import colormaps

        classes = y.unique().tolist()
        for i, label in enumerate(classes):
            own = points[y == label]
            # the map of equal steps can be read by the colour-blind where there are more classes than colours
            colour = style.COLOURS[i] if len(classes) <= len(style.COLOURS) else colormaps["turbo"](i / len(classes))
            called = quoted(names[label], 16) if names else str(label)
            axis.scatter(own[:, 0], own[:, 1], s=10, linewidths=0, color=colour, label=called)
        if len(classes) <= 20:
            axis.legend(title="label", markerscale=2, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    def _grid(self, axis: Any, parts: Parts, low: Tensor, high: Tensor) -> None:
        across, up = (torch.linspace(float(low[k]), float(high[k]), self.side) for k in (0, 1))
        codes = torch.stack(torch.meshgrid(across, up.flip(0), indexing="xy"), 2).flatten(0, 1).to(low)
        images = _decoded(parts, codes, None)
        picture = canvas.grid(images, self.side)
        half = [(axis_[1] - axis_[0]) / 2 for axis_ in (across, up)]
        extent = [float(v) for v in (low[0] - half[0], high[0] + half[0], low[1] - half[1], high[1] + half[1])]
        axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), extent=extent, aspect="auto", interpolation="nearest")
        axis.set_title("what the plane decodes to")
