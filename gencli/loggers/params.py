"""What loggers are told of a config: no credentials, one value for each key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LEFT_OUT = ("logger", "trust", "typed")
"""Sections that say nothing about the model."""

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def public(config: Any) -> Any:
    """A config that may leave the machine: without the section ``logger``, and without user and password in addresses.

    Example:
        >>> public({"data": {"path": "s3://me:secret@host/x"}, "logger": {}})
        {'data': {'path': 's3://***@host/x'}}
    """
    return {key: _masked(value) for key, value in config.items() if key not in LEFT_OUT}


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _masked(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return CREDENTIALS.sub("***@", value) if isinstance(value, str) else value


def flat(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """The values of a config by dotted keys; an option of a group stands under the group's name, lists are texts.

    Example:
        >>> flat({"seed": 0, "model": {"_target_": "gencli.models.Toy", "hidden": [8, 8]}, "choices": {"model": "toy"}})
        {'model': 'toy', 'seed': 0, 'model.hidden': '[8, 8]'}
    """
    chosen = {key: value for key, value in (config.get("choices") or {}).items() if isinstance(value, str)}
    rest = {key: value for key, value in config.items() if key != "choices"}
    return {**chosen, **dict(_leaves(rest))}


def _leaves(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, bool | int | float | str]]:
    found: list[tuple[str, bool | int | float | str]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{key}.")
        elif key != "_target_" and value is not None:
            found.append((f"{prefix}{key}", value if isinstance(value, bool | int | float | str) else str(value)))
    return found
