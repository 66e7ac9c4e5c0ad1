"""Samples of a run as files, and their beginnings in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gencli.config.sections import StyleOptions
from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.core.files import inside, write_whole
from gencli.pictures import style
from gencli.pictures.export import export
from gencli.pictures.samples import SHOWN, grid_of, of_samples
from gencli.run.assembly import Parts
from gencli.run.reporter import Reporter
from gencli.run.sampling import dealt, draw
from gencli.samplers.chain import MarkovChain

SPOKEN, SPOKEN_LINES, SPOKEN_CHARACTERS = 3, 8, 400
"""Samples of text that are shown in the terminal, and the most lines and characters of each."""


def keep(
    parts: Parts, run: Path, name: str, seed: int, x: Tensor, y: Tensor | None, look: StyleOptions | None = None
) -> list[Path]:
    """Write samples/<name>.npz (data units) and a file for people beside it.

    <name>.txt where data is text, else <name>.png, or a figure in another format of the style ``look``: a grid of
    images, or a cloud of more samples beside the data (none where these cannot be read any more).
    """
    (npz,) = export(parts, run, name, ["npz"], x, y)
    if parts.dataset.to_text(x[:1]) is not None:
        return [*export(parts, run, name, ["txt"], x, y), npz]
    if parts.dataset.to_image(x[:1]) is None and not _has_data(parts):
        return [npz]
    completed = parts.sampler is not None and parts.sampler.given is not None
    slow = isinstance(parts.sampler, MarkovChain) and parts.model.spec.support.discrete  # sweeps of all coordinates
    if parts.dataset.to_image(x[:1]) is None and len(x) < SHOWN and not completed and not slow:
        more = None if y is None else dealt(y, SHOWN)
        x = draw(parts, SHOWN, seed, more).x  # x and more: a handful of points shows no density
    look = look or StyleOptions()
    file = inside(run, "samples", f"{name}.{look.format}")
    try:
        with style.applied(look):
            picture = style.rendered(of_samples(parts, x, y), look.format)
    except ValueError as error:  # of matplotlib, over values beyond any axis
        raise RunFailed(f"{file} cannot be drawn: {quoted(error)}") from error
    write_whole(file, picture)
    return [file, npz]


def seen(parts: Parts, x: Tensor, files: Sequence[Path]) -> Tensor | None:
    """What loggers are shown of samples x (n, *): a grid of images, else the picture that ``keep`` drew of them.

    Args:
        parts: of the run.
        x: in data units.
        files: what ``keep`` wrote.

    Returns:
        (3, H, W) in [0, 1]; None: texts have none.
    """
    grid = grid_of(parts, x)
    drawn = [file for file in files if file.suffix == ".png"]
    if grid is not None or not drawn:
        return grid
    with Image.open(drawn[0]) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255


def _has_data(parts: Parts) -> bool:
    """Whether the data can be read beside which samples are drawn; sampling itself needs none."""
    try:
        return parts.dataset.split("train") is not None
    except UsageError:
        return False


def say_text(parts: Parts, x: Tensor, reporter: Reporter) -> None:
    """The beginnings of the first samples, where data is text."""
    for text in parts.dataset.to_text(x[:SPOKEN]) or []:
        lines = text[:SPOKEN_CHARACTERS].split("\n")[:SPOKEN_LINES]
        reporter.say("\n".join(f"  | {line}" for line in lines), style="dim")
        reporter.say("  |")
