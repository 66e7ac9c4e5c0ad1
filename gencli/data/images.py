"""Image files as bytes (C, H, W), from folders and archives."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION
from torch import Tensor

from gencli.core.errors import UsageError, quoted


class Folder:
    """Files of a folder by their relative names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return (self.path / name).read_bytes()


class Archive:
    """Files of a folder within a zip.

    Each process opens the zip for itself: workers that inherit an open file would share its position.
    """

    def __init__(self, path: Path, folder: str) -> None:
        self.path, self.folder = path, folder
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "folder": self.folder, "_opened": None}

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return self._opened[1].read(f"{self.folder}/{name}")


FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""What a file may be, whatever its name says: Pillow hands PostScript, which is a program, to Ghostscript."""

_ALPHA = ("LA", "PA", "RGBA")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Look:
    """What the head of an image file says.

    Args:
        size: width and height in pixels.
        grey: whether it has no colours.
        deep: whether it has 16 bits a channel.
    """

    size: tuple[int, int]
    grey: bool
    deep: bool


def look(path: Path, name: str) -> Look:
    """Read the head of an image file, and its pixels only where some may be transparent.

    Raises:
        UsageError: it is no image, or one that ``Load`` refuses.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            found = Look(image.size, image.mode in ("1", "L", "LA", "I", *_DEEP), _is_deep(image))
            _check(image)
            return found
    except Exception as error:
        raise _unreadable(f"data.path: {name}", error) from error


class Load:
    """name -> (C, size, size) bytes: upright as its metadata say, the central square, resized (bilinear, antialiased).

    Of 16 bits a channel the 8 high ones are read.

    Args:
        files: where names lie.
        crop: side of the central square in pixels; None: the largest one.
        size: side of the result in pixels.
        channels: 1 (grey) or 3 (RGB).
    """

    def __init__(self, files: Archive | Folder, crop: int | None, size: int, channels: int) -> None:
        self.files, self.crop, self.size, self.channels = files, crop, size, channels

    def __call__(self, name: str) -> Tensor:
        try:
            image = _opened(self.files.read(name), self.channels)
            side = self.crop or min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            if side != self.size:
                image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        except Exception as error:
            raise _unreadable(name, error) from error
        return _bytes(image, self.channels)


def entire(path: Path, channels: int) -> Tensor:
    """(C, H, W) bytes of all pixels of an image file, upright.

    Args:
        path: the file.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        UsageError: it is no image, or one that ``Load`` refuses.
    """
    try:
        return _bytes(_opened(path.read_bytes(), channels), channels)
    except Exception as error:
        raise _unreadable(str(path), error) from error


def _opened(content: bytes, channels: int) -> Image.Image:
    """Upright, of 8 bits a channel."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        return _upright(opened).convert("L" if channels == 1 else "RGB")


def _bytes(image: Image.Image, channels: int) -> Tensor:
    """(C, H, W)."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.reshape(image.height, image.width, channels).permute(2, 0, 1).contiguous()


def _unreadable(name: str, error: Exception) -> UsageError:
    """Pillow's readers raise errors of all kinds over a damaged file."""
    reason = str(error)
    if isinstance(error, UnidentifiedImageError):
        reason = f"it is empty, or none of {', '.join(FORMATS)}"
    return UsageError(f"{quoted(name, 200)} is no image that can be read: {quoted(reason, 200)}")


def _upright(image: Image.Image) -> Image.Image:
    """Its pixels with 8 bits a channel, as the metadata turn them."""
    _check(image)
    deep, bits, white_is_zero = _is_deep(image), *_of_tiff(image)
    image = ImageOps.exif_transpose(image)
    if deep and image.mode not in ("RGB", "RGBA", "LA"):  # of these, Pillow has read the 8 high bits
        high = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        image = Image.fromarray(255 - high if white_is_zero else high)
    return image


def _of_tiff(image: Image.Image) -> tuple[int, bool]:
    """Bits of a deep grey pixel, and whether 0 is white, which Pillow sees to where there are 8 bits, not more."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return (12 if tags.get(BITSPERSAMPLE) == (12,) else 16), tags.get(PHOTOMETRIC_INTERPRETATION) == 0


def _is_deep(image: Image.Image) -> bool:
    """Whether an image, whose pixels have not been read, has 16 bits a channel."""
    return image.mode in _DEEP or image.mode == "I" or any("16B" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _check(image: Image.Image) -> None:
    """Refuse what would not be learned as it is seen.

    Raises:
        ValueError: says what it is, and what to do.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # of a camera, whose other pictures are previews
        raise ValueError(f"it holds {frames} frames: save each as a file of its own")
    mode = "I;16" if (image.mode, image.format) == ("I", "PNG") else image.mode
    if mode not in ("1", "L", "P", "RGB", *_ALPHA, *_DEEP):
        raise ValueError(f"it is of mode {mode}: convert it to 8 bits of grey or RGB")
    transparent = mode in _ALPHA or "transparency" in image.info
    if transparent and (mode in _DEEP or np.asarray(image.convert("RGBA"))[..., 3].min() < 255):
        raise ValueError("some of its pixels are transparent: put it on a background, without an alpha channel")
