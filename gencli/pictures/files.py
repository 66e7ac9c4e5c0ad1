"""Samples of a run as files, and their beginnings in the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from torch import Tensor

from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.core.files import inside, write_whole
from gencli.pictures.samples import SHOWN, of_samples
from gencli.run.assembly import Parts
from gencli.run.reporter import Reporter
from gencli.run.sampling import draw

SPOKEN, SPOKEN_LINES, SPOKEN_CHARACTERS = 3, 8, 400
"""Samples of text that are shown in the terminal, and the most lines and characters of each."""


def keep(parts: Parts, run: Path, name: str, seed: int, x: Tensor, y: Tensor | None) -> list[Path]:
    """Write samples/<name>.npz (data units) and a file for people beside it.

    <name>.txt where data is text, else <name>.png: a grid of images, or a cloud of more samples beside the data (none
    where these cannot be read any more).
    """
    arrays = {"samples": x.cpu().numpy()} | ({} if y is None else {"labels": y.cpu().numpy()})
    if y is not None and (names := parts.dataset.class_names()):
        arrays["classes"] = np.array(names)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    npz = inside(run, "samples", f"{name}.npz")
    write_whole(npz, buffer.getvalue())
    texts = parts.dataset.to_text(x)
    if texts is not None:
        txt = inside(run, "samples", f"{name}.txt")
        write_whole(txt, "".join(f"=== {i} ===\n{text}\n" for i, text in enumerate(texts)).encode())
        return [txt, npz]
    if parts.dataset.to_image(x[:1]) is None and not _has_data(parts):
        return [npz]
    completed = parts.sampler is not None and parts.sampler.given is not None
    if parts.dataset.to_image(x[:1]) is None and len(x) < SHOWN and not completed:
        x = draw(parts, SHOWN, seed).x  # x and more: a handful of points shows no density
    png = inside(run, "samples", f"{name}.png")
    try:
        picture = of_samples(parts, x)
    except ValueError as error:  # of matplotlib, over values beyond any axis
        raise RunFailed(f"{png} cannot be drawn: {quoted(error)}") from error
    write_whole(png, picture)
    return [png, npz]


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
