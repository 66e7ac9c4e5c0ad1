"""Image files as bytes (C, H, W), from folders and archives."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
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

    def __getstate__(self) -> dict:
        return {"path": self.path, "folder": self.folder, "_opened": None}

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return self._opened[1].read(f"{self.folder}/{name}")


FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""What a file may be, whatever its name says: Pillow hands PostScript, which is a program, to Ghostscript."""


class Load:
    """name -> (C, size, size) bytes: the central square, resized (bilinear, antialiased).

    Args:
        files: where names lie.
        crop: side of the central square in pixels; None: the largest one.
        size: side of the result in pixels.
        channels: 1 (grey) or 3 (RGB).
    """

    def __init__(self, files: Archive | Folder, crop: int | None, size: int, channels: int) -> None:
        self.files, self.crop, self.size, self.channels = files, crop, size, channels

    def __call__(self, name: str) -> Tensor:
        from PIL import Image

        try:
            opened = Image.open(io.BytesIO(self.files.read(name)), formats=FORMATS)
            image = opened.convert("L" if self.channels == 1 else "RGB")
        except Exception as error:  # Pillow's readers raise errors of all kinds over a damaged file
            raise UsageError(f"{quoted(name, 200)} is no image that can be read: {quoted(error)}") from error
        side = self.crop or min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        if side != self.size:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
        return pixels.reshape(self.size, self.size, self.channels).permute(2, 0, 1).contiguous()
