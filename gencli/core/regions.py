"""Parts of an example that are kept, seen or given: regions of images, coordinates of vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.errors import UsageError, near
from gencli.core.spec import Spec

REGIONS: dict[str, Callable[[int, int], tuple[slice, slice]]] = {
    "top_half": lambda h, w: (slice(0, h // 2), slice(None)),
    "bottom_half": lambda h, w: (slice(h // 2, None), slice(None)),
    "left_half": lambda h, w: (slice(None), slice(0, w // 2)),
    "right_half": lambda h, w: (slice(None), slice(w // 2, None)),
}
"""Parts of an image that ``sampler.given`` can keep: rows and columns for a height and a width."""


def region(spec: Spec, given: str | list[int]) -> Tensor:
    """A mask of an example's shape: True where ``sampler.given`` keeps it, a region of an image or some coordinates.

    Raises:
        UsageError: there is no such region or coordinate, or it is none of this data.
    """
    mask = torch.zeros(spec.shape, dtype=torch.bool)
    if isinstance(given, str):
        if given not in REGIONS:
            raise UsageError(f"sampler.given={given}: no such region. {near(given, REGIONS)}")
        if spec.kind != "image":
            raise UsageError(
                f"sampler.given={given} needs images; this data is of shape {spec.shape}: give a list of coordinates, "
                "such as sampler.given=[0]"
            )
        rows, columns = REGIONS[given](*spec.shape[1:])
        mask[:, rows, columns] = True
        return mask
    if spec.kind == "image":
        raise UsageError(f"sampler.given={given}: of images a region is kept: {', '.join(REGIONS)}")
    for k in given:
        if not isinstance(k, int) or not 0 <= k < spec.dim:
            raise UsageError(f"sampler.given={given}: {k} is no coordinate; this data has 0 to {spec.dim - 1}")
    if not 0 < len(set(given)) < spec.dim:
        raise UsageError(f"sampler.given={given}: at least one of the {spec.dim} coordinates, and not all")
    mask[given] = True
    return mask
