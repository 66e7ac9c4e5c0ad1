"""Pictures of samples: grids of images, densities in one and two dimensions, marginals of tables."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gencli.core.errors import quoted
from gencli.core.spec import Batch
from gencli.data.base import Dataset
from gencli.models.base import ExactLikelihood, Unnormalized
from gencli.pictures import canvas
from gencli.pictures.network_samples import beside_observed
from gencli.run.assembly import Parts
from gencli.run.sampling import originals, region
from gencli.run.scoring import score_rows

GRID_POINTS = 200
"""Points a side at which a 2-D log-density is drawn."""

SHOWN = 5000
"""Data points in a scatter plot."""

NETWORKS = 7
"""Samples of networks drawn beside the observed one."""

COLUMNS = 6
"""Marginals drawn of a table."""


def grid_of(parts: Parts, x: Tensor) -> Tensor | None:
    """A grid of images (3, H, W) in [0, 1]; None where data has no images."""
    images = parts.dataset.to_image(x.cpu())
    if images is None:
        return None
    return canvas.grid(images, _columns(parts, len(images)))


def _columns(parts: Parts, n: int) -> int:
    """Of a grid of n images: a square, or a class a column."""
    if parts.model.conditional and parts.dataset.spec.classes and parts.sampler is not None:
        return len(parts.sampler.classes or range(parts.dataset.spec.classes))
    return math.ceil(math.sqrt(n))


def _heads(parts: Parts, y: Tensor | None, columns: int) -> list[str]:
    """Names of the classes of the columns; none where they have no names or do not come in turn."""
    names = parts.dataset.class_names()
    if names is None or y is None or y.dim() != 1 or not bool((y == y[torch.arange(len(y)) % columns]).all()):
        return []
    return [quoted(names[k], 12) for k in y[:columns].tolist()]


def of_samples(parts: Parts, x: Tensor, y: Tensor | None = None) -> bytes:
    """A PNG of samples x (n, *) in data units: images, networks, a 1-D or 2-D density, or a table's marginals.

    Images that were drawn for classes y (n,) in turn have the names of these above them.
    """
    if parts.sampler is not None and parts.sampler.given is not None:
        known = region(parts.dataset.spec, parts.sampler.given)
        return (
            _completions(parts, x, known)
            if parts.dataset.to_image(x[:1].cpu()) is not None
            else _imputed(parts, x, known)
        )
    images = parts.dataset.to_image(x.cpu())
    if images is not None:
        columns = _columns(parts, len(images))
        heads = _heads(parts, y, columns)
        return canvas.labelled(images, columns, heads=heads) if heads else canvas.png(canvas.grid(images, columns))
    if parts.dataset.spec.graph is not None:
        return beside_observed(parts, x[:NETWORKS])
    points = in_plane(parts.dataset, x)
    if points is not None:
        return _two_dimensions(parts, points)
    if parts.dataset.spec.alike and parts.dataset.spec.dim == 1:
        return _one_dimension(parts, x)
    return _marginals(parts, x)


def _completions(parts: Parts, x: Tensor, known: Tensor) -> bytes:
    """Given, completed and original images side by side."""
    completed, original = (parts.dataset.to_image(images.cpu()) for images in (x, originals(parts, len(x)).x))
    assert completed is not None
    assert original is not None
    views = [
        ("given", canvas.veiled(original, known[:1])),
        ("completed", completed.expand(-1, 3, -1, -1)),
        ("original", original.expand(-1, 3, -1, -1)),
    ]
    return canvas.png(canvas.groups(views, columns=max(1, round(math.sqrt(len(x) / 3)))))


def _imputed(parts: Parts, x: Tensor, known: Tensor) -> bytes:
    """Rows with some coordinates kept: in the plane two clouds, else what was imputed against what had been there."""
    completed, original = x.cpu().flatten(1), originals(parts, len(x)).x.flatten(1)
    if x[0].numel() == 2 and parts.dataset.spec.alike:
        low, high = frame(some_data(parts))
        figure, axes = canvas.figure(2, 8, 4.4)
        for axis, title, cloud in zip(axes, ("held-out", "completed"), (original, completed), strict=True):
            axis.scatter(cloud[:, 0], cloud[:, 1], s=4, alpha=0.5, linewidths=0)
            axis.set_title(f"{title}; x[{int(known.nonzero()[0])}] is given")
            axis.set_xlim(float(low[0]), float(high[0]))
            axis.set_ylim(float(low[1]), float(high[1]))
        return canvas.save(figure)
    free = (~known).nonzero().flatten().tolist()[:COLUMNS]
    figure, axes = canvas.figure(len(free), 2.8 * len(free), 3)
    for k, axis in zip(free, axes, strict=True):
        axis.scatter(original[:, k], completed[:, k], s=4, alpha=0.5, linewidths=0)
        axis.axline((float(original[:, k].nanmean()),) * 2, slope=1, color="black", linewidth=0.6)
        axis.set_title(f"x[{k}]")
        axis.set_xlabel("held-out")
    axes[0].set_ylabel("completed")
    return canvas.save(figure)


def some_data(parts: Parts) -> Tensor:
    """Training examples (N, D) in data units, for a cloud."""
    split = parts.dataset.split("train")
    assert split is not None
    index = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:SHOWN]
    return split.gather(index).x.cpu().flatten(1)


def in_plane(dataset: Dataset, x: Tensor) -> Tensor | None:
    """Examples x (n, *) of data space as points (n, 2): what they stand for, or their two coordinates."""
    points = dataset.to_plane(x.cpu())
    if points is None and dataset.spec.dim == 2 and dataset.spec.alike:
        return x.cpu().flatten(1)
    return points


def _log_density(parts: Parts, points: Tensor) -> Tensor:
    """Log p (B,) in nats, up to log Z, at examples (B, *) of data space, under an unconditional model."""
    model = parts.model
    assert isinstance(model, Unnormalized)
    return torch.cat([_scored(parts, model, chunk) for chunk in points.split(10_000)])


def _scored(parts: Parts, model: Unnormalized, points: Tensor) -> Tensor:
    points = points.to(parts.device)
    ids = torch.arange(len(points), device=parts.device)
    scores = score_rows(parts.preprocess, lambda batch, noise: model.energy(batch.x), Batch(points), ids, streams=[0])
    return -scores.nll


def _normalised(parts: Parts) -> tuple[float, float] | None:
    """log Z of an energy and KL(data | model), sums over all examples that there are; None where they are too many."""
    law = parts.dataset.law()
    if law is None:
        return None
    every, log_p = law
    log_q = _log_density(parts, every)
    log_z = float(log_q.logsumexp(0))
    there = log_p.isfinite()
    return log_z, float((log_p.exp() * (log_p - log_q + log_z))[there].sum())


def has_surface(parts: Parts) -> bool:
    """Whether ``draw_surface`` can show the model: an energy of points in the plane, the same for all y."""
    shown = isinstance(parts.model, Unnormalized) and not parts.model.conditional and not parts.preprocess.stochastic
    spec = parts.dataset.spec
    reals = spec.dim == 2 and spec.support.continuous
    return shown and (reals or parts.dataset.from_plane(torch.zeros(1, 2)) is not None)


def frame(data: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corner (2,) of a picture of data (N, 2), with a margin."""
    data = data if data.is_floating_point() else data.double()
    low, high = data.min(0).values, data.max(0).values
    margin = torch.where(high > low, 0.1 * (high - low), 1.0)
    return low - margin, high + margin


def draw_surface(parts: Parts, axis: Any, figure: Any, low: Tensor, high: Tensor) -> None:
    """Draw log p, or -E where Z is unknown, on a matplotlib axis.

    Of examples that stand for cells of the plane, that of the cell in which each point of the picture lies.
    """
    dtype = some_data(parts).dtype
    dtype = dtype if dtype.is_floating_point else torch.float64
    side = [torch.linspace(float(low[k]), float(high[k]), GRID_POINTS, dtype=dtype) for k in (0, 1)]
    points = torch.cartesian_prod(*side)
    rows = parts.dataset.from_plane(points)
    exact = _normalised(parts)
    log_p = _log_density(parts, points if rows is None else rows) - (exact[0] if exact else 0.0)
    log_p = log_p.view(GRID_POINTS, GRID_POINTS).T
    picture = axis.imshow(
        log_p.clamp(min=float(log_p.max()) - 10),
        origin="lower",
        extent=(float(low[0]), float(high[0]), float(low[1]), float(high[1])),
        cmap="viridis",
    )
    title = "-E(x) = log p(x) + log Z, nats"
    if exact or isinstance(parts.model, ExactLikelihood):
        title = "log p(x), nats" + (f"; KL(data | model) = {exact[1]:.4f}" if exact else "")
    axis.set_title(title)
    figure.colorbar(picture, ax=axis, shrink=0.8)


def _two_dimensions(parts: Parts, points: Tensor) -> bytes:
    """Data, samples at points (n, 2), and the model's density where it has one."""
    data = in_plane(parts.dataset, some_data(parts))
    assert data is not None
    low, high = frame(data)
    dense = has_surface(parts)
    aspect = float((high - low)[1] / (high - low)[0])
    figure, axes = canvas.figure(3 if dense else 2, 12 if dense else 8, 0.8 + 3.6 * min(max(aspect, 0.4), 1.5))
    clouds = [("data", data), (f"{len(points)} samples", points)]
    for axis, (title, cloud) in zip(axes, clouds, strict=False):
        axis.scatter(cloud[:, 0], cloud[:, 1], s=2, alpha=0.5, linewidths=0)
        axis.set_title(title)
    if dense:
        draw_surface(parts, axes[2], figure, low, high)
    for axis in axes:
        axis.set_xlim(float(low[0]), float(high[0]))
        axis.set_ylim(float(low[1]), float(high[1]))
        axis.set_aspect("equal")
    return canvas.save(figure)


def _one_dimension(parts: Parts, x: Tensor) -> bytes:
    data, samples = some_data(parts).flatten().double(), x.cpu().flatten().double()
    figure, axes = canvas.figure(1, 6, 4)
    levels = parts.dataset.spec.support.levels
    bins = levels if levels and levels <= 64 else 60
    low, high = (0, levels) if levels else (float(data.min()), float(data.max()))
    for values, name in ((data, "data"), (samples, f"{len(samples)} samples")):
        values = values + 0.5 if levels else values
        axes[0].hist(values.numpy(), bins=bins, range=(low, high), density=True, histtype="step", label=name)
    if isinstance(parts.model, ExactLikelihood) and not parts.preprocess.stochastic and not parts.model.conditional:
        points = torch.linspace(low, high, 500, dtype=some_data(parts).dtype)[:, None]
        axes[0].plot(points[:, 0], _log_density(parts, points).exp(), label="p(x)")
    axes[0].set_xlabel("level" if levels else "x")
    axes[0].set_ylabel("density")
    axes[0].legend()
    return canvas.save(figure)


def _marginals(parts: Parts, x: Tensor) -> bytes:
    data, samples = some_data(parts), x.cpu().flatten(1)
    shown = min(COLUMNS, data.shape[1])
    figure, axes = canvas.figure(shown, 2.6 * shown, 2.8)
    ends = torch.tensor([0.001, 0.999], dtype=torch.float64)
    for k, axis in enumerate(axes):
        low, high = torch.nanquantile(data[:, k].double(), ends).tolist()  # a table may have missing values
        for values, name in ((data, "data"), (samples, "samples")):
            there = values[:, k][~values[:, k].isnan()].numpy()
            axis.hist(there, bins=50, range=(low, high), density=True, histtype="step", label=name)
        axis.set_title(f"x[{k}]")
    axes[0].legend()
    return canvas.save(figure)
