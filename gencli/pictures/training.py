"""How samples change while a model is trained, as a film."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gencli.config.plain import regular
from gencli.core.errors import UsageError
from gencli.core.options import Positive
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import name_of
from gencli.run.assembly import Parts

MOST, SIZE = 200, 4_000_000
"""Frames, and pixels of each, at most."""


@dataclass(frozen=True, kw_only=True)
class Training(Picture):
    """The pictures that ``trainer.sample_every`` kept, one after the other under their step: a film.

    All are of the same seed, so that a sample can be followed. Nothing is drawn anew: a run that kept none has no film.

    Args:
        seconds: that each picture stays.
    """

    seconds: Positive = 0.2

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        assert parts.run is not None
        samples = parts.run / "samples"
        kept = sorted(path for path in samples.glob("step-*.png") if re.fullmatch(r"step-\d+\.png", path.name))
        if len(kept) < 2:
            raise UsageError(
                "picture=training needs pictures drawn while training: trainer.sample_every=100; this run has "
                f"{len(kept) or 'none'}"
            )
        every = -(-len(kept) // MOST)
        chosen = [*kept[:-1][::every], kept[-1]]
        images = [_read(path) for path in chosen]
        frames = [
            _under(image, f"{name_of(parts)}, step {int(path.stem[5:])}")
            for path, image in zip(chosen, images, strict=True)
            if image.shape == images[-1].shape
        ]
        return Drawn(film=canvas.Film(frames, self.seconds, pause=10))


def _read(path: Path) -> Tensor:
    """A PNG as an image (3, H, W) in [0, 1].

    Raises:
        UsageError: it is damaged, or too large.
    """
    import numpy as np
    from PIL import Image

    try:
        if path.is_symlink() or path.parent.is_symlink():
            raise ValueError("a link")  # it would show a file of this machine, as the run's maker wished
        regular(path)
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > SIZE:
                raise ValueError("too large")
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    except Exception as error:  # PIL raises errors of many kinds over a damaged file
        raise UsageError(f"{path} cannot be read ({type(error).__name__})") from error


def _under(image: Tensor, words: str) -> Tensor:
    """An image with words above it, pixel by pixel as it is."""
    high, wide = image.shape[1:]
    made = style.blank(wide / canvas.DPI, high / canvas.DPI + 0.3)
    made.set_layout_engine("none")
    made.set_dpi(canvas.DPI)
    made.figimage(image.permute(1, 2, 0).numpy())
    made.text(0.5, 1 - 0.15 / (high / canvas.DPI + 0.3), words, ha="center", va="center", fontsize="medium")
    return canvas.pixels(made)
