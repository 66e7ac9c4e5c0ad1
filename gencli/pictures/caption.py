"""What stands above a picture: model, data, and the run's own NLL with its bound."""

from __future__ import annotations

from typing import Any

from gencli.config import stored
from gencli.core import bounds
from gencli.core.errors import UsageError, quoted
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import Parts

SIGNS = {"exact": "=", "upper": "≤", "lower": "≥", "estimate": "≈"}
"""As print has them."""
LONGEST = 40
"""Letters of a name that are shown."""


def name_of(parts: Parts) -> str:
    """Model and data of a run, as they were chosen: ``realnvp on moons``; empty while it is trained."""
    if parts.run is None:
        return ""
    choices = stored.config(parts.run)["choices"]
    return f"{quoted(choices.get('model'), LONGEST)} on {quoted(parts.dataset.name, LONGEST)}"


def record_of(parts: Parts) -> dict[str, Any] | None:
    """The run's own record of these very weights, of its test split where it has one; None: there is none."""
    if parts.run is None or parts.checkpoint is None:
        return None
    name = stored.config(parts.run)["choices"].get("estimator")
    variant = "" if parts.estimator is None else parts.estimator.variant
    for split in ("test", "val", "train"):
        try:
            found = stored.record(parts.run / "eval" / f"{split}-{name}{variant}.json")
        except UsageError:  # there is none, or it is damaged
            continue
        if found.get("weights") == parts.weights and _same_file(found, parts):
            return found
    return None


def _same_file(record: dict[str, Any], parts: Parts) -> bool:
    assert parts.checkpoint is not None
    return bool(record.get("checkpoint_sha256") == checkpoints.file_sha256(parts.checkpoint))


def number_of(record: dict[str, Any] | None) -> str:
    """A record in one line: ``NLL ≤ 92.503 ± 0.310 nats (2.085 bits/dim, upper bound)``; empty: there is none."""
    if record is None:
        return ""
    bound, value = record["bound"], record["value"]
    limits = record.get("se_lower_limits")
    error = bounds.error_of(record.get("se_examples"), record.get("se_shared"), limits)
    split = "" if record["split"] == "test" else f"{record['split']} "
    unit = quoted(record.get("unit") or "nats")
    bits = record.get("bits_per_dim")
    per = quoted(unit.partition("/")[2] or "dim")
    words = bounds.words_of(bound, limits, record.get("flags"))
    said = words if bits is None else f"{bounds.nats(bits)} bits/{per}, {words}"
    return f"{split}NLL {SIGNS[bound]} {bounds.nats(value)}{error} {unit} ({said})"


def title(parts: Parts, what: str = "") -> str:
    """Above a whole picture: ``realnvp on moons: what; NLL = 2.451 ± 0.006 nats (exact)``."""
    number = number_of(record_of(parts))
    head = ": ".join(text for text in (name_of(parts), what) if text)
    return "; ".join(text for text in (head, number) if text)


def columns_of(parts: Parts) -> list[str]:
    """Names of the coordinates: those of the user's columns, else x[0], x[1] ..."""
    if (names := parts.dataset.names()) is not None:
        return [quoted(name, 24) for name in names]
    return [f"x[{k}]" for k in range(parts.dataset.spec.dim)]
