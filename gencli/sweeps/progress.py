"""How far a job is, read from the files of its run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gencli.config import stored
from gencli.core import bounds
from gencli.core.errors import UsageError

_TAIL = 4096
"""Bytes at the end of metrics.jsonl that are looked at."""


@dataclass(frozen=True)
class Progress:
    """A job at one moment.

    Args:
        fraction: of its training that is done, in [0, 1].
        step: the last one that it told.
        of: the number of steps, if that bounds it.
        best: the best validation score, with its name.
    """

    fraction: float = 0.0
    step: int = 0
    of: int | None = None
    best: str = ""


def read(run: Path, config: Mapping[str, Any]) -> Progress:
    """The progress of a run; of one that has not begun, none."""
    if "trainer" not in config:  # a finished run that is measured
        return Progress(1.0, (_info(run).get("progress") or {}).get("step", 0), best=_best(run))
    trainer = config["trainer"]
    last = _last(run / "metrics.jsonl")
    step, seconds = last.get("step", 0), last.get("seconds", 0.0)
    minutes, steps = trainer.get("max_minutes"), _info(run).get("steps", trainer.get("max_steps"))
    steps = steps if isinstance(steps, int) else None  # auto, of a run that has not begun
    fraction = max(step / steps if steps else 0.0, seconds / (60 * minutes) if minutes else 0.0)
    return Progress(min(1.0, fraction), step, steps, _best(run))


def result(run: Path) -> str:
    """The headline of a finished run."""
    try:
        return headline(stored.own_record(run))
    except UsageError:  # damaged: whoever opens it is told
        return ""


def headline(found: Mapping[str, Any]) -> str:
    """A record's number with the sign of its bound, its error and its flags; empty where there is none.

    Example:
        >>> headline({"split": "val", "value": 2.5, "bound": "upper", "unit": "nats", "se_examples": 0.1})
        'val NLL <= 2.500 ± 0.100 nats'
    """
    value, bits, unit = found.get("value"), found.get("bits_per_dim"), str(found.get("unit"))
    if not isinstance(value, int | float):
        return ""
    sign = bounds.SIGNS.get(str(found.get("bound")), "~")
    error = bounds.error_of(found.get("se_examples"), found.get("se_shared"), found.get("se_lower_limits"))
    said = (
        [f"{bounds.nats(bits, digits=4)} bits/{unit.partition('/')[2] or 'dim'}"]
        if isinstance(bits, int | float)
        else []
    )
    told = "; ".join([*said, *map(str, found.get("flags") or ())])
    return f"{found.get('split')} NLL {sign} {bounds.nats(value)}{error} {unit}{f' ({told})' if told else ''}"


def _best(run: Path) -> str:
    best = _info(run).get("best")
    scores = {key: value for key, value in best.items() if key != "step"} if isinstance(best, dict) else {}
    return "".join(f"{name} {bounds.nats(value)}" for name, value in scores.items() if isinstance(value, int | float))


def _info(run: Path) -> dict[str, Any]:
    try:
        return stored.info(run)
    except UsageError:  # not there yet, or damaged: the job will say so
        return {}


def _last(file: Path) -> dict[str, Any]:
    """The last whole line of metrics of the training itself."""
    try:
        with file.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL))
            lines = stream.read().split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:  # cut off: at the start of the tail, or being written
            continue
        if (
            isinstance(found, dict)
            and isinstance(found.get("step"), int)
            and isinstance(found.get("seconds"), int | float)
        ):
            return found
    return {}
