"""Samples of a built model, in data units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.regions import region
from gencli.core.spec import Batch, Given
from gencli.core.tensors import numbers
from gencli.data.base import Dataset, Split
from gencli.models.base import Autoregressive
from gencli.run import conditioning
from gencli.run.assembly import Parts
from gencli.samplers.base import Sampler, Samples


@dataclass(frozen=True)
class Drawn:
    """Samples of a run.

    Args:
        x: (n, *) in data units.
        y: (n,) labels or (n, C) contexts that they were drawn for; None: none.
        diagnostics: what the sampler says of them, averaged over batches.
    """

    x: Tensor
    y: Tensor | None
    diagnostics: dict[str, float]


@torch.no_grad()
def draw(
    parts: Parts,
    n: int,
    seed: int,
    y: object = None,
    *,
    batch_size: int = 500,
    tick: Callable[[int], None] = lambda done: None,
) -> Drawn:
    """N samples in data units.

    Sample i is a function of (seed, i): the same whatever n and the batch size.

    Raises:
        UsageError: the model has no sampler, or needs a context that only the caller can give.
    """
    if n < 1:
        raise UsageError(f"n={n}: at least 1")
    if parts.sampler is None:
        raise UsageError("this model has no sampler; see `gencli list model`")
    if not isinstance(parts.sampler, Sampler):
        raise UsageError(
            "sampler: a question draws no samples of the model: gencli sample run=RUN sampler=NAME asks it"
        )
    y = checked_context(parts, y, n) if y is not None else labels(parts, n)
    x_given, mask = _given(parts, n)
    drawn: list[Samples] = []
    for start in range(0, n, batch_size):
        ids = torch.arange(start, min(start + batch_size, n), device=parts.device)
        some = parts.preprocess.context(None if y is None else y[start : start + batch_size].to(parts.device))
        noise = RowNoise(stream(seed, Purpose.SAMPLING), ids)
        if mask is None:
            found = parts.sampler.sample(parts.view, len(ids), some, noise)
        else:
            kept, _ = parts.preprocess(x_given[start : start + batch_size].to(parts.device), noise)
            keep = mask.to(parts.device).reshape(1, *kept.shape[1:]).expand_as(kept)
            found = parts.sampler.sample(parts.view, len(ids), some, noise, given=Given(kept, keep))
        found = found if isinstance(found, Samples) else Samples(found)  # a plug-in may give x alone
        drawn.append(Samples(parts.preprocess.inverse(found.x), found.diagnostics))
        tick(min(start + batch_size, n))
    said = {key: sum(len(d.x) * d.diagnostics[key] for d in drawn) / n for key in drawn[0].diagnostics}
    return Drawn(torch.cat([d.x for d in drawn]), y, said)


def as_rows(dataset: Dataset, x: object) -> Tensor:
    """Examples as a user gives them: tensors, arrays, lists, or a table (pandas, polars) whose columns are the data's.

    A table of named columns is read by their names, and its texts as those of the training file; of data without names
    its columns are taken in order.

    Raises:
        UsageError: a column is missing, or holds something else.
    """
    if not hasattr(x, "columns") or not hasattr(x, "to_numpy"):
        return numbers("x", x)
    found = dataset.from_rows({str(name): np.asarray(x[name]) for name in x.columns})  # type: ignore[index]
    return numbers("x", x.to_numpy()) if found is None else found


def checked_context(parts: Parts, y: object, n: int) -> Tensor:
    """A context as a user gives it, for n rows, in data space; one class is that of all.

    Raises:
        UsageError: the model takes none, or y does not fit the data.
    """
    if not parts.model.conditional:
        raise UsageError("y: this model is not conditional, so that y would change nothing (model.conditional=true)")
    y = [y] * n if isinstance(y, str | int) else y
    y = np.asarray(y) if hasattr(y, "to_numpy") else y  # a column of a table
    values = y.tolist() if isinstance(y, np.ndarray) else y
    if isinstance(values, Sequence) and any(isinstance(value, str) for value in values):
        y = conditioning.class_numbers(parts.dataset, values, "y")
    return parts.preprocess.checked_context(y, n)


def originals(parts: Parts, n: int) -> Batch:
    """The first n held-out examples in data space: what a completion starts from and is compared with.

    Raises:
        UsageError: there are fewer.
    """
    split = held_out(parts)
    if n > len(split):
        raise UsageError(f"n={n}: there are {len(split)} held-out examples to complete")
    return split.gather(torch.arange(n))


def region_name(given: str | list[int]) -> str:
    """What is kept, as part of a file's name."""
    if isinstance(given, str):
        return given
    return "given-" + ("-".join(map(str, given)) if len(given) <= 8 else f"{len(given)}-coordinates")


def held_out(parts: Parts) -> Split:
    """The examples to look at: the test split, else validation, else what there is."""
    split = parts.dataset.split("test") or parts.dataset.split("val") or parts.dataset.split("train")
    assert split is not None
    return split


def check(parts: Parts) -> None:
    """Refuse what a sampler is asked to complete or to draw for, where it makes no sense, without reading any data.

    Raises:
        UsageError: there is no such region or class, the data have none, or the prompt is no text of this data.
    """
    if parts.sampler is not None:
        _kept(parts)
        conditioning.chosen(parts)


def _given(parts: Parts, n: int) -> tuple[Tensor, Tensor | None]:
    """What a completing sampler keeps: examples x (n, *) of data space and a mask (*) of known coordinates, or None."""
    x, mask = _kept(parts)
    if mask is not None and x is None:
        return originals(parts, n).x, mask
    return (torch.empty(0) if x is None else x.expand(n, -1)), mask


def _kept(parts: Parts) -> tuple[Tensor | None, Tensor | None]:
    """A prompt (T,) or None, where held-out images are completed, and a mask of known coordinates, or None."""
    sampler, spec = parts.sampler, parts.dataset.spec
    assert sampler is not None
    if sampler.given is not None and sampler.prompt is not None:
        raise UsageError("sampler.given and sampler.prompt exclude each other")
    if sampler.given is not None:
        return None, region(spec, sampler.given)
    if sampler.length is not None and parts.dataset.per is None:
        raise UsageError(f"sampler.length={sampler.length} needs data that is text; this data is of shape {spec.shape}")
    if sampler.prompt is not None or sampler.length is not None:
        try:
            start = parts.dataset.encode(sampler.prompt or "")
        except ValueError as error:
            raise UsageError(str(error)) from error
        length = spec.dim if sampler.length is None else sampler.length
        if length != spec.dim and not (isinstance(parts.model, Autoregressive) and parts.model.any_length):
            raise UsageError(f"sampler.length={length}: this model draws its window of {spec.dim} symbols only")
        if len(start) >= length:
            raise UsageError(f"sampler.length={length}: the prompt alone has {len(start)} symbols")
        x = start.new_zeros(length)
        x[: len(start)] = start
        return x, torch.arange(length) < len(start)
    return None, None


def labels(parts: Parts, n: int) -> Tensor | None:
    """What a conditional model's samples are drawn for: the sampler's classes or contexts in turn, else by default.

    By default those of what it completes; all classes in turn; contexts of examples (``borrowed``).
    """
    if not parts.model.conditional:
        return None
    y = conditioning.chosen(parts)
    if y is None and parts.sampler is not None and parts.sampler.given is not None:
        return originals(parts, n).y
    if y is None:
        y = torch.arange(parts.dataset.spec.classes) if parts.dataset.spec.classes else _contexts(parts, n)
    return dealt(y, n)


def dealt(y: Tensor, n: int) -> Tensor:
    """Rows of y in turn, for n samples."""
    return y[torch.arange(n) % len(y)]


def borrowed(parts: Parts) -> str:
    """What is to be said where samples are drawn for contexts that nobody chose; empty: they are not."""
    sampler = parts.sampler
    free = sampler is not None and sampler.context is None and sampler.given is None
    if not (free and parts.model.conditional and parts.dataset.spec.context):
        return ""
    name, _ = _examples(parts)
    return f"drawn for the contexts of the first rows of split={name}; others: sampler.context=[...] or context=FILE"


def _contexts(parts: Parts, n: int) -> Tensor:
    """Contexts (at most n, C) of the first examples that no test is made of."""
    _, split = _examples(parts)
    y = split.gather(torch.arange(min(n, len(split)))).y
    assert y is not None
    return y


def _examples(parts: Parts) -> tuple[str, Split]:
    """The validation split, or training where there is none."""
    try:
        found = [(name, parts.dataset.split(name)) for name in ("val", "train")]
    except UsageError as error:
        raise UsageError(
            f"sampler.context=[...] or context=FILE: what to draw for? The data are not there: {error}"
        ) from error
    return next((name, split) for name, split in found if split is not None)
