"""What lies in a run folder, read as plain data: one reader for each kind of file.

A run folder may come from a stranger, or be damaged. Every reader gives data of the types that it names, or raises one
line. Nothing in these files has a meaning of its own: no tags, aliases, merge keys, interpolations or default lists.
What a class may be given is checked where it is built (``build``).
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencli.config import renamed, sections
from gencli.config.plain import (
    BYTES,
    check_types,
    entries,
    is_of,
    mapping,
    matches,
    parse_json,
    parse_yaml,
    refuse_odd,
    regular,
    text,
    unreadable,
)
from gencli.core import processes, seals
from gencli.core.errors import UsageError, near, quoted

if TYPE_CHECKING:
    import numpy as np

GROUPS = ("model", "data", "objective", "sampler", "estimator", "optimizer", "trainer", "logger")
"""Groups that a run's config.yaml holds."""

LONG = 64
"""How many times more data.json may hold than other files: a table of 100,000 columns has as many names."""

ARRAYS = 2**30
"""Bytes of a file of arrays, unpacked."""

LONGEST = 100
"""Characters of an option's name, which becomes part of file names."""

TARGET = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+"
"""The dotted name of a class."""

_OPTION = r"[\w.+-]*\w[\w.+-]*"
_SPLITS = ("train", "val", "test", "all")
_NULLABLE = ("sampler", "estimator", "logger")
_TOP: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "device": (str,),
    "threads": (int, str),
    "n": (int,),
    "trust": (list,),
    "typed": (dict,),
    "run_dir": (str, type(None)),
    "init_from": (str, type(None)),
    "checkpoint": (str,),
    "weights": (str, type(None)),
    "choices": (dict,),
}
_BOUNDS = ("exact", "upper", "lower", "estimate")
_NUMBER = (int, float, type(None))
_TEXT = (str, type(None))
_INFO: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "reason": _TEXT,
    "progress": (dict, type(None)),
    "best": (dict, type(None)),
    "result": (dict, type(None)),
    "wall_seconds": _NUMBER,
    "sampling_seconds": _NUMBER,
    "parameters": (int, type(None)),
    "seed": (int, type(None)),
    "threads": (int, type(None)),
    "steps": (int, type(None)),
    "data_sha256": _TEXT,
    "sizes": (dict, type(None)),
    "init_from": (dict, type(None)),
    "versions": (dict, type(None)),
    "process": (dict, type(None)),
}
_WITHIN: dict[str, dict[str, tuple[type, ...]]] = {
    "progress": {"step": (int, type(None)), "seconds": _NUMBER},
    "result": dict.fromkeys(("value", "bits_per_dim"), _NUMBER)
    | dict.fromkeys(("split", "metric", "unit", "bound", "estimator"), _TEXT),
}
"""What the mappings of run.json hold that are shown."""
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
    "se_blocks": (int, type(None)),
    "se_estimator": _NUMBER,
    "se_shared": _NUMBER,
    "se_lower_limits": (list, type(None)),
    "seed": (int, type(None)),
    "n_examples": (int, type(None)),
    "n_split": (int, type(None)),
    "n_samples": (int, type(None)),
    "n_reference": (int, type(None)),
    "n_nonfinite": (int, type(None)),
    "n_seen": (int, type(None)),
    "protocol": (dict, type(None)),
    "settings": (dict, type(None)),
    "sampler_settings": (dict, type(None)),
    "diagnostics": (dict, type(None)),
    "ledger": (list, type(None)),
    "flags": (list,),
    "classes": (list, type(None)),
}


def names_run(key: str, value: object) -> bool:
    """Whether an option names a run by its folder: a base, noise, a teacher, a target other than the data's own."""
    if key == "target":
        return isinstance(value, str) and value != "data"
    return key in ("run", "teacher") and value is not None


def config(run: Path) -> dict[str, Any]:
    """A run's config.yaml, with each section's keys in their places; trainer and optimizer complete and of their types.

    Raises:
        UsageError: there is none, or it is no config; names the key.
    """
    file = run / "config.yaml"
    content = text(file)
    if not seals.is_whole_text(content):
        raise _altered(file, "its first line")
    found = parse_yaml(content, file)
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged: it is no mapping of sections")
    refuse_odd(found, file)
    for key, value in found.items():
        if key in GROUPS:
            if not isinstance(value, dict) and not (value is None and key in _NULLABLE):
                raise UsageError(f"{file}: {key}={quoted(value)}: a section is needed")
        elif key not in _TOP:
            raise UsageError(f"{file}: {quoted(key)}: a run has no such key. {near(key, [*GROUPS, *_TOP])}")
        elif not is_of(value, _TOP[key]):
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
        named = all(matches(each, _OPTION) and len(each) <= LONGEST for each in names)
        if not re.fullmatch(r"\w+", group) or not named:
            raise UsageError(f"{file}: choices.{quoted(group)}={quoted(name)}: no name of an option")
    for path, typed in found.get("typed", {}).items():
        if not isinstance(typed, str):
            raise UsageError(f"{file}: typed: {quoted(path)}={quoted(typed)}: a path as it was typed is needed")
    for where, key, value in entries(found):
        if key == "_target_" and not matches(value, TARGET):
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
    """A run's run.json; the status of a run whose process is gone, though it never said so, is ``lost``.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    found = _own(file := run / "run.json", run, _INFO)
    for key, types in _WITHIN.items():
        check_types(found.get(key) or {}, types, file, f"{key}.")
    if found.get("status") == "running" and processes.alive(found.get("process") or {}) is False:
        found["status"] = "lost"
    return found


def schema(run: Path) -> dict[str, Any]:
    """What a run keeps of the meaning of its data files, data.json; empty where it has none.

    The data set that it belongs to checks it further (``Dataset.apply``).

    Raises:
        UsageError: it is damaged.
    """
    file = run / "data.json"
    return _own(file, run, {}, LONG) if file.exists() else {}


def identity(run: Path) -> str | None:
    """What a run is told from others by, as config.yaml says; None: it is of an older gencli, or cannot be read."""
    try:
        regular(file := run / "config.yaml")
        with file.open("rb") as stream:
            return seals.run_of(stream.read(300).decode("utf-8", errors="replace"))
    except (OSError, UsageError):
        return None


def refuse_foreign(told: object, run: Path, what: str) -> None:
    """Refuse a file that says it is of another run than the folder in which it lies.

    Raises:
        UsageError: it is.
    """
    own = identity(run)
    if told is not None and own is not None and told != own:
        raise UsageError(f"{what} is of another run than {run / 'config.yaml'}")


def _own(file: Path, run: Path, types: Mapping[str, tuple[type, ...]], times: int = 1) -> dict[str, Any]:
    """A JSON file of a run, without its seal.

    Raises:
        UsageError: it is damaged, or of another run.
    """
    found = mapping(file, types, times)
    seal = found.pop(seals.KEY, None)
    if seal is not None:
        if not isinstance(seal, dict) or not seals.is_whole(found, seal):
            raise _altered(file, f"the key {seals.KEY}")
        refuse_foreign(seal.get("run"), run, str(file))
    return found


def _altered(file: Path, where: str) -> UsageError:
    return UsageError(f"{file} is damaged: it does not match its hash (after a change by hand take {where} out)")


def metrics(run: Path, damaged: list[str] | None = None) -> list[dict[str, Any]]:
    """A run's metrics.jsonl, a dict a line; a last line without an end, which a kill or a writer leaves, is no line.

    Args:
        run: the run folder.
        damaged: gets what is wrong with each damaged line, which is left out then; None: it is refused.

    Raises:
        UsageError: a line is damaged.
    """
    file = run / "metrics.jsonl"
    lines: list[dict[str, Any]] = []
    if not file.exists():
        return []
    try:
        regular(file)
        with file.open("rb") as stream:
            for number in count(1):
                line = stream.readline(BYTES + 1)
                if not line or (len(line) <= BYTES and not line.endswith(b"\n")):
                    return lines
                try:
                    lines.append(_line(line, file, number))
                except UsageError as error:
                    if damaged is None:
                        raise
                    damaged.append(str(error))
    except OSError as error:
        raise unreadable(file, error) from error
    return lines


def _line(line: bytes, file: Path, number: int) -> dict[str, Any]:
    if len(line) > BYTES:
        raise UsageError(f"{file} is damaged: line {number} is longer than {BYTES} bytes")
    found = parse_json(line, file)
    if not isinstance(found, dict) or not is_of(found.get("step"), (int,)):
        raise UsageError(f"{file} is damaged: line {number} is no line of metrics")
    return found


def own_record(run: Path) -> Mapping[str, Any]:
    """The record of the run's own number, or what run.json repeats of it where its file is gone; empty: none yet.

    Raises:
        UsageError: a file is damaged.
    """
    result: Mapping[str, Any] = info(run).get("result") or {}
    split, estimator = result.get("split"), result.get("estimator")
    # an option of the user's may have dots in its name, and settings may follow it, as in exact-masks4
    if split not in _SPLITS or not matches(estimator, _OPTION) or len(str(estimator)) > LONGEST:
        return result
    file = run / "eval" / f"{split}-{estimator}.json"
    return record(file) if file.is_file() else result


def record(file: Path) -> dict[str, Any]:
    """A result record under eval/.

    Raises:
        UsageError: it is damaged; names the key.
    """
    found = _own(file, file.parent.parent, _RECORD)
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
        if not is_of(value, _NUMBER):
            raise UsageError(f"{file} is damaged: diagnostics.{quoted(key)} is no number")
    return found


def _refuse_other_scores(content: bytes, file: Path) -> None:
    """Refuse arrays that are not those of the record beside them, as its seal tells."""
    beside = file.with_suffix(".json")
    seal = mapping(beside, {}).get(seals.KEY) if beside.is_file() else None
    told = seal.get("scores") if isinstance(seal, dict) else None
    if told is not None and told != seals.sha256(content):
        raise ValueError(f"it is not what {beside.name} was measured with")


def scores(file: Path) -> dict[str, np.ndarray] | None:
    """Arrays ``ids``, ``nll`` and perhaps ``counts``, ``groups`` and ``weights`` of a record's examples, (N,) each.

    None: there are none.

    Raises:
        UsageError: the file is damaged.
    """
    import numpy as np

    if not file.exists():
        return None
    try:
        regular(file)
        if file.stat().st_size > ARRAYS:
            raise ValueError("it is too large")
        content = file.read_bytes()
        _refuse_other_scores(content, file)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > ARRAYS:
                raise ValueError("it is too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            kinds = {"ids": "iu", "nll": "f", "counts": "iu", "groups": "iu", "weights": "f"}
            found = {key: arrays[key] for key in kinds if key in arrays}
        length = len(found["nll"])
        for key, array in found.items():
            if array.shape != (length,) or array.dtype.kind not in kinds[key]:
                raise ValueError(f"{key} is {array.dtype}{list(array.shape)}")
        ids = found["ids"]
        if (ids[1:] <= ids[:-1]).any() and len(np.unique(ids)) != length:  # ordered ones need no search
            raise ValueError("an example is there twice")
        if "counts" in found and (found["counts"] < 1).any():
            raise ValueError("an example has no symbols")
        if "weights" in found and not (found["weights"] > 0).all():
            raise ValueError("an example has no weight")
    except Exception as error:  # zipfile, zlib and numpy raise errors of many kinds over a damaged file
        raise UsageError(f"{file} is damaged ({quoted(str(error) or type(error).__name__)})") from error
    return found
