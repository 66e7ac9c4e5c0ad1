"""Your own images: a folder of files, or of one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch

from gencli.core.errors import UsageError
from gencli.core.options import BelowOne, Count, Seed
from gencli.core.spec import Spec, Support
from gencli.data.images import Folder, Load
from gencli.data.lazy import Lazy
from gencli.data.root import user_path
from gencli.data.split import SPLITS, StreamSplit, shares

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


class ImageFolder(Lazy):
    """Image files that stream: the central square, resized to size x size, as 256 levels.

    With folders ``train``, ``val``, ``test`` inside, these are the splits (``train`` is needed, others may lack);
    otherwise a fixed seeded split of all files. Within, folders are classes in alphabetical order; without folders
    there are no classes.

    Args:
        path: the folder.
        size: side of the images in pixels.
        channels: 3 (RGB) or 1 (grey).
        val: share of the validation split where the folder has no splits.
        test: share of the test split, likewise.
        seed: of the split.

    Raises:
        UsageError: there is no such folder, or no image in it, or in a split.
        ValueError: nothing is left for training.
    """

    support: ClassVar[str] = "levels:256"
    shape_kind: ClassVar[str] = "image"

    def __init__(
        self,
        path: str | None = None,
        size: Count = 32,
        channels: Literal[1, 3] = 3,
        val: BelowOne = 0.1,
        test: BelowOne = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.path = user_path(path, "a folder of images, or of one folder a class")
        if not self.path.is_dir():
            raise UsageError(
                f"data.path={path} is a file; a folder of images is expected (data=array reads .npz and .npy)"
            )
        self.name, self.size, self.channels = self.path.resolve().name, size, channels

        official = (self.path / "train").is_dir()
        self.names: dict[str, list[str]] = {}
        if official:
            self.names = {split: _images(self.path, self.path / split) for split in SPLITS}
        else:
            names = _images(self.path, self.path)
            dealt = shares(len(names), (val, test), seed)
            self.names = {split: [names[i] for i in sorted(dealt[split])] for split in SPLITS}
        if not self.names["train"]:
            raise UsageError(f"data.path={path} has no training images ({', '.join(sorted(_ENDINGS))})")

        # The folder's name below the path, or below the split, is the class.
        self.depth = 1 if official else 0
        labels = {self._class(name) for names in self.names.values() for name in names}
        if None in labels and len(labels) > 1:
            raise UsageError(f"data.path={path} mixes images with folders of images: use one or the other")
        self.classes = sorted(label for label in labels if label is not None)
        self.spec = Spec((channels, size, size), Support.parse(self.support), classes=len(self.classes) or None)

    def _class(self, name: str) -> str | None:
        parts = Path(name).parts
        return parts[self.depth] if len(parts) > self.depth + 1 else None

    def load(self, name: str) -> StreamSplit | None:
        names = self.names[name]
        if not names:
            return None
        index = {label: i for i, label in enumerate(self.classes)}
        y = torch.tensor([index[str(self._class(n))] for n in names]) if index else None
        files = Folder(self.path)
        options = f"size {self.size}, channels {self.channels}"
        return StreamSplit(names, Load(files, None, self.size, self.channels), files.read, y, options)


def _images(base: Path, folder: Path) -> list[str]:
    """Names of all images in a folder, relative to base, in alphabetical order."""
    try:
        found = [p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS and not p.name.startswith(".")]
        return sorted(p.relative_to(base).as_posix() for p in found if p.is_file())
    except OSError as error:
        raise UsageError(f"data.path={folder} cannot be read: {error}") from error
