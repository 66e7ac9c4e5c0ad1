"""What is to be restored: held-out examples that are degraded, or what a user has observed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.files import named
from gencli.data.base import Split
from gencli.data.images import entire
from gencli.data.preprocess import Preprocess
from gencli.methods.operators import Operator, Separable
from gencli.models.subject import Subject

_FAR = 8
"""Deviations by which normal noise never moves a value."""


@dataclass(frozen=True)
class Observed:
    """What restoration starts from, in the values v of data.

    Args:
        z: (n, m).
        truth: (n, *) where it is known; of integers the centres of their bins.
        values: (n, *) what A has seen: the truth, but that of integers lies anywhere in its bin, as the model has them.
        y: contexts in data space, of those examples.
    """

    z: Tensor
    truth: Tensor | None = None
    values: Tensor | None = None
    y: Tensor | None = None


def degraded(subject: Subject, split: Split, n: int, operator: Operator, sigma: float, number: int) -> Observed:
    """The first n examples of a split, seen through A and noise of the deviation sigma.

    Args:
        subject: whose data.
        split: of its data.
        n: examples.
        operator: A.
        sigma: of the noise.
        number: of the noise's stream.

    Raises:
        ValueError: there are fewer examples.
    """
    if n > len(split):
        raise ValueError(f"n={n}: there are {len(split)} held-out examples to restore")
    index = torch.arange(n)
    batch = split.gather(index).to(subject.device)
    truth, noise = subject.preprocess.centres(batch.x), subject.noise(index, number)
    eps, values = noise.randn(n, operator.size).to(truth), truth
    if subject.preprocess.stochastic:
        values = truth + subject.preprocess.width * (noise.rand(*truth.shape).to(truth) - 0.5)
    return Observed(operator(values) + sigma * eps, truth, values, batch.y)


def array(path: Path, key: str) -> np.ndarray:
    """The numbers of a file ``.npy``, which is read as data: an array of objects, which would be code, is refused.

    Raises:
        ValueError: there is no such file, or it holds something else than finite numbers.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{key}={quoted(path, 200)} cannot be read: {quoted(reason, 120)}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        raise ValueError(f"{key}={quoted(path, 200)}: one array of numbers in a file .npy is needed")
    if not np.isfinite(found).all():
        raise ValueError(f"{key}={quoted(path, 200)} holds a value that is not finite (NaN or infinite)")
    return found


def from_file(text: str, operator: Operator, preprocess: Preprocess, task: str, sigma: float) -> Observed:
    """What a user has observed: an image of integer data, or an array.

    Args:
        text: the file.
        operator: A.
        preprocess: of the data, whose unit is that of floats; integers count as the data's.
        task: that of A.
        sigma: of the noise.

    Raises:
        ValueError: it cannot be read, is of another shape, or in another unit.
    """
    path, spec, where = named(text, "sampler.input="), preprocess.spec, f"sampler.input={quoted(text, 200)}"
    shape = operator.shape
    if isinstance(operator, Separable):
        shape = (shape[0], len(operator.rows), len(operator.columns))
    elif task == "matrix":
        shape = (operator.size,)
    if path.suffix == ".npy":
        found = array(path, "sampler.input")
        found = found[None] if found.shape == shape else found
    elif spec.kind != "image" or task == "matrix" or shape[0] not in (1, 3):
        raise ValueError(f"{where}: an array of shape {shape} in a file .npy is needed")
    elif spec.support.kind == "real":  # 255 may stand for any of them
        needed = f"an array of shape {shape} in a file .npy, in the units of the data, is needed"
        raise ValueError(f"{where}: an image file has no units, and these data are reals: {needed}")
    else:
        found = _image(path, shape) * (preprocess.levels - 1 if preprocess.stochastic else 1)
    if found.shape[1:] != shape or not len(found):
        raise ValueError(f"{where} has shape {found.shape}; {shape} is needed, or rows of it")
    x = torch.from_numpy(found.astype(np.float64))
    z = operator.to(x.device)(x) if shape == operator.shape and task == "inpaint" else x.flatten(1)
    whole = preprocess.stochastic and (found.dtype.kind != "f" or path.suffix != ".npy")
    if task != "matrix":
        _require_unit(z, preprocess, where, whole=whole, sigma=sigma)
    elif whole:
        raise ValueError(f"{where} holds integers, but A x has no levels: floats are needed")
    return Observed((preprocess.centres(z) if whole else z).float())


def _require_unit(z: Tensor, preprocess: Preprocess, where: str, *, whole: bool, sigma: float) -> None:
    """Refuse what can be no observation in the unit of the data.

    Args:
        z: levels, or values.
        preprocess: of the data.
        where: the file, for messages.
        whole: whether z are levels.
        sigma: of the noise, which takes values out of the range.

    Raises:
        ValueError: a value lies too far out.
    """
    if preprocess.spec.support.kind == "real":
        return
    low, high = 0.0, 1.0
    if preprocess.stochastic:
        low, high = preprocess.offset, preprocess.offset + preprocess.width * preprocess.levels
    needed = f"floats from {low:g} (the least) to {high:g} (the greatest)"
    far = (high - low) / 2 + _FAR * sigma
    if preprocess.stochastic:
        needed = f"integers from 0 to {preprocess.levels - 1}, or {needed}"
    if whole:
        low, high, far = 0.0, preprocess.levels - 1.0, 0.0
    least, greatest = float(z.min()), float(z.max())
    if least < low - far or greatest > high + far:
        kind = "integers" if whole else "values"
        raise ValueError(f"{where} has {kind} from {least:g} to {greatest:g}: {needed} are needed")


def _image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An image file as (1, C, H, W) in [0, 1]."""
    try:
        pixels = entire(path, shape[0])
    except UsageError as error:
        raise ValueError(f"sampler.input={quoted(path, 200)}: {error}") from error
    high, wide = pixels.shape[1:]
    if (high, wide) != shape[1:]:
        needed = f"{shape[2]} x {shape[1]}"
        raise ValueError(f"sampler.input={quoted(path, 200)} has {wide} x {high} pixels; {needed} are needed")
    return pixels.numpy()[None] / 255
