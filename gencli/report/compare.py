"""Which numbers may be compared, and which is better by how much.

A number is comparable to another if data, split, unit, metric and protocol are equal, and for a metric on samples its
settings and numbers of samples too. Within such a group rows are ranked by value. Differences of NLLs to the best are
paired, example by example, which takes out the examples' own spread; those of metrics on samples add both errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencli.core.errors import UsageError, quoted
from gencli.report.collect import Row, results

if TYPE_CHECKING:
    import numpy as np

    from gencli.core.uncertainty import StandardError

Scores = Mapping[str, "np.ndarray"]
"""Arrays of a record's examples by name, (N,) each."""


@dataclass
class Comparison:
    """Groups of comparable rows, and runs without a number.

    Args:
        groups: rows of each group, best first.
        reasons: for each group after the first, what sets it apart from the first.
        unfinished: (run folder, why it has no number, or not all of them).
        further: measurements of other settings, examples, weights or data than the runs' own, which are left out.
    """

    groups: list[list[Row]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unfinished: list[tuple[Path, str]] = field(default_factory=list)
    further: int = 0


def compare(folders: Sequence[Path], split: str = "test", *, further: bool = False) -> Comparison:
    """Read the records of runs, group the comparable ones and rank each group.

    Args:
        folders: the runs.
        split: of the records.
        further: take every measurement in, not only each run's own NLL.
    """
    comparison = Comparison()
    groups: dict[str, list[Row]] = {}
    for folder in folders:
        rows, problems = results(folder, split)
        comparison.unfinished += [(folder, problem) for problem in problems]
        taken = [row for row in rows if row.own or further]
        if rows and not taken:
            comparison.unfinished.append(
                (folder, f"no result of its own on {split}, only other measurements: see --all")
            )
        comparison.further += len(rows) - len(taken)
        for row in taken:
            groups.setdefault(json.dumps(_identity(row.record), sort_keys=True), []).append(row)

    # Likelihoods first, then metric after metric; the largest group first, ties in the order of the command line.
    def order(rows: list[Row]) -> tuple[bool, str, int]:
        return not rows[0].is_nll, str(rows[0].record.get("metric")), -len(rows)

    comparison.groups = sorted(groups.values(), key=order)
    for index, rows in enumerate(comparison.groups):
        _rank(rows, index)
        if index:
            comparison.reasons.append(_reason(_first_like(rows, comparison.groups).record, rows[0].record))
    return comparison


def compared(folders: Sequence[Path], split: str = "test", *, further: bool = False) -> Comparison:
    """``compare``, refused where no run has a number.

    Raises:
        UsageError: says of the first runs why they have none.
    """
    comparison = compare(folders, split, further=further)
    if not comparison.groups:
        why = [f"{run}: {reason}" for run, reason in comparison.unfinished]
        more = f"; and {len(why) - 3} more" if len(why) > 3 else ""
        raise UsageError(f"no run has a result on split={split} yet: {'; '.join(why[:3])}{more}")
    return comparison


def _first_like(rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> Row:
    """What a group is set apart from: the first group of its metric, or of all where it is that one."""
    metric = rows[0].record.get("metric")
    first = next(group for group in groups if group[0].record.get("metric") == metric)
    return groups[0][0] if first is rows else first[0]


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be equal for two numbers to be comparable, by name."""
    protocol = {f"protocol.{key}": value for key, value in (record.get("protocol") or {}).items()}
    identity = {key: record.get(key) for key in ("metric", "unit", "split", "split_sha256")} | protocol
    if record.get("metric") != "nll":
        identity |= {key: record.get(key) for key in ("better", "n_samples", "n_reference")}
        identity |= {f"settings.{key}": value for key, value in (record.get("settings") or {}).items()}
    return identity


def _reason(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    a, b = _identity(first), _identity(other)
    differing = [key for key in a | b if a.get(key) != b.get(key)]
    for whole in ("protocol.data", "metric"):  # all else differs because of it
        if whole in differing:
            differing = [whole]
    shown = (f"{key.removeprefix('protocol.')} is {_short(b.get(key))}, not {_short(a.get(key))}" for key in differing)
    return "; ".join(shown)


def _short(value: Any) -> str:
    text = quoted(", ".join(map(str, value)) or "none" if isinstance(value, list) else value, 1000)
    return text if len(text) <= 24 else text[:12] + "..."


def _rank(rows: list[Row], group: int) -> None:
    """Order rows, best first, and measure each against the best.

    Beside runs' own numbers, other measurements have no rank.
    """
    all_further = not any(row.own for row in rows)
    ranked = [row for row in rows if row.certain and (row.own or all_further)]
    ranked.sort(key=lambda row: row.cost)
    for rank, row in enumerate(ranked, start=1):
        row.rank = rank
    rows.sort(key=lambda row: (row.rank is None, row.cost))
    best = rows[0]
    for row in rows:
        row.group = group
        if row is not best and math.isfinite(row.value) and math.isfinite(best.value):
            row.difference = row.value - best.value
            row.difference_se = _paired_error(row.scores, best.scores) if row.is_nll else _independent_error(row, best)
            if row.difference_se is not None:  # an error that all examples share, such as that of log Z, does not pair
                both = (row.record.get("se_shared") or 0.0, best.record.get("se_shared") or 0.0)
                row.difference_se = math.hypot(row.difference_se, *both)
            row.difference_at_least = row.se_at_least or best.se_at_least


def _independent_error(row: Row, best: Row) -> float | None:
    """Standard error of the difference of two metrics; they share the reference, so it is rather too large."""
    return None if row.se is None or best.se is None else math.hypot(row.se, best.se)


def _paired_error(a: Scores | None, b: Scores | None) -> float | None:
    """Standard error of the mean difference over the examples that both have, by the rule of their records."""
    if a is None or b is None:
        return None
    error = mean_error(paired(a, b)).value
    return error if error is not None and math.isfinite(error) else None


def paired(a: Scores, b: Scores) -> Scores:
    """Arrays as ``stored.scores`` gives them of the examples that both have, with the difference of the nats."""
    import numpy as np

    if np.array_equal(a["ids"], b["ids"]):
        return {**a, "nll": a["nll"].astype(float) - b["nll"].astype(float)}
    _, in_a, in_b = np.intersect1d(a["ids"], b["ids"], return_indices=True)
    return {key: a[key][in_a] for key in a} | {"nll": a["nll"][in_a].astype(float) - b["nll"][in_b].astype(float)}


def mean_error(scores: Scores) -> StandardError:
    """Standard error of the mean of nats, in the record's unit: by examples, windows, groups and weights as it is.

    Args:
        scores: ``nll`` and perhaps ``counts``, ``weights`` and ``groups``, (N,) each.
    """
    from gencli.core.uncertainty import standard_error

    nats, counts, weights = scores["nll"].astype(float), scores.get("counts"), scores.get("weights")
    if weights is not None:
        nats, counts = weights * nats, weights * (1 if counts is None else counts)
    return standard_error(nats, None if counts is None else counts.astype(float), scores.get("groups"))


CARRIES = 0.7
"""Of a standard error; the influence of one example is never more than about 1, and of normal ones 3.5 / sqrt(N)."""


def outlier(scores: Scores) -> int | None:
    """The example without which the mean would move by most of its standard error; None: no one carries it.

    Asked only of examples that are alike, and of 20 and more of them.
    """
    import numpy as np

    if scores.keys() > {"ids", "nll"} or len(scores["nll"]) < 20:
        return None
    nats = scores["nll"].astype(float)
    away = np.abs(nats - nats.mean()) / (len(nats) - 1)
    worst = int(away.argmax())
    error = mean_error(scores).value
    return int(scores["ids"][worst]) if error and away[worst] > CARRIES * error else None
