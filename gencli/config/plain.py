"""Text files of a run as plain data: JSON and YAML in which nothing has a meaning of its own.

A file may be damaged, or a stranger's. Each function gives plain data of a sane size, or raises one line.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gencli.core.errors import UsageError, quoted

BYTES = 2**20
"""Size of a text file, or of one line of metrics.jsonl: ours have a few thousand."""

VALUES, DEPTH = 20_000, 32
"""Most values in such a file, and how deep they lie."""


def text(file: Path, times: int = 1) -> str:
    """A text file of a sane size, or as many times that.

    Raises:
        UsageError: it is not there, is no file, too large, or no UTF-8.
    """
    try:
        regular(file)
        with file.open("rb") as stream:
            content = stream.read(times * BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{file.parent} is not a run folder: it has no {file.name}") from error
    except OSError as error:
        raise unreadable(file, error) from error
    if len(content) > times * BYTES:
        raise UsageError(f"{file} is damaged: it is larger than {times * BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is damaged: it is no UTF-8 at byte {error.start}") from error


def regular(file: Path) -> None:
    """Refuse what would be waited for, or has no end: pipes and devices."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise UsageError(f"{file} is no file")


def unreadable(file: Path, error: OSError) -> UsageError:
    """What to say of a file that the system does not give."""
    return UsageError(f"{file} cannot be read: {error.strerror or type(error).__name__}")


def parse_json(content: str | bytes, file: Path, times: int = 1) -> Any:
    """JSON of a file, or of a line of it.

    Raises:
        UsageError: it is none, no UTF-8, or larger than any of ours.
    """
    try:
        found = json.loads(content.decode("utf-8") if isinstance(content, bytes) else content)
    except (ValueError, RecursionError) as error:  # digits without end, brackets without end
        raise UsageError(f"{file} is damaged: {quoted(str(error))}") from error
    refuse_odd(found, file, times)
    return found


def mapping(file: Path, types: Mapping[str, tuple[type, ...]], times: int = 1) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        UsageError: it is damaged, or one of the keys that ``types`` names is of another type.
    """
    found = parse_json(text(file, times), file, times)
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged: it is no mapping")
    check_types(found, types, file)
    return found


def check_types(found: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], file: Path, where: str = "") -> None:
    """Refuse a mapping of a file, which stands there at ``where``, with a key of another type than it should be.

    Raises:
        UsageError: names the key.
    """
    for key, kinds in types.items():
        if key in found and not is_of(found[key], kinds):
            raise UsageError(f"{file} is damaged: {where}{key}={quoted(found[key])} is of the wrong type")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml: 15 times faster
    """Plain values only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice} is there twice", node.start_mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


def read_yaml(file: Path) -> Any:
    """A YAML file of plain values.

    Raises:
        UsageError: it is damaged, or says more than values.
    """
    return parse_yaml(text(file), file)


def parse_yaml(content: str, file: Path) -> Any:
    """YAML of a file; see ``read_yaml``."""
    try:
        _only_plain(yaml.parse(content, Loader=_Loader), file)
        return yaml.load(content, Loader=_Loader)  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or number that is none
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{file} is damaged{line}: {quoted(problem)}") from error


def _only_plain(events: Iterator[yaml.Event], file: Path) -> None:
    """Refuse all by which YAML makes more of a text than it says, before anything is made of it."""
    depth = 0
    for count, event in enumerate(events):
        found = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            found = "an anchor or alias"
        elif getattr(event, "tag", None) is not None:
            found = "a tag"
        elif isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style:
            found = "a merge key"
        if found:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise UsageError(f"{file}, line {line}: {found}; a config is plain data")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH or count > 2 * VALUES:
            raise UsageError(f"{file} is damaged: it is {'deeper' if depth > DEPTH else 'larger'} than any config")


def refuse_odd(found: Any, file: Path, times: int = 1) -> None:
    """Refuse values that are no plain data, keys that are no texts, and more of them than any of our files holds."""
    count, waiting = 0, [(found, "", 0)]
    while waiting:
        value, where, depth = waiting.pop()
        count += 1
        if depth > DEPTH or count > times * VALUES:
            raise UsageError(f"{file} is damaged: it is {'deeper' if depth > DEPTH else 'larger'} than any of its kind")
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) or not key or not key.isprintable():
                    raise UsageError(f"{file}: {where}{quoted(key)}: a key is a printable text")
                waiting.append((item, f"{where}{key}.", depth + 1))
        elif isinstance(value, list):
            waiting.extend((item, where, depth + 1) for item in value)
        elif isinstance(value, int) and not isinstance(value, bool):
            if not -(2**63) <= value < 2**64:
                raise UsageError(f"{file}: {quoted(where[:-1])}: an integer of more than 64 bits")
        elif not isinstance(value, str | float | bool | None):
            raise UsageError(f"{file}: {quoted(where[:-1])}={quoted(value)}: {type(value).__name__} is no plain data")


def entries(node: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """(full key, key, value) of every mapping within plain data."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        full = f"{where}.{key}" if where else str(key)
        if isinstance(key, str):
            yield full, key, value
        yield from entries(value, full)


def is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of the types; true and false are no integers."""
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds)


def matches(value: Any, pattern: str) -> bool:
    """Whether it is a text of this pattern."""
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
