"""How many examples a step sees where ``trainer.batch_size`` is ``auto``.

A row of a text is a window of many symbols, each of which is predicted: 128 windows are so many that a CPU takes a few
steps a minute. So a step takes a number of symbols there, by the device. A network that works at every place of an
image costs as much a row; in minutes of a CPU many steps of few images go much further than few steps of many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from gencli.config import sections
from gencli.core.distributed import World
from gencli.nn.attention import CausalTransformer
from gencli.nn.dit import DiT
from gencli.run.assembly import Parts

ROWS = 128
"""Of a step."""

SYMBOLS = {"cpu": 2048}
"""Of a text, in a step, by the kind of device."""

SYMBOLS_ELSEWHERE = 16384

PLACES, FEWEST = 16_384, 4
"""Of a step on a CPU, by convolutions or by attention among patches, and the least rows."""

SCORED = 64
"""Such images that are scored at a time, unless it is said: of 500 the layers fit into no cache."""


def settled(section: Mapping[str, Any], parts: Parts, world: World) -> dict[str, Any]:
    """The section ``trainer`` with a number as its batch size, which the run keeps wherever it goes on.

    The number divides into micro-batches and over processes. Where it is few images, fewer are scored at a time too.

    Args:
        section: as it was typed.
        parts: data and device.
        world: the processes that share a batch.
    """
    options = sections.trainer(section)
    if options.batch_size != "auto":
        return dict(section)
    pieces, rows = options.accumulate * world.size, _rows(parts)
    found = {**section, "batch_size": max(1, rows // pieces) * pieces}
    if rows < ROWS and parts.dataset.per is None and options.eval_batch_size == sections.TrainerOptions.eval_batch_size:
        found["eval_batch_size"] = SCORED
    return found


def _rows(parts: Parts) -> int:
    spec, device = parts.dataset.spec, parts.device.type
    symbols = SYMBOLS.get(device, SYMBOLS_ELSEWHERE)
    if parts.dataset.per is not None:
        return max(1, min(ROWS, symbols // spec.dim))
    if device != "cpu" or spec.kind != "image":
        return ROWS
    layers = [*parts.model.modules()]
    if any(isinstance(layer, CausalTransformer) for layer in layers):
        return max(FEWEST, min(ROWS, symbols // spec.dim))
    if any(isinstance(layer, nn.Conv2d | DiT) for layer in layers):
        return max(FEWEST, min(ROWS, 1 << (PLACES // math.prod(spec.shape[1:])).bit_length() - 1))
    return ROWS
