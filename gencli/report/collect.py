"""Read the result records of runs; a folder may be damaged, or a stranger's."""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencli.config import stored
from gencli.config.locate import find_run, runs
from gencli.core import processes
from gencli.core.errors import UsageError, quoted

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Row:
    """One result record of one run."""

    run: Path
    record: dict[str, Any]
    info: dict[str, Any]
    scores: dict[str, np.ndarray] | None = None
    rank: int | None = None
    difference: float | None = None
    difference_se: float | None = None
    group: int = 0

    @property
    def value(self) -> float:
        """NLL in the record's unit; inf where an example was not finite."""
        value = self.record.get("value")
        return math.inf if value is None or not math.isfinite(value) else float(value)

    @property
    def ranked(self) -> bool:
        """Whether this number can say that a model is better: a lower bound and an estimate cannot."""
        return not self.is_nll or self.record.get("bound") in ("exact", "upper")

    @property
    def is_nll(self) -> bool:
        """Whether this is a likelihood; else a metric on samples."""
        return self.record.get("metric") == "nll"

    @property
    def cost(self) -> float:
        """What is lower in a better row."""
        return -self.value if not self.is_nll and self.record.get("better") == "higher" else self.value

    @property
    def z(self) -> float | None:
        """The difference in its standard errors."""
        return self.difference / self.difference_se if self.difference is not None and self.difference_se else None


def expand(patterns: Sequence[str]) -> list[Path]:
    """Run folders behind names, patterns, and folders of runs such as a sweep's.

    Raises:
        UsageError: a pattern matches no run.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
        if not matched:  # a name, `latest`, or nothing: find_run knows the near names
            found[find_run(pattern)] = None
            continue
        inside = [run for path in matched for run in ([path] if (path / "run.json").is_file() else sorted(runs(path)))]
        if not inside:
            found[find_run(str(matched[0]))] = None
        found.update(dict.fromkeys(inside))
    return list(found)


def results(folder: Path, split: str) -> tuple[list[Row], list[str]]:
    """The records of a run, and what is wrong with it: none is there, or a file cannot be read."""
    info: dict[str, Any] = {}
    rows: list[Row] = []
    problems = []
    try:
        info = stored.info(folder)
    except UsageError as error:
        problems.append(str(error))
    for path in sorted((folder / "eval").glob(f"{glob.escape(split)}-*.json")):
        try:
            row = Row(folder, stored.record(path), info)
            if row.is_nll:
                row.scores = stored.scores(path.with_suffix(".npz"))
        except UsageError as error:
            problems.append(str(error))
        else:
            rows.append(row)
    if not rows and not problems:
        process = info.get("process") or {}
        elsewhere = info.get("status") == "running" and process and processes.alive(process) is None
        where = f" on {quoted(process.get('host'))}, as far as its run.json tells;" if elsewhere else ","
        problems.append(f"{info.get('status', 'unknown')}{where} no result on {split}")
    return rows, problems
