"""Read the result records of runs; a folder may be damaged, or a stranger's."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencli.config import stored
from gencli.config.locate import find_run, runs
from gencli.core import processes
from gencli.core.bounds import ORDER, at_least
from gencli.core.errors import UsageError, quoted
from gencli.core.uncertainty import combined

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Row:
    """One result record of one run.

    ``variant``: the rest of the file's name, after split and estimator or metric: how it differs from the run's own.
    ``difference``: to the best of its group, with its standard error, which may be a lower limit.
    """

    run: Path
    record: dict[str, Any]
    variant: str
    info: dict[str, Any]
    scores: dict[str, np.ndarray] | None = None
    rank: int | None = None
    difference: float | None = None
    difference_se: float | None = None
    difference_at_least: bool = False
    group: int = 0

    @property
    def value(self) -> float:
        """NLL in the record's unit; inf where an example was not finite."""
        value = self.record.get("value")
        return math.inf if value is None or not math.isfinite(value) else float(value)

    @property
    def certain(self) -> bool:
        """Whether this number can say that a model is better.

        A lower bound and an estimate cannot, nor can examples that the weights were trained on.
        """
        return not self.is_nll or (self.record.get("bound") in ("exact", "upper") and not self.record.get("n_seen"))

    @property
    def se(self) -> float | None:
        """Standard error of the value."""
        if not self.is_nll:
            return self.record.get("se")
        return combined(self.record.get("se_examples"), self.record.get("se_shared"))

    @property
    def se_at_least(self) -> bool:
        """Whether that is a lower limit."""
        return at_least(self.record.get("se_lower_limits"))

    @property
    def own(self) -> bool:
        """Whether this was measured with the run's own settings, or is a metric on samples, of which each is as good.

        Each estimator may have such an NLL; ``own_of`` says by which of them the run is known.
        """
        return not (self.is_nll and self.variant)

    @property
    def is_nll(self) -> bool:
        """Whether this is a likelihood; else a metric on samples."""
        return self.record.get("metric") == "nll"

    @property
    def notes(self) -> list[str]:
        """What a reader of the value must know besides its bound."""
        return [*([self.variant] if self.variant else []), *self.record.get("flags", [])]

    @property
    def cost(self) -> float:
        """What is lower in a better row."""
        return -self.value if not self.is_nll and self.record.get("better") == "higher" else self.value

    @property
    def z(self) -> float | None:
        """The difference in its standard errors; None where they are lower limits."""
        if self.difference is None or not self.difference_se or self.difference_at_least:
            return None
        return self.difference / self.difference_se


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
            record = stored.record(path)
            name = record.get("estimator") if record["metric"] == "nll" else record["metric"]
            variant = path.stem.removeprefix(f"{split}-{name}").removeprefix("-")
            rows.append(row := Row(folder, record, variant, info))
            if row.is_nll:
                row.scores = stored.scores(path.with_suffix(".npz"))  # without them the record stands, unpaired
        except UsageError as error:
            problems.append(str(error))
    if not rows and not problems:
        process = info.get("process") or {}
        elsewhere = info.get("status") == "running" and process and processes.alive(process) is None
        others = sorted({path.name.partition("-")[0] for path in (folder / "eval").glob("*-*.json")})
        hint = f" but on {', '.join(map(quoted, others))} (--split)" if others else ""
        where = f" on {quoted(process.get('host'))}, as far as its run.json tells;" if elsewhere else ","
        problems.append(f"{info.get('status', 'unknown')}{where} no result on {split}{hint}")
    return rows, problems


def own_of(rows: Sequence[Row]) -> Row:
    """Of comparable records of one run that by which the run is known.

    Measured with its own settings, by the estimator that its config names. Where there is no such record, what bounds
    the NLL from above goes first, and then the tightest one; of metrics on samples the best.
    """
    config: Mapping[str, Any] = {}
    if len(rows) > 1:
        with suppress(UsageError):  # damaged: it names no estimator
            config = stored.config(rows[0].run)
    named, settings = (config.get("choices") or {}).get("estimator"), config.get("estimator") or {}

    def place(row: Row) -> tuple[bool, bool, bool, int, float]:
        if not row.is_nll:
            return bool(row.variant), False, False, 0, row.cost
        bound = row.record["bound"]
        return (
            bool(row.variant),
            not f"{row.record.get('estimator')}-".startswith(f"{named}-"),  # settings may follow, as in exact-masks4
            any(settings.get(key, value) != value for key, value in (row.record.get("settings") or {}).items()),
            ORDER.index(bound),
            -row.value if bound == "lower" else row.value,
        )

    return min(rows, key=place)


def one_a_run(rows: Sequence[Row]) -> list[Row]:
    """Of each run the record by which it is known, of one group of comparable ones."""
    runs: dict[Path, list[Row]] = {}
    for row in rows:
        runs.setdefault(row.run, []).append(row)
    return [own_of(some) for some in runs.values()]


def own_nll(run: Path, split: str) -> Row | None:
    """The NLL of a split by which a run is known; None: it has only other measurements, or none."""
    found = [row for row in results(run, split)[0] if row.is_nll and row.own]
    return own_of(found) if found else None
