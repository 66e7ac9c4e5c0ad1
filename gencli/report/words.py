"""A result record in words: what the number is to the NLL, what it was measured on, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gencli.core.bounds import at_least, nats
from gencli.core.errors import quoted
from gencli.core.uncertainty import combined

BOUNDS = {
    "exact": "the NLL itself",
    "upper": "an upper bound: the NLL is no larger",
    "lower": "a lower bound: the NLL may be larger, so that this number cannot show that a model is good",
    "estimate": "an estimate, which bounds the NLL from neither side",
}


def number(record: Mapping[str, Any]) -> str:
    """The value with its error and unit: ``84.235 ± 0.615 nats (1.8988 bits/dim)``."""
    value, unit = record.get("value"), str(record.get("unit") or "")
    if not isinstance(value, int | float):
        return "not finite"
    if record.get("metric") != "nll":
        error = record.get("se")
        return f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")
    se = combined(record.get("se_examples"), record.get("se_shared"))
    error = "" if se is None else f" ± {'>' * at_least(record.get('se_lower_limits'))}{nats(se)}"
    bits = record.get("bits_per_dim")
    per = unit.partition("/")[2] or "dim"
    said = "" if bits is None else f" ({nats(bits, digits=4)} bits/{quoted(per)})"
    return f"{nats(value)}{error} {quoted(unit)}{said}"


def errors(record: Mapping[str, Any]) -> list[str]:
    """What each standard error stands for, a sentence each."""
    found = []
    for key, words in (
        ("se_examples", "another draw of held-out examples"),
        ("se_estimator", "another draw of the estimator's own noise"),
        ("se_shared", "what all examples share, such as log Z"),
    ):
        value = record.get(key)
        if value:
            limit = " at least" if key in (record.get("se_lower_limits") or ()) else ""
            found.append(f"{words}:{limit} {value:.3g}")
    return found


def protocol(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the number depends on besides the model, by name."""
    found = [("split", f"{record.get('split')}, {record.get('n_examples')} examples")]
    found += [(key, _plain(value)) for key, value in (record.get("protocol") or {}).items() if value not in (None, [])]
    settings = {key: value for key, value in (record.get("settings") or {}).items() if value is not None}
    told = ", ".join(f"{key}={_plain(value)}" for key, value in settings.items())
    found.append(("estimator", f"{record.get('estimator')}" + (f" ({told})" if told else "")))
    found.append(("weights", f"{record.get('weights')}, checkpoint {record.get('checkpoint')}"))
    return [(quoted(key), quoted(value, 300)) for key, value in found]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
