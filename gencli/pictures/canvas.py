"""What all pictures share: PNG files, grids of images, figures without global state."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


UNKNOWN = (0.36, 0.45, 0.62)
"""Colour of pixels that are not known yet: no grey, so that it is taken for no value."""

EDGE = 0.5
"""Grey between images."""


def png(image: Tensor) -> bytes:
    """An image (1 or 3, H, W) in [0, 1] as a PNG file."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, "png")
    return buffer.getvalue()


def gif(frames: Sequence[Tensor], seconds: float = 0.1, pause: int = 10) -> bytes:
    """Images (3, H, W) in [0, 1] as a GIF file that loops; the last one stays for ``pause`` frames."""
    pictures = [_picture(frame) for frame in frames]
    durations = [int(1000 * seconds)] * (len(frames) - 1) + [int(1000 * seconds * pause)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _picture(image: Tensor) -> Image:
    from PIL import Image

    array = image.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def grid(images: Tensor, columns: int, side: int = 48) -> Tensor:
    """Images (n, C, H, W) in [0, 1] as one (3, H, W), row by row; small ones are enlarged to about ``side`` pixels."""
    colours = enlarged(images.expand(-1, 3, -1, -1), side)
    return torch.nn.functional.pad(tiles(colours, min(columns, len(images)), EDGE), (1, 1, 1, 1), value=EDGE)


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images (n, C, H, W), each pixel a square of whole pixels, at most ``side`` wide where that is larger."""
    scale = max(1, side // images.shape[-1])
    return images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


def veiled(images: Tensor, known: Tensor) -> Tensor:
    """Images (n, 1 or 3, H, W) as colours; pixels where known (n, 1, H, W) is False get a colour of their own."""
    return torch.where(known, images, torch.tensor(UNKNOWN)[:, None, None])


def tiles(images: Tensor, columns: int, fill: float, margin: int = 1) -> Tensor:
    """Images (n, C, H, W) of any values as one (C, H', W'), row by row, each with a margin all around."""
    images = torch.nn.functional.pad(images, 4 * (margin,), value=fill)
    rows = math.ceil(len(images) / columns)
    missing = images.new_full((rows * columns - len(images), *images.shape[1:]), fill)
    whole = torch.cat([images, missing]).unflatten(0, (rows, columns))
    return whole.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


def groups(parts: Sequence[tuple[str, Tensor]], columns: int, side: int = 64) -> Tensor:
    """Several views of each of n images side by side, under their names: one image (3, H, W).

    Args:
        parts: name and images (n, 3, H, W) of each view.
        columns: groups in a row.
        side: to which small images are enlarged.
    """
    from PIL import ImageDraw, ImageFont

    views = [enlarged(images, side) for _, images in parts]
    n, _, height, width = views[0].shape
    gap, wide, head = 2, 14, 18
    group = len(views) * (width + gap) - gap
    rows = math.ceil(n / columns)
    whole = torch.ones(3, head + rows * (height + wide) - wide, columns * (group + wide) - wide)
    for k in range(n):
        top, left = head + (k // columns) * (height + wide), (k % columns) * (group + wide)
        for v, view in enumerate(views):
            start = left + v * (width + gap)
            whole[:, top : top + height, start : start + width] = view[k]
    picture = _picture(whole)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for column in range(min(columns, n)):
        for v, (name, _) in enumerate(parts):
            middle = column * (group + wide) + v * (width + gap) + width // 2
            draw.text((middle, head // 2), name, fill=(0, 0, 0), anchor="mm", font=font)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def blank(width: float, height: float, dpi: int = 120) -> Any:
    """An empty matplotlib figure of width x height inches; no pyplot: no global state, no display."""
    if "matplotlib" not in sys.modules:
        # It reads a file matplotlibrc in the current folder, and evaluates parts of it: any folder but the user's.
        with _chdir(Path(__file__).parent):
            import matplotlib  # noqa: F401
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    FigureCanvasAgg(made)
    return made


@contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    """Another current folder for a while (contextlib has it from Python 3.11 on)."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def figure(columns: int, width: float, height: float, rows: int = 1) -> tuple:
    """A matplotlib figure of width x height inches, and its axes as an array (columns,), or (rows, columns)."""
    made = blank(width, height)
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
    width = max(wide / 80, 0.09 * len(title), 0.1 * columns * (1 + max(map(len, heads), default=0)))
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


def pixels(figure: Any) -> Tensor:
    """A figure as an image (3, H, W) in [0, 1]."""
    figure.canvas.draw()
    return (
        torch.frombuffer(bytearray(figure.canvas.buffer_rgba()), dtype=torch.uint8)
        .view(*reversed(figure.canvas.get_width_height()), 4)[..., :3]
        .permute(2, 0, 1)
        / 255
    )


def save(figure: object) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[attr-defined]
    return buffer.getvalue()
