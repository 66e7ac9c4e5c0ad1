"""What a job is known by: its resolved config, as far as that decides what the run says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gencli.config import catalog

WHERE = ("run_dir", "resume", "device", "threads", "logger", "trust", "choices")
"""Keys that say where and with whom a run computes, and names that its sections repeat."""

WHERE_IN = {"trainer": ("workers",), "data": ("root",)}
"""The same within a section."""

LENGTH = 8
"""Hexadecimal digits of an id."""


def job_id(config: Mapping[str, Any]) -> str:
    """The id of a job; two configs share it if and only if they agree in all that matters.

    Example:
        >>> job_id({"seed": 0, "device": "cpu"}) == job_id({"seed": 0, "device": "cuda:1"})
        True
    """
    kept = {key: value for key, value in config.items() if key not in WHERE}
    for section, keys in WHERE_IN.items():
        if isinstance(kept.get(section), Mapping):
            kept[section] = {key: value for key, value in kept[section].items() if key not in keys}
    return _hash(_number(kept))


def sweep_id(jobs: Iterable[str]) -> str:
    """The id of a sweep: that of the set of its jobs."""
    return _hash(sorted(set(jobs)))


def slug(swept: Sequence[str]) -> str:
    """A job's overrides as a folder may be named.

    Example:
        >>> slug(["model=maf", "optimizer.lr=1e-3", "seed=0"])
        'maf-lr1e-3-seed0'
    """
    parts = []
    for word in swept:
        key, _, value = word.lstrip("+~").partition("=")
        group = key.partition("@")[0]
        name = "" if group in catalog.GROUPS else key.rpartition(".")[2]
        parts.append(re.sub(r"[^\w.+-]+", "_", f"{name}{value}", flags=re.ASCII).strip("_"))
    return "-".join(filter(None, parts))[:60].strip("-.") or "job"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:LENGTH]


def _number(value: Any) -> Any:
    """The same with 1 for 1.0, which options take as equals."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _number(each) for key, each in value.items()}
    return [_number(each) for each in value] if isinstance(value, list | tuple) else value
