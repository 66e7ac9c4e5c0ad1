"""Sizes of networks and latents where an option is ``auto``, and of a penalty: by the number of coordinates, D.

Rules of thumb, one formula for each kind of size. They depend on the shape of the data and never on its rows or on the
machine, so that a model is the same wherever it is built. ``docs/defaults.md`` has a table of what they give.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from gencli.core.options import Auto

T = TypeVar("T")

NARROWEST, WIDEST = 128, 1024
"""Units of a hidden layer."""


def width(dim: int, share: float = 1.0) -> int:
    """Units of a hidden layer that reads D numbers: the power of two nearest to 64 D^(1/3), from 128 to 1024.

    Args:
        dim: D.
        share: of that width, where each number has many outputs, which cost more than the layers before them.

    Example:
        >>> [width(dim) for dim in (1, 2, 8, 64, 784, 3072)]
        [128, 128, 128, 256, 512, 1024]
    """
    return min(max(1 << round(math.log2(64 * share * dim ** (1 / 3))), NARROWEST), WIDEST)


def latents(dim: int) -> int:
    """Latents of an autoencoder of D coordinates: 2 sqrt(D), and at most D.

    Example:
        >>> [latents(dim) for dim in (1, 2, 8, 64, 784, 3072)]
        [1, 2, 6, 16, 56, 111]
    """
    return min(dim, math.ceil(2 * math.sqrt(dim)))


def generator_latents(dim: int) -> int:
    """Latents of a generator: four times those of an autoencoder, at most 128.

    It has no encoder, so that latents that are too many cost nothing but their weights, and those that are too few
    fold x onto a surface.

    Example:
        >>> [generator_latents(dim) for dim in (1, 2, 64, 784)]
        [4, 8, 64, 128]
    """
    return min(4 * latents(dim), 128)


def features(dim: int) -> int:
    """Features that a network finds in a context of C numbers: four for each latent of an autoencoder, at most 128.

    Example:
        >>> [features(dim) for dim in (1, 2, 8, 64, 1617)]
        [4, 8, 24, 64, 128]
    """
    return min(4 * latents(dim), 128)


def gradient_penalty(dim: int) -> float:
    """Lambda of a Wasserstein critic's penalty: D / 20, at most 10.

    10 is what images were trained with (Gulrajani et al., 2017). The penalty has no unit, and the distance that it
    stands beside has that of x: in a few coordinates 10 holds the critic too flat to tell modes apart.

    Example:
        >>> [gradient_penalty(dim) for dim in (2, 64, 784)]
        [0.1, 3.2, 10.0]
    """
    return min(dim / 20, 10.0)


def settle(module: nn.Module, option: str, value: Auto[T], own: T) -> T:
    """The value of an option of a module under construction; what ``auto`` became is kept with it, for ``settled``.

    Args:
        module: whose option it is.
        option: its name.
        value: as given.
        own: what ``auto`` means here.
    """
    if value != "auto":
        return value
    module.sizes = {**getattr(module, "sizes", {}), option: own}  # type: ignore[assignment]  # no tensor
    return own


def settled(model: nn.Module) -> dict[str, Any]:
    """What ``auto`` became in a model and in its networks: option -> value, or values where networks differ.

    Options of the model itself have their own name, those of its networks ``net.`` in front.
    """
    found: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        for option, value in getattr(module, "sizes", {}).items():
            values = found.setdefault(f"net.{option}" if name else option, [])
            if value not in values:
                values.append(value)
    return {option: values[0] if len(values) == 1 else values for option, values in found.items()}


def told(sizes: Mapping[str, Any]) -> str:
    """What ``settled`` found, behind a number of parameters; nothing where it found nothing.

    Example:
        >>> told({"latent": 2, "net.hidden": [128, 128]})
        ' (latent=2, net.hidden=[128, 128])'
    """
    said = ", ".join(f"{option}={json.dumps(value)}" for option, value in sizes.items())
    return f" ({said})" if said else ""


def rounded(x: float) -> int:
    """The largest of 1, 2, 5, 10, 20, 50 ... that is not above x; 0 below 1.

    Example:
        >>> rounded(4999), rounded(5000), rounded(0.3)
        (2000, 5000, 0)
    """
    if x < 1:
        return 0
    power = 10 ** math.floor(math.log10(x))
    return int(max(k * power for k in (1, 2, 5) if k * power <= x))
