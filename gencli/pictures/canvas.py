"""What all pictures share: PNG files, grids of images, figures without global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gencli.torchvision_compat import torchvision


def png(image: Tensor) -> bytes:
    """An image (3, H, W) in [0, 1] as a PNG file."""
    from PIL import Image

    array = image.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def grid(images: Tensor, columns: int) -> Tensor:
    """Images (n, C, H, W) in [0, 1] as one (3, H, W), row by row; small ones are enlarged by whole pixels."""
    scale = max(1, 48 // images.shape[-1])
    images = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return torchvision("utils").make_grid(images, nrow=columns, padding=2, pad_value=0.5)


def figure(columns: int, width: float, height: float, rows: int = 1) -> tuple:
    """A matplotlib figure of width x height inches, and its axes as an array (columns,), or (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(made)  # no pyplot: no global state, no display
    axes = made.subplots(rows, columns, squeeze=False)
    return made, axes[0] if rows == 1 else axes


def labelled(
    images: Tensor, columns: int, *, rows: Sequence[str] = (), heads: Sequence[str] = (), title: str = ""
) -> bytes:
    """A PNG of images (n, C, H, W) in rows, with a name before each row and above each column."""
    picture = grid(images, columns)
    high, wide = picture.shape[1:]
    down, across = high / math.ceil(len(images) / columns), wide / columns
    left = 0.2 + 0.09 * max(map(len, rows), default=0)  # inches, for names of 10 points
    top = 0.1 + 0.2 * bool(heads) + 0.25 * bool(title)
    width = max(wide / 80, 0.09 * len(title))
    height = width * high / wide
    across_all, down_all = left + width + 0.1, top + height + 0.1
    made, (axis,) = figure(1, across_all, down_all)
    made.set_layout_engine("none")  # it would cut names off: it does not know that pixels are square
    axis.set_position((left / across_all, 0.1 / down_all, width / across_all, height / down_all))
    axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    axis.set_yticks([down * (i + 0.5) for i in range(len(rows))], rows)
    axis.set_xticks([across * (i + 0.5) for i in range(len(heads))], heads)
    axis.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title)
    return save(made)


def save(figure: object) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[attr-defined]
    return buffer.getvalue()
