"""What a command left behind: what it said, its exit code, what a run tells, what changed on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

CLOCKS = ("seconds", "steps_per_second", "examples_per_second", "checkpoint_sha256", "seal")
"""What of a record or a line of metrics depends on the time; the hashes are of files that hold seconds."""

_WARNING = re.compile(r"^\S*/gencli/\S+:\d+: \w*Warning: .*", re.M)


def timeless(told: Mapping[str, Any]) -> dict[str, Any]:
    """A record or a line of metrics without what depends on the time."""
    return {key: value for key, value in told.items() if key not in CLOCKS}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without times."""
    return [timeless(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


def records(run: Path) -> list[dict[str, Any]]:
    """A run's records, without times."""
    return [timeless(json.loads(file.read_text())) for file in sorted((run / "eval").glob("*.json"))]


def first_line(*texts: str) -> str:
    """The first line that is not empty."""
    return next((line for text in texts for line in text.splitlines() if line.strip()), "")


def snapshot(folder: Path, skip: Iterable[str] = ()) -> dict[str, str]:
    """What lies in a folder: kinds and contents by path."""
    found: dict[str, str] = {}
    for path in _walk(str(folder), frozenset(skip)):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            found[path] = f"-> {os.readlink(path)}"
        elif stat.S_ISREG(mode):
            with open(path, "rb") as file:
                found[path] = hashlib.sha256(file.read()).hexdigest()
        else:
            found[path] = str(stat.S_IFMT(mode))
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Paths by which two snapshots differ."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _walk(folder: str, skip: frozenset[str]) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.path in skip:
            continue
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, skip)


def said(code: int, out: str, err: str, limit: float, stopped: int = 0) -> Iterator[str]:
    """What is wrong with the exit code and with what a command said.

    Args:
        code: its exit code.
        out: what it wrote to its standard output.
        err: what it wrote to its standard error.
        limit: seconds that it had.
        stopped: the exit code of one that a signal has stopped, which says so in a line at most; 0: none has.
    """
    if code == -9:
        yield f"hang: longer than {limit:g} s, or killed"
    elif code not in (0, 1, 2, stopped):
        yield f"exit code {code}"
    if "Traceback (most recent call last)" in out + err:
        last = next((line for line in reversed(err.splitlines()) if line and not line.startswith(" ")), "")
        yield f"traceback: {last[:200]}"
    lines = [line for line in err.splitlines() if line.strip()]
    if code and len(lines) not in ((0, 1) if code == stopped else (1,)) and "Traceback" not in err:
        yield f"{len(lines)} lines of error"
    strange = sorted({c for c in out + err if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")})
    if strange:
        yield f"control characters: {[hex(ord(c)) for c in strange]}"


def our_warnings(text: str) -> list[str]:
    """Warnings of Python in what a command said that name a line of gencli."""
    return [f"a warning of our own: {found.rpartition('/gencli/')[2][:200]}" for found in _WARNING.findall(text)]
