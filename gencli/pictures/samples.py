"""Pictures of samples: grids of images, networks, densities in one and two dimensions, marginals of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.regions import region
from gencli.data.base import Split
from gencli.models.base import ExactLikelihood
from gencli.pictures import canvas, style
from gencli.pictures.caption import columns_of, title
from gencli.pictures.completions import completed_images, completed_rows
from gencli.pictures.network_samples import beside_observed
from gencli.pictures.plane import clouds_and_surface
from gencli.pictures.surface import SHOWN, in_plane, log_density, some_data
from gencli.pictures.tables import marginals
from gencli.run.assembly import Parts

NETWORKS = 7
"""Samples of networks drawn beside the observed one."""

__all__ = ["SHOWN", "grid_of", "of_samples"]


def grid_of(parts: Parts, x: Tensor) -> Tensor | None:
    """A grid of images (3, H, W) in [0, 1]; None where data has no images."""
    images = parts.dataset.to_image(x.cpu())
    if images is None:
        return None
    return canvas.grid(images, columns_for(parts, len(images)), centred=not _by_class(parts))


def columns_for(parts: Parts, n: int) -> int:
    """Of a grid of n images: a square, or a class a column."""
    return len(_by_class(parts)) or image_columns(n)


def _by_class(parts: Parts) -> Sequence[int | str]:
    """The classes of the columns; none where there are no such columns."""
    if not parts.model.conditional or not parts.dataset.spec.classes or parts.sampler is None:
        return ()
    return parts.sampler.classes or range(parts.dataset.spec.classes)


def image_columns(n: int) -> int:
    """Of a square of n images."""
    return math.ceil(math.sqrt(n))


def _heads(parts: Parts, y: Tensor | None, columns: int) -> list[str]:
    """Names of the classes of the columns, or their numbers; none where classes do not come in turn."""
    if y is None or y.dim() != 1 or not bool((y == y[torch.arange(len(y)) % columns]).all()):
        return []
    names = parts.dataset.class_names()
    return [quoted(names[k], 12) if names else str(k) for k in y[:columns].tolist()]


def of_samples(parts: Parts, x: Tensor, y: Tensor | None = None) -> Any:
    """A figure of samples x (n, *) in data units: images, networks, a 1-D or 2-D density, or a table's marginals.

    Images that were drawn for classes y (n,) in turn have the names of these above them.
    """
    if parts.sampler is not None and parts.sampler.given is not None:
        known = region(parts.dataset.spec, parts.sampler.given)
        of_images = parts.dataset.to_image(x[:1].cpu()) is not None
        return completed_images(parts, x, known) if of_images else completed_rows(parts, x, known)
    images = parts.dataset.to_image(x.cpu())
    if images is not None:
        return image_grids(parts, images, y, f"{len(images)} samples")
    if parts.dataset.spec.graph is not None:
        return beside_observed(parts, x[:NETWORKS])
    points = in_plane(parts.dataset, x)
    if points is not None:
        return clouds_and_surface(parts, points)
    if parts.dataset.spec.alike and parts.dataset.spec.dim == 1:
        return _one_dimension(parts, x)
    return marginals(parts, some_data(parts), x.cpu().flatten(1))


def image_grids(parts: Parts, images: Tensor, y: Tensor | None, words: str, columns: int | None = None) -> Any:
    """A figure of images (n, C, H, W) under words, and as many training examples at their left, of the same classes."""
    columns = columns or columns_for(parts, len(images))
    heads = _heads(parts, y, columns)
    shown = [canvas.Block(images, columns, heads=heads, title=words)]
    real = real_images(parts, len(images), y if heads else None)
    if real is not None:
        shown.insert(0, canvas.Block(real, columns, heads=heads, title="training examples"))
    return canvas.blocks(shown, title(parts))


def real_images(parts: Parts, n: int, y: Tensor | None) -> Tensor | None:
    """Training examples (n, C, H, W), of classes y (n,) where there are some, or all; None: they cannot be read."""
    try:
        split = parts.dataset.split("train")
    except UsageError:
        return None
    if split is None:
        return None
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    index = order[:n] if y is None else _of_classes(split, order[:SHOWN], y.cpu())
    return None if index is None else parts.dataset.to_image(split.gather(index).x.cpu())


def _of_classes(split: Split, order: Tensor, y: Tensor) -> Tensor | None:
    """Positions (n,) of examples of classes y (n,), each at most once; None: there are too few."""
    classes = split.gather(order).y
    if classes is None:
        return None
    left = {k: order[(classes.cpu() == k)].tolist() for k in set(y.tolist())}
    chosen = [left[k].pop(0) if left[k] else None for k in y.tolist()]
    return None if None in chosen else torch.tensor(chosen)


def _one_dimension(parts: Parts, x: Tensor) -> Any:
    data, samples = some_data(parts).flatten().double(), x.cpu().flatten().double()
    figure, axes = canvas.figure(1, 6, 4)
    levels = parts.dataset.spec.support.levels
    bins = levels if levels and levels <= 64 else 60
    low, high = (0, levels) if levels else (float(data.min()), float(data.max()))
    clouds: Sequence[tuple[Tensor, str, str]] = [
        (data, f"{len(data)} training examples", style.DATA),
        (samples, f"{len(samples)} samples", style.MODEL),
    ]
    for values, name, colour in clouds:
        values = values + 0.5 if levels else values
        axes[0].hist(
            values.numpy(), bins=bins, range=(low, high), density=True, histtype="step", label=name, color=colour
        )
    points = torch.linspace(low, high, 500, dtype=some_data(parts).dtype)[:, None] if not levels else None
    if points is not None:
        if isinstance(parts.model, ExactLikelihood) and not parts.preprocess.stochastic and not parts.model.conditional:
            axes[0].plot(points[:, 0], log_density(parts, points).exp(), label="p(x) of the model", color="C2")
        truth = parts.dataset.log_density(points)
        if truth is not None:
            axes[0].plot(points[:, 0], truth.exp(), label="true p(x)", color=style.ink(), linestyle=":")
    axes[0].set_xlabel("level" if levels else columns_of(parts)[0])
    axes[0].set_ylabel("density")
    axes[0].legend()
    figure.suptitle(title(parts), wrap=True)
    return figure
