"""Examples of which a part was given and the rest drawn, beside what had been there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gencli.pictures import canvas, plane, style
from gencli.pictures.caption import columns_of, title
from gencli.pictures.surface import frame, some_data
from gencli.run.assembly import Parts
from gencli.run.sampling import originals

COLUMNS = 6
"""Coordinates drawn of a table."""


def completed_images(parts: Parts, x: Tensor, known: Tensor) -> Any:
    """A figure of given, completed and original images side by side."""
    completed, original = (parts.dataset.to_image(images.cpu()) for images in (x, originals(parts, len(x)).x))
    assert completed is not None
    assert original is not None
    views = [
        ("given", canvas.veiled(original, known[:1])),
        ("completed", completed.expand(-1, 3, -1, -1)),
        ("original", original.expand(-1, 3, -1, -1)),
    ]
    return canvas.groups(views, max(1, round(math.sqrt(len(x) / 3))), title(parts))


def completed_rows(parts: Parts, x: Tensor, known: Tensor) -> Any:
    """A figure of rows with some coordinates kept.

    In the plane two clouds, else what was imputed against what had been there.
    """
    completed, original = x.cpu().flatten(1), originals(parts, len(x)).x.flatten(1)
    names = columns_of(parts)
    if x[0].numel() == 2 and parts.dataset.spec.alike:
        low, high = frame(some_data(parts))
        figure, axes = canvas.figure(2, 8, 4.6)
        given = names[int(known.nonzero()[0])]
        clouds = [("held-out", original, style.DATA), ("completed", completed, style.MODEL)]
        for axis, (name, cloud, colour) in zip(axes, clouds, strict=True):
            plane.scatter(axis, cloud, colour, size=4)
            axis.set_title(f"{name}; {given} is given")
            plane.in_frame(axis, low, high, names)
        figure.suptitle(title(parts), wrap=True)
        return figure
    free = (~known).nonzero().flatten().tolist()[:COLUMNS]
    figure, axes = canvas.figure(len(free), 2.8 * len(free), 3.2)
    for k, axis in zip(free, axes, strict=True):
        pair = torch.stack([original[:, k], completed[:, k]], 1)
        plane.scatter(axis, pair, style.MODEL, size=4)
        axis.axline((float(original[:, k].nanmean()),) * 2, slope=1, color=style.ink(), linewidth=0.6)
        axis.set_title(names[k])
        axis.set_xlabel("held-out")
    axes[0].set_ylabel("completed")
    figure.suptitle(title(parts), wrap=True)
    return figure
