"""What pictures share: grids of images, figures of them, PNG files and films."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.pictures import style

if TYPE_CHECKING:
    from PIL.Image import Image


UNKNOWN = (0.36, 0.45, 0.62)
"""Colour of pixels that are not known yet: no grey, so that it is taken for no value."""

EDGE = 0.5
"""Grey between images."""

DPI = 120
"""Pixels of a grid that an inch of a figure has."""


def png(image: Tensor) -> bytes:
    """An image (1 or 3, H, W) in [0, 1] as a PNG file."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, "png")
    return buffer.getvalue()


@dataclass(frozen=True)
class Film:
    """Moving pictures that begin anew.

    Args:
        frames: images (3, H, W) in [0, 1].
        seconds: that each stays.
        pause: how many times as long the last one stays.
    """

    frames: Sequence[Tensor]
    seconds: float = 0.1
    pause: int = 10

    def encoded(self, format: str) -> bytes:
        """The content of a file: ``gif``, or ``mp4``.

        Raises:
            UsageError: the package that writes it is missing.
        """
        return self._mp4() if format == "mp4" else self._gif()

    def _gif(self) -> bytes:
        pictures = [_picture(frame) for frame in self.frames]
        stay = max(10, round(1000 * self.seconds))  # a GIF counts in 10 ms, and viewers choose a time in place of 0
        durations = [stay] * (len(self.frames) - 1) + [stay * self.pause]
        buffer = io.BytesIO()
        pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
        return buffer.getvalue()

    def _mp4(self) -> bytes:
        try:
            import av
        except ModuleNotFoundError as error:
            raise UsageError("style.film=mp4 needs PyAV: pip install 'gencli-nll[video]'") from error
        high, wide = self.frames[0].shape[1:]
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as file:
            stream = file.add_stream("libx264", rate=Fraction(1 / self.seconds).limit_denominator(1000))
            stream.width, stream.height = wide + wide % 2, high + high % 2  # colours are kept of 2x2 pixels
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
            for frame in [*self.frames, *[self.frames[-1]] * (self.pause - 1)]:
                even = torch.nn.functional.pad(frame, (0, wide % 2, 0, high % 2), value=EDGE)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(_picture(even)), format="rgb24")))
            file.mux(stream.encode())
        return buffer.getvalue()


def _picture(image: Tensor) -> Image:
    from PIL import Image

    array = image.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def grid(images: Tensor, columns: int, side: int = 48, *, centred: bool = True) -> Tensor:
    """Images (n, C, H, W) in [0, 1] as one (3, H, W), row by row, the last row centred or not; see ``enlarged``."""
    colours = enlarged(images.expand(-1, 3, -1, -1), side)
    columns = min(columns, len(images))
    whole = len(images) // columns * columns
    parts = [tiles(colours[:whole], columns, EDGE)]
    if whole < len(images):
        last = tiles(colours[whole:], len(images) - whole, EDGE)
        free = parts[0].shape[2] - last.shape[2]
        left = free // 2 if centred else 0
        parts.append(torch.nn.functional.pad(last, (left, free - left), value=EDGE))
    return torch.nn.functional.pad(torch.cat(parts, 1), (1, 1, 1, 1), value=EDGE)


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images (n, C, H, W), each pixel a square of as few whole pixels as make them ``side`` wide or more."""
    scale = max(1, math.ceil(side / images.shape[-1]))
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


def groups(parts: Sequence[tuple[str, Tensor]], columns: int, title: str = "") -> Any:
    """A figure of several views of each of n images side by side, under their names.

    Args:
        parts: name and images (n, 3, H, W) of each view.
        columns: groups in a row.
        title: above the whole.
    """
    n = len(parts[0][1])
    columns = min(columns, n)
    shown = []
    for column in range(columns):
        views = torch.stack([images[column::columns] for _, images in parts], 1)
        shown.append(Block(views.flatten(0, 1), len(parts), heads=[name for name, _ in parts]))
    return blocks(shown, title, side=64)


def figure(columns: int, width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure of width x height inches, and its axes as an array (columns,), or (rows, columns)."""
    made = style.blank(width, height)
    axes = made.subplots(rows, columns, squeeze=False)
    return made, axes[0] if rows == 1 else axes


@dataclass(frozen=True)
class Block:
    """A grid of images with names around it.

    Args:
        images: (n, C, H, W) in [0, 1], row by row.
        columns: images in a row.
        rows: names before the rows.
        heads: names above the columns.
        title: above the whole.
        below: a line or more under it.
    """

    images: Tensor
    columns: int
    rows: Sequence[str] = ()
    heads: Sequence[str] = ()
    title: str = ""
    below: str = ""


LINE, LETTER, GAP = 0.2, 0.085, 0.15
"""Inches of a line of text, of a letter of it, and around blocks."""

NARROWEST = 50
"""Letters of a line of the title, below which a picture is made wider for it."""


def labelled(
    images: Tensor, columns: int, *, rows: Sequence[str] = (), heads: Sequence[str] = (), title: str = ""
) -> Any:
    """A figure of images (n, C, H, W) in rows, with a name before each row and above each column."""
    return blocks([Block(images, columns, rows, heads)], title)


def blocks(shown: Sequence[Block], title: str = "", side: int = 48) -> Any:
    """A figure of grids of images side by side under one title.

    Every pixel of an image is a square of whole pixels in a PNG of the usual size.
    """
    grids = [  # below names of columns the last row begins with the first of them
        grid(block.images, block.columns, _side(block, side), centred=not block.heads) for block in shown
    ]
    sizes = [(g.shape[2] / DPI, g.shape[1] / DPI) for g in grids]
    lefts = [GAP + LETTER * max(map(len, block.rows), default=0) for block in shown]
    slots = [
        max(wide, LETTER * max(map(len, [block.title, *block.below.split("\n")])))
        for block, (wide, _) in zip(shown, sizes, strict=True)
    ]
    full = sum(lefts) + sum(slots) + GAP
    lines = textwrap.wrap(title, max(NARROWEST, int((full - 2 * GAP) / LETTER)))
    top = GAP + LINE * (1.3 * len(lines) + any(b.title for b in shown) + any(b.heads for b in shown))
    bottom = GAP + LINE * max(b.below.count("\n") + 1 if b.below else 0 for b in shown)
    height = max(high for _, high in sizes)
    across, down = max(full, LETTER * max(map(len, lines), default=0) + 2 * GAP), top + height + bottom
    made = style.blank(across, down)
    made.set_layout_engine("none")  # it would cut names off: it does not know that pixels are square
    at = (across - full) / 2
    for block, picture, left, slot, (wide, high) in zip(shown, grids, lefts, slots, sizes, strict=True):
        start = at + left + (slot - wide) / 2
        low = bottom + height - high
        _grid_on(made.add_axes((start / across, low / down, wide / across, high / down)), block, picture)
        at += left + slot
    if lines:
        middle = 1 - 0.5 * (GAP + 1.3 * LINE * len(lines)) / down
        made.text(0.5, middle, "\n".join(lines), ha="center", va="center", fontsize="large")
    return made


def _side(block: Block, side: int) -> int:
    """To which images are enlarged, so that the names of columns have room."""
    letters = max(map(len, block.heads), default=0)
    return max(side, math.ceil(DPI * LETTER * (letters + 1))) if letters else side


def _grid_on(axis: Any, block: Block, picture: Tensor) -> None:
    """A grid of images on an axis that has its shape, with the names around it."""
    high, wide = picture.shape[1:]
    down, across = high / math.ceil(len(block.images) / block.columns), wide / block.columns
    axis.imshow(picture.permute(1, 2, 0).cpu().numpy(), interpolation="nearest", aspect="auto")
    axis.set_yticks([down * (i + 0.5) for i in range(len(block.rows))], block.rows)
    axis.set_xticks([across * (i + 0.5) for i in range(len(block.heads))], block.heads)
    axis.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    if block.title:
        axis.set_title(block.title, fontsize="medium")
    if block.below:
        axis.text(0.5, -6 / high, block.below, transform=axis.transAxes, ha="center", va="top", fontsize="small")


def pixels(figure: Any) -> Tensor:
    """A figure as an image (3, H, W) in [0, 1]."""
    figure.canvas.draw()
    return (
        torch.frombuffer(bytearray(figure.canvas.buffer_rgba()), dtype=torch.uint8)
        .view(*reversed(figure.canvas.get_width_height()), 4)[..., :3]
        .permute(2, 0, 1)
        / 255
    )
