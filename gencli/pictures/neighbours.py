"""Samples beside their nearest training examples: does the model remember, or generalise?

A picture that looks like its neighbour proves nothing by itself, because held-out examples have near neighbours too. So
the distances of samples stand beside those of held-out examples: a model that copies has smaller ones.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.metrics.base import Samples, row_blocks, squared_distances
from gencli.pictures import style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.sampling import draw

_HELD_OUT = 2000  # held-out examples of the histogram
_PAIRS = 64  # pairs of images in the picture
_MOST = 100_000  # training examples that are searched


@dataclass(frozen=True, kw_only=True)
class Neighbours(Picture):
    """Pairs of a sample and its nearest training example, and a histogram of distances to the training split.

    The distance is Euclidean between examples as they are shown (``metrics.base``), reals standardised by the held-out
    examples. Files: ``.png``, and ``.npz`` with samples, neighbours, their distances, and those of held-out examples.
    """

    @torch.no_grad()
    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        train = parts.dataset.split("train")
        held_out = parts.dataset.split("test") or parts.dataset.split("val")
        assert train is not None
        if held_out is None:
            raise UsageError(f"picture=neighbours needs a test or val split; data={parts.dataset.name} has neither")
        x = draw(parts, n, seed).x.cpu()
        others = held_out.gather(torch.arange(min(_HELD_OUT, len(held_out)))).x
        searched = train.gather(_search(train)).x

        samples = Samples(torch.cat([x, searched]), None, Batch(others), parts.dataset)
        (drawn, known), rest = samples.shown[0].split([n, len(searched)]), samples.shown[1]
        known = known.to(parts.device)
        distance, index = _nearest(drawn.to(parts.device), known)
        usual, _ = _nearest(rest.to(parts.device), known)
        arrays = {
            "samples": x.numpy(),
            "neighbours": searched[index].numpy(),
            "distances": distance.numpy(),
            "held_out_distances": usual.numpy(),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        images, nearest = (parts.dataset.to_image(some[:_PAIRS]) for some in (x, searched[index]))
        picture = _draw(images, nearest, distance, usual, len(searched), title(parts))
        return Drawn({".npz": buffer.getvalue()}, figures={"": picture})


def _search(train: Split) -> Tensor:
    """Positions of the training examples that are searched: all of them, or the same 100,000."""
    if len(train) <= _MOST:
        return torch.arange(len(train))
    return torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:_MOST]


def _nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and position of the nearest of known (m, D) for each row of x (n, D), on the CPU."""
    found = [squared_distances(x[block], known).min(1) for block in row_blocks(len(x), len(known), x.device)]
    return torch.cat([f.values for f in found]).sqrt().cpu(), torch.cat([f.indices for f in found]).cpu()


def _draw(a: Tensor | None, b: Tensor | None, distance: Tensor, usual: Tensor, searched: int, title: str) -> Any:
    columns = 8
    rows = 0 if a is None else math.ceil(len(a) / columns)
    figure = style.blank(12, 3.3 + 0.85 * rows)
    lower = figure
    if a is not None and b is not None:
        upper, lower = figure.subfigures(2, 1, height_ratios=[0.85 * rows, 3])
        upper.suptitle("sample | nearest training example, and their distance", fontsize=10)
        axes = upper.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        gap = torch.ones_like(a[:, :, :, :1])
        for axis, image, d in zip(axes, torch.cat([a, gap, b], -1).expand(-1, 3, -1, -1), distance, strict=False):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", vmin=0, vmax=1)
            axis.set_title(f"{float(d):.2f}", fontsize=7, pad=1)
    axis = lower.subplots()
    top = max(float(torch.quantile(d, 0.98)) for d in (distance, usual))
    edges = torch.linspace(0, top or 1.0, 41).tolist()
    axis.hist(
        distance.numpy(), edges, density=True, histtype="step", color=style.MODEL, label=f"{len(distance)} samples"
    )
    axis.hist(
        usual.numpy(), edges, density=True, histtype="step", color=style.DATA, label=f"{len(usual)} held-out examples"
    )
    axis.set_xlim(0, edges[-1])
    axis.set_xlabel(f"distance to the nearest of {searched:,} training examples")
    axis.set_yticks([])
    axis.legend()
    figure.suptitle(title)
    return figure
