"""Samples of a built model, in data units."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencli.errors import UsageError
from gencli.noise import RowNoise
from gencli.parts import Parts


@torch.no_grad()
def draw(
    parts: Parts,
    n: int,
    seed: int,
    y: Tensor | None = None,
    *,
    batch_size: int = 500,
    tick: Callable[[int], None] = lambda done: None,
) -> tuple[Tensor, Tensor | None]:
    """N samples in data units and their labels.

    Sample i is a function of (seed, i): the same whatever n and the batch size.

    Raises:
        UsageError: the model has no sampler, or needs a context that only the caller can give.
    """
    if n < 1:
        raise UsageError(f"n={n}: at least 1")
    if y is not None and len(y) != n:
        raise UsageError(f"y has {len(y)} rows for n={n} samples")
    if parts.sampler is None:
        raise UsageError("this model has no sampler; see `gencli list model`")
    y = y if y is not None else _labels(parts, n)
    samples = []
    for start in range(0, n, batch_size):
        ids = torch.arange(start, min(start + batch_size, n), device=parts.device)
        some = None if y is None else y[start : start + batch_size].to(parts.device)
        z = parts.sampler.sample(parts.model, len(ids), some, RowNoise(seed, ids))
        samples.append(parts.preprocess.inverse(z))
        tick(min(start + batch_size, n))
    return torch.cat(samples), y


def _labels(parts: Parts, n: int) -> Tensor | None:
    """Labels of a conditional model's samples: the sampler's classes, or all of them, in turn."""
    if not parts.model.conditional:
        return None
    spec = parts.dataset.spec
    if not spec.classes:
        raise UsageError("this model is conditional on a vector: draw with gencli.load(run).sample(n, y=...)")
    assert parts.sampler is not None
    classes = torch.tensor(parts.sampler.classes or list(range(spec.classes)))
    return classes[torch.arange(n) % len(classes)]
