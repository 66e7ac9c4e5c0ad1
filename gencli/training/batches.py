"""How many examples a step sees where ``trainer.batch_size`` is ``auto``.

A row of a text is a window of many symbols, each of which is predicted: 128 windows are so many that a CPU takes a few
steps a minute. So a step takes a number of symbols there, by the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gencli.config import sections
from gencli.core.distributed import World
from gencli.run.assembly import Parts

ROWS = 128
"""Of a step."""

SYMBOLS = {"cpu": 2048}
"""Of a text, in a step, by the kind of device."""

SYMBOLS_ELSEWHERE = 16384


def settled(section: Mapping[str, Any], parts: Parts, world: World) -> dict[str, Any]:
    """The section ``trainer`` with a number as its batch size, which the run keeps wherever it goes on.

    The number divides into micro-batches and over processes.

    Args:
        section: as it was typed.
        parts: data and device.
        world: the processes that share a batch.
    """
    options = sections.trainer(section)
    if options.batch_size != "auto":
        return dict(section)
    rows = ROWS
    if parts.dataset.per is not None:
        symbols = SYMBOLS.get(parts.device.type, SYMBOLS_ELSEWHERE)
        rows = max(1, min(ROWS, symbols // parts.dataset.spec.dim))
    pieces = options.accumulate * world.size
    return {**section, "batch_size": max(1, rows // pieces) * pieces}
