"""Your own images: a folder of files, or of one folder a class."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from gencli.core.errors import UsageError, near, quoted
from gencli.core.options import BelowOne, Count, NonNegative, Seed
from gencli.core.spec import Spec, Support
from gencli.data.images import Folder, Load, Look, look
from gencli.data.lazy import UserFiles, counted, listed, names_of
from gencli.data.split import ALIASES, SPLITS, StreamSplit, leaving, meant, shares
from gencli.data.tables import in_order

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


class ImageFolder(UserFiles):
    """Image files, read when they are needed: upright, the central square, resized to size x size, as 256 levels.

    With folders ``train``, ``val``, ``test`` inside, these are the splits (``train`` is needed, others may lack);
    otherwise a fixed seeded split of all files. Within, folders are classes, numbered by alphabet, or by value where
    all names are integers; without folders there are no classes. Hidden files and links to folders are not read.

    Args:
        path: the folder.
        size: side of the images in pixels.
        channels: 3 (RGB) or 1 (grey).
        val: share of the validation split where the folder has no splits.
        test: share of the test split, likewise.
        seed: of the split.
        memory: GB up to which the images, once read, are kept in memory; those of a larger folder are read each time.

    Raises:
        ValueError: nothing is left for training.
        UsageError: (by ``spec`` and ``split``) there is no such folder, no image in it, a class that the run does not
            have, or a file that is no image or would not be learned as it is seen.
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
        memory: NonNegative = 1.0,
    ) -> None:
        super().__init__(path, "a folder of images, or of one folder a class")
        self.name, self.size, self.channels = self.path.resolve().name, size, channels
        self.fractions, self.seed, self.memory = leaving((val, test)), seed, memory
        self._seen: dict[str, Look] = {}

    def understand(self) -> dict[str, Any]:
        names, _ = self._files
        if not names["train"]:
            raise self._error(f"there are no training images ({', '.join(sorted(_ENDINGS))})")
        found = {label for images in names.values() for name in images if (label := self._class(name)) is not None}
        return {"classes": (sorted(found) if self.old else in_order(found)) or None}

    def specify(self, schema: Mapping[str, Any]) -> Spec:
        classes = names_of(schema)
        return Spec(
            (self.channels, self.size, self.size), Support.parse(self.support), len(classes) if classes else None
        )

    def class_names(self) -> list[str] | None:
        return names_of(self.meaning)

    def understood(self) -> list[str]:
        if not self._seen:
            return []
        looks, (splits, unread) = list(self._seen.values()), self._files
        lines = []
        if not self.kept:
            found = counted({name: len(images) for name, images in splits.items()})
            sides = sorted({min(seen.size) for seen in looks})
            side = str(sides[0]) if len(sides) == 1 else f"{sides[0]} to {sides[-1]}"
            classes = f"; {len(names)} classes: {listed(names)}" if (names := self.class_names()) else ""
            lines.append(
                f"{found} images, the shorter side {side} pixels: the central square is read at "
                f"{self.size} x {self.size}{classes}"
            )
        grey, n = sum(seen.grey for seen in looks), len(looks)
        counts = {
            "are smaller than data.size and are enlarged": sum(min(seen.size) < self.size for seen in looks),
            "have 16 bits a channel, of which the 8 high ones are read": sum(seen.deep for seen in looks),
            "are grey: three equal channels are read (data.channels=1 reads one)": grey if self.channels == 3 else 0,
            "have colours and are read as grey (data.channels=3 reads them)": n - grey if self.channels == 1 else 0,
        }
        lines += [f"{k:,} of {n:,} images {what}" for what, k in counts.items() if k]
        if unread:
            lines.append(f"not read, since they are no images or lie in no split: {listed(unread)}")
        return [f"{self.name}: {line}" for line in lines]

    # --- splits --------------------------------------------------------------------------------------------------

    def load(self, name: str) -> StreamSplit | None:
        return self._split(self._files[0][name])

    def whole(self) -> StreamSplit | None:
        names = [name for names in self._files[0].values() for name in names]
        return self._split(names if self._official else sorted(names))

    def _split(self, names: list[str]) -> StreamSplit | None:
        """Images that have been looked at, with the numbers of their classes; a new folder need have no classes."""
        if not names:
            return None
        for name in names:
            if name not in self._seen:
                self._seen[name] = look(self.path / name, name)
        labels, classes = [self._class(name) for name in names], self.class_names()
        y = None
        if classes and None not in labels:
            numbers = {label: k for k, label in enumerate(classes)}
            for label in labels:
                if label not in numbers:
                    raise self._error(f"'{quoted(label)}' is no class of train. {near(str(label), numbers)}")
            y = torch.tensor([numbers[str(label)] for label in labels])
        files = Folder(self.path)
        options = f"size {self.size}, channels {self.channels}"
        load = Load(files, None, self.size, self.channels)
        return StreamSplit(names, load, files.read, y, options, kept=self._bytes <= 1e9 * self.memory)

    @property
    def _bytes(self) -> int:
        """Of the images of all splits."""
        return sum(map(len, self._files[0].values())) * self.channels * self.size**2

    # --- the folder ----------------------------------------------------------------------------------------------

    @cached_property
    def _folders(self) -> list[str]:
        """Folders in the folder.

        Raises:
            UsageError: it is none, or one of them is nearly called a split.
        """
        self.opened()
        if not self.path.is_dir():
            raise self._error("a folder of images is expected, not a file (data=array reads .npz and .npy)")
        found = sorted(p.name for p in self.path.iterdir() if p.is_dir() and not p.name.startswith("."))
        splits = [name for name in found if name in SPLITS]
        for name in found:
            other = meant(name, SPLITS) if splits else ALIASES.get(name.lower(), name.lower())
            if name not in SPLITS and other in SPLITS:
                raise self._error(f"the folder '{quoted(name)}' is not read as a split: did you mean '{other}'?")
        if len(splits) == 1 and len(found) > 1:
            others = listed([name for name in found if name not in SPLITS])
            raise self._error(f"'{splits[0]}' is the folder of a split; beside it, {others} would not be read")
        return found

    @property
    def _official(self) -> bool:
        return any(name in SPLITS for name in self._folders)

    @cached_property
    def _files(self) -> tuple[dict[str, list[str]], list[str]]:
        """Images by split, in alphabetical order, and what else lies there."""
        if self._official:
            found = {name: self._walk(self.path / name) if name in self._folders else ([], []) for name in SPLITS}
            names = {name: images for name, (images, _) in found.items()}
            unread = [name for _, others in found.values() for name in others]
            beside = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
            unread += [name for name in beside if name not in SPLITS]
        else:
            images, unread = self._walk(self.path)
            dealt = shares(len(images), self.fractions, self.seed)
            names = {name: [images[i] for i in sorted(dealt[name])] for name in SPLITS}
        labels = {self._class(name) for images in names.values() for name in images}
        if None in labels and len(labels) > 1:
            raise self._error("it mixes images with folders of images: use one or the other")
        return names, unread

    def _walk(self, folder: Path) -> tuple[list[str], list[str]]:
        """Names of images in a folder and below, relative to the path, in alphabetical order; and of what is none."""
        found: tuple[list[Path], list[Path]] = [], []
        for place, folders, files in os.walk(folder, onerror=self._unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            links = [name for name in folders if Path(place, name).is_symlink()]  # which may lead back
            for path in [Path(place, name) for name in (*links, *files) if not name.startswith(".")]:
                found[0 if path.suffix.lower() in _ENDINGS and path.is_file() else 1].append(path)
        images, others = (sorted(path.relative_to(self.path).as_posix() for path in paths) for paths in found)
        return images, others

    def _class(self, name: str) -> str | None:
        """The folder below the path, or below the split, in which an image lies."""
        parts = name.split("/")[1 if self._official else 0 :]
        return parts[0] if len(parts) > 1 else None

    def _unreadable(self, error: OSError) -> None:
        raise self._error(f"it cannot be read: {error}") from error

    def _error(self, text: str) -> UsageError:
        return UsageError(f"data.path={self.path}: {text}")
