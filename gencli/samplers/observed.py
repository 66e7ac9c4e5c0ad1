"""What is to be restored: held-out examples that are degraded, or what a user has observed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.files import named
from gencli.core.spec import Spec
from gencli.data.base import Split
from gencli.data.images import Folder, Load, look
from gencli.methods.operators import Operator, Separable
from gencli.models.subject import Subject


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


def array(path: Path, key: str) -> Tensor:
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
    return torch.from_numpy(found.astype(np.float32))


def from_file(text: str, operator: Operator, spec: Spec, task: str) -> Observed:
    """What a user has observed: an image, or an array of values v as ``noise`` counts them.

    Raises:
        ValueError: it cannot be read, or is of another shape.
    """
    path = named(text, "sampler.input=")
    shape = operator.shape
    if isinstance(operator, Separable):
        shape = (shape[0], len(operator.rows), len(operator.columns))
    elif task == "matrix":
        shape = (operator.size,)
    if path.suffix == ".npy":
        x = array(path, "sampler.input")
        x = x[None] if tuple(x.shape) == shape else x
    elif spec.kind != "image" or task == "matrix":
        raise ValueError(f"sampler.input={quoted(text)}: an array of shape {shape} in a file .npy is needed")
    else:
        x = _image(path, shape)
    if tuple(x.shape[1:]) != shape or not len(x):
        raise ValueError(f"sampler.input={quoted(text)} has shape {tuple(x.shape)}; {shape} is needed, or rows of it")
    return Observed(operator(x) if shape == operator.shape and task == "inpaint" else x.flatten(1))


def _image(path: Path, shape: tuple[int, ...]) -> Tensor:
    """An image file as (1, C, H, W) in [0, 1]."""
    try:
        wide, high = look(path, str(path)).size
        if (high, wide) != shape[1:]:
            needed = f"{shape[2]} x {shape[1]}"
            raise ValueError(f"sampler.input={quoted(path, 200)} has {wide} x {high} pixels; {needed} are needed")
        pixels = Load(Folder(path.parent), None, shape[1], shape[0])(path.name)
    except UsageError as error:
        raise ValueError(f"sampler.input={quoted(path, 200)}: {error}") from error
    return pixels.float()[None] / 255
