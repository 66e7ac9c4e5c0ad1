"""What lies in a run folder, read as plain data: one reader for each kind of file.

A run folder may come from a stranger, or be damaged. Every reader gives data of the types that it names, or raises one
line. Nothing in these files has a meaning of its own: no tags, aliases, merge keys, interpolations or default lists.
What a class may be given is checked where it is built (``build``).
"""

from __future__ import annotations

import json
import math
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gencli.config import renamed, sections
from gencli.core.errors import UsageError, near, quoted

if TYPE_CHECKING:
    import numpy as np

GROUPS = ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger")
"""Groups that a run's config.yaml holds."""

BYTES = 2**20
"""Size of a text file, or of one line of metrics.jsonl: ours have a few thousand."""

VALUES, DEPTH = 20_000, 32
"""Most values in such a file, and how deep they lie."""

ARRAYS = 2**30
"""Bytes of a file of arrays, unpacked."""

LONGEST = 100
"""Characters of an option's name, which becomes part of file names."""

TARGET = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"
"""The dotted name of a class."""

_OPTION = r"[\w.+-]*\w[\w.+-]*"
_NULLABLE = ("sampler", "estimator", "logger")
_TOP: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "device": (str,),
    "n": (int,),
    "trust": (list,),
    "run_dir": (str, type(None)),
    "choices": (dict,),
}
_BOUNDS = ("exact", "upper", "lower", "estimate")
_NUMBER = (int, float, type(None))
_TEXT = (str, type(None))
_INFO: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "reason": _TEXT,
    "progress": (dict, type(None)),
    "result": (dict, type(None)),
    "wall_seconds": _NUMBER,
    "parameters": (int, type(None)),
    "seed": (int, type(None)),
    "versions": (dict, type(None)),
}
_RECORD: dict[str, tuple[type, ...]] = {
    "metric": (str,),
    "value": (int, float),
    "unit": _TEXT,
    "split": (str,),
    "split_sha256": _TEXT,
    "bound": _TEXT,
    "estimator": _TEXT,
    "better": _TEXT,
    "weights": _TEXT,
    "sampler": _TEXT,
    "bits_per_dim": _NUMBER,
    "perplexity": _NUMBER,
    "se": _NUMBER,
    "se_examples": _NUMBER,
    "se_estimator": _NUMBER,
    "se_shared": _NUMBER,
    "seed": (int, type(None)),
    "n_examples": (int, type(None)),
    "n_samples": (int, type(None)),
    "n_reference": (int, type(None)),
    "n_nonfinite": (int, type(None)),
    "protocol": (dict, type(None)),
    "settings": (dict, type(None)),
    "sampler_settings": (dict, type(None)),
    "diagnostics": (dict, type(None)),
    "ledger": (list, type(None)),
    "flags": (list,),
}


def config(run: Path) -> dict[str, Any]:
    """A run's config.yaml, with each section's keys in their places; trainer and optimizer complete and of their types.

    Raises:
        UsageError: there is none, or it is no config; names the key.
    """
    file = run / "config.yaml"
    found = _yaml(file)
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged: it is no mapping of sections")
    _plain(found, file)
    for key, value in found.items():
        if key in GROUPS:
            if not isinstance(value, dict) and not (value is None and key in _NULLABLE):
                raise UsageError(f"{file}: {key}={quoted(value)}: a section is needed")
        elif key not in _TOP:
            raise UsageError(f"{file}: {quoted(key)}: a run has no such key. {near(key, [*GROUPS, *_TOP])}")
        elif not _is(value, _TOP[key]):
            raise UsageError(f"{file}: {key}={quoted(value)}: of the wrong type")
    for key in (*GROUPS, "choices", "seed", "device", "n"):
        if key not in found and key not in _NULLABLE:
            raise UsageError(f"{file}: {key} is missing")
    for group in ("model", "data", "objective", "sampler", "estimator"):
        if found.get(group) is not None and "_target_" not in found[group]:
            raise UsageError(f"{file}: {group}._target_ is missing")
    for group in GROUPS:
        if found.get(group) is not None and group != "logger" and not found["choices"].get(group):
            raise UsageError(f"{file}: choices.{group} is missing")
    if not re.fullmatch(r"[a-z]+(:\d{1,3})?", found["device"]):
        raise UsageError(f"{file}: device={quoted(found['device'])}: auto, cpu, cuda, cuda:1 or mps")
    for group, name in found["choices"].items():
        names = name if group == "logger" and isinstance(name, list) else [] if name is None else [name]
        named = all(_matches(each, _OPTION) and len(each) <= LONGEST for each in names)
        if not re.fullmatch(r"\w+", group) or not named:
            raise UsageError(f"{file}: choices.{quoted(group)}={quoted(name)}: no name of an option")
    for where, key, value in _entries(found):
        if key == "_target_" and not _matches(value, TARGET):
            raise UsageError(f"{file}: {where}={quoted(value)}: the dotted name of a class is needed")
        if key in ("run", "teacher") and not isinstance(value, str | None):
            raise UsageError(f"{file}: {where}={quoted(value)}: a run folder is needed")
    renamed.update(found)
    try:
        removed = {group: None for group in _NULLABLE if group not in found}  # of a run trained with ~estimator
        return found | removed | _typed(found)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def _typed(found: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that are no component; keys that an older gencli did not know are added."""
    typed: dict[str, Any] = {"logger": renamed.logger(found.get("logger")) or None}
    sections.check_values({**found, **typed})
    typed |= {group: sections.plain(group, found[group]) for group in ("trainer", "optimizer")}
    return typed


def info(run: Path) -> dict[str, Any]:
    """A run's run.json.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    return _object(run / "run.json", _INFO)


def schema(run: Path) -> dict[str, Any]:
    """What a run keeps of the meaning of its data files, data.json; empty where it has none.

    The data set that it belongs to checks it further (``Dataset.apply``).

    Raises:
        UsageError: it is damaged.
    """
    file = run / "data.json"
    return _object(file, {}) if file.exists() else {}


def metrics(run: Path) -> list[dict[str, Any]]:
    """A run's metrics.jsonl, a dict a line; a last line without an end, which a kill or a writer leaves, is no line.

    Raises:
        UsageError: a line is damaged.
    """
    file = run / "metrics.jsonl"
    lines: list[dict[str, Any]] = []
    if not file.exists():
        return []
    try:
        _regular(file)
        with file.open("rb") as stream:
            while line := stream.readline(BYTES + 1):
                if len(line) > BYTES:
                    raise UsageError(f"{file} is damaged: line {len(lines) + 1} is longer than {BYTES} bytes")
                if not line.endswith(b"\n"):
                    break
                lines.append(_line(line, file, len(lines) + 1))
    except OSError as error:
        raise _unreadable(file, error) from error
    return lines


def _line(line: bytes, file: Path, number: int) -> dict[str, Any]:
    found = _json(line, file)
    if not isinstance(found, dict) or not _is(found.get("step"), (int,)):
        raise UsageError(f"{file} is damaged: line {number} is no line of metrics")
    return found


def record(file: Path) -> dict[str, Any]:
    """A result record under eval/.

    Raises:
        UsageError: it is damaged; names the key.
    """
    found = _object(file, _RECORD)
    for key in ("metric", "value", "split"):
        if key not in found:
            raise UsageError(f"{file} is damaged: {key} is missing")
    for key, value in found.items():
        if key in _RECORD and isinstance(value, str) and not (value.isprintable() and len(value) <= LONGEST):
            raise UsageError(f"{file} is damaged: {key}={quoted(value)} is no short text of one line")
    for flag in found.get("flags", []):
        if not (isinstance(flag, str) and flag.isprintable() and len(flag) <= LONGEST):
            raise UsageError(f"{file} is damaged: flags: {quoted(flag)} is no short text of one line")
    known = _BOUNDS if found["metric"] == "nll" else ("lower", "higher")
    says = found.get("bound" if found["metric"] == "nll" else "better")
    if says not in known:
        raise UsageError(f"{file} is damaged: {quoted(says)} is none of {', '.join(known)}")
    if math.isnan(found["value"]) or found["value"] == -math.inf:
        raise UsageError(f"{file} is damaged: value={found['value']}")
    renamed.update(found.get("settings"))
    for key, value in (found.get("diagnostics") or {}).items():
        if not _is(value, _NUMBER):
            raise UsageError(f"{file} is damaged: diagnostics.{quoted(key)} is no number")
    return found


def scores(file: Path) -> dict[str, np.ndarray] | None:
    """Arrays ``ids``, ``nll`` and perhaps ``counts`` of the examples of a record, (N,) each; None: there are none.

    Raises:
        UsageError: the file is damaged.
    """
    import numpy as np

    if not file.exists():
        return None
    try:
        _regular(file)
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > ARRAYS:
                raise ValueError("it is too large")
        with np.load(file, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in ("ids", "nll", "counts") if key in arrays}
        length = len(found["nll"])
        kinds = {"ids": "iu", "nll": "f", "counts": "iu"}
        for key, array in found.items():
            if array.shape != (length,) or array.dtype.kind not in kinds[key]:
                raise ValueError(f"{key} is {array.dtype}{list(array.shape)}")
        if len(np.unique(found["ids"])) != length:
            raise ValueError("an example is there twice")
        if "counts" in found and (found["counts"] < 1).any():
            raise ValueError("an example has no symbols")
    except Exception as error:  # zipfile, zlib and numpy raise errors of many kinds over a damaged file
        raise UsageError(f"{file} is damaged ({quoted(str(error) or type(error).__name__)})") from error
    return found


# --- files -----------------------------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    """A text file of a sane size.

    Raises:
        UsageError: it is not there, is no file, too large, or no UTF-8.
    """
    try:
        _regular(file)
        with file.open("rb") as stream:
            content = stream.read(BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{file.parent} is not a run folder: it has no {file.name}") from error
    except OSError as error:
        raise _unreadable(file, error) from error
    if len(content) > BYTES:
        raise UsageError(f"{file} is damaged: it is larger than {BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is damaged: it is no UTF-8 at byte {error.start}") from error


def _regular(file: Path) -> None:
    """Refuse what would be waited for, or has no end: pipes and devices."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise UsageError(f"{file} is no file")


def _unreadable(file: Path, error: OSError) -> UsageError:
    return UsageError(f"{file} cannot be read: {error.strerror or type(error).__name__}")


def _json(text: str | bytes, file: Path) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, digits without end, brackets without end
        raise UsageError(f"{file} is damaged: {quoted(str(error))}") from error
    _plain(found, file)
    return found


def _object(file: Path, types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    found = _json(_text(file), file)
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged: it is no mapping")
    for key, kinds in types.items():
        if key in found and not _is(found[key], kinds):
            raise UsageError(f"{file} is damaged: {key}={quoted(found[key])} is of the wrong type")
    return found


class _Loader(yaml.SafeLoader):
    """Plain values only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice} is there twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _yaml(file: Path) -> Any:
    text = _text(file)
    try:
        _only_plain(yaml.parse(text, Loader=_Loader), file)
        return yaml.load(text, Loader=_Loader)  # a safe loader
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
        elif isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.style is None:
            found = "a merge key"
        if found:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise UsageError(f"{file}, line {line}: {found}; a config is plain data")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH or count > 2 * VALUES:
            raise UsageError(f"{file} is damaged: it is {'deeper' if depth > DEPTH else 'larger'} than any config")


def _plain(found: Any, file: Path) -> None:
    """Refuse values that are no plain data, keys that are no texts, and more of them than any of our files holds."""
    count, waiting = 0, [(found, "", 0)]
    while waiting:
        value, where, depth = waiting.pop()
        count += 1
        if depth > DEPTH or count > VALUES:
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


def _entries(node: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """(full key, key, value) of every mapping within plain data."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        full = f"{where}.{key}" if where else str(key)
        if isinstance(key, str):
            yield full, key, value
        yield from _entries(value, full)


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds)


def _matches(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
