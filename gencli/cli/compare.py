"""`gencli compare`: runs side by side, ranked only where their numbers measure the same thing.

A number is comparable to another if data, split, unit, metric and protocol are equal, and for a metric on samples its
settings and numbers of samples too. Within such a group rows are ranked by value. Differences of NLLs to the best are
paired, example by example, which takes out the examples' own spread; those of metrics on samples add both errors.
"""

from __future__ import annotations

import argparse
import csv
import glob
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencli.cli.help import Parser
from gencli.config import stored
from gencli.config.locate import find_run, runs
from gencli.core.errors import UsageError, quoted, shown

if TYPE_CHECKING:
    import numpy as np

SIGNS = {"exact": "=", "upper": "<=", "lower": ">=", "estimate": "~"}
_FOOTNOTE = """\
=  the NLL itself.  <= an upper bound: the NLL is no worse, so a small one beats what it beats for sure, while a large
one may only be loose.  >= a lower bound: the NLL may be worse.  ~ an estimate. These have no rank.
Differences are paired over the same examples, and z counts them in standard errors: below 2 is too close to call."""
_FOOTNOTE_SAMPLES = """\
Metrics on samples: arrows say which way is better. Errors of differences are those of two independent measurements."""


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


@dataclass
class Comparison:
    """Groups of comparable rows, and runs without a number.

    Args:
        groups: rows of each group, best first.
        reasons: for each group after the first, what sets it apart from the first.
        unfinished: (run folder, why it has no number, or not all of them).
    """

    groups: list[list[Row]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unfinished: list[tuple[Path, str]] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Print the comparison as a table, CSV or JSON.

    Raises:
        UsageError: a name leads to no run, or no run has a number.
    """
    parser = Parser(prog="gencli compare", add_help=False)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--split", default="test")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true")
    form.add_argument("--json", action="store_true")
    args: argparse.Namespace = parser.parse_intermixed_args(list(words))
    if not args.runs:
        raise UsageError("gencli compare needs runs: folders, or a pattern such as outputs/*-digits/*")

    comparison = compare(expand(args.runs), args.split)
    if not comparison.groups:
        why = [f"{run}: {reason}" for run, reason in comparison.unfinished]
        raise UsageError(f"no run has a result on split={args.split} yet: " + "; ".join(why))
    if args.csv:
        _write_csv(comparison)
    elif args.json:
        print(json.dumps(_plain(comparison), indent=2))
    else:
        _print_table(comparison)
    return 0


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


def compare(folders: Sequence[Path], split: str = "test") -> Comparison:
    """Read the records of runs, group the comparable ones and rank each group."""
    comparison = Comparison()
    groups: dict[str, list[Row]] = {}
    for folder in folders:
        rows, problems = _rows(folder, split)
        comparison.unfinished += [(folder, problem) for problem in problems]
        for row in rows:
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


def _rows(folder: Path, split: str) -> tuple[list[Row], list[str]]:
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
        problems.append(f"{info.get('status', 'unknown')}, no result on {split}")
    return rows, problems


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
    """Order rows, best first, and measure each against the best."""
    rows.sort(key=lambda row: (not row.ranked, row.cost))
    for rank, row in enumerate((row for row in rows if row.ranked), start=1):
        row.rank = rank
    best = rows[0]
    for row in rows:
        row.group = group
        if row is not best and math.isfinite(row.value) and math.isfinite(best.value):
            row.difference = row.value - best.value
            row.difference_se = _paired_error(row.scores, best.scores) if row.is_nll else _independent_error(row, best)
            if row.difference_se is not None:  # an error that all examples share, such as that of log Z, does not pair
                both = (row.record.get("se_shared") or 0.0, best.record.get("se_shared") or 0.0)
                row.difference_se = math.hypot(row.difference_se, *both)


def _independent_error(row: Row, best: Row) -> float | None:
    """Standard error of the difference of two metrics; they share the reference, so it is rather too large."""
    a, b = row.record.get("se"), best.record.get("se")
    return None if a is None or b is None else math.hypot(a, b)


def _paired_error(a: dict[str, np.ndarray] | None, b: dict[str, np.ndarray] | None) -> float | None:
    """Standard error of the mean difference over the examples that both have."""
    import numpy as np

    if a is None or b is None:
        return None
    shared, in_a, in_b = np.intersect1d(a["ids"], b["ids"], return_indices=True)
    if len(shared) < 2:
        return None
    difference = a["nll"][in_a].astype(float) - b["nll"][in_b].astype(float)
    if "counts" in a:  # per symbol: the ratio estimator, with rows as clusters, as in the record
        n, symbols = len(shared), a["counts"][in_a].astype(float)
        residual = difference - difference.sum() / symbols.sum() * symbols
        error = float(math.sqrt(n / (n - 1) * (residual**2).sum()) / symbols.sum())
    else:
        error = float(difference.std(ddof=1) / math.sqrt(len(shared)))
    return error if math.isfinite(error) else None


# --- output ----------------------------------------------------------------------------------------------------------


def _cells(row: Row) -> dict[str, Any]:
    """One row as plain values: the columns of CSV and JSON."""
    record = row.record
    return {
        "group": row.group,
        "rank": row.rank,
        "run": str(row.run),
        "data": (record.get("protocol") or {}).get("data"),
        "split": record.get("split"),
        "metric": record.get("metric"),
        "value": record.get("value"),
        "unit": record.get("unit"),
        "se": record.get("se"),
        "better": record.get("better"),
        "n_samples": record.get("n_samples"),
        "sampler": _sampler(record),
        "se_examples": record.get("se_examples"),
        "se_estimator": record.get("se_estimator"),
        "bits_per_dim": record.get("bits_per_dim"),
        "bound": record.get("bound"),
        "estimator": record.get("estimator"),
        "difference": row.difference,
        "difference_se": row.difference_se,
        "z": row.z,
        "parameters": row.info.get("parameters"),
        "seconds": row.info.get("wall_seconds"),
        "seed": row.info.get("seed", record.get("seed")),
        "weights": record.get("weights"),
        "status": row.info.get("status"),
    }


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "groups": [
            {"apart": reason, "rows": [_cells(row) for row in rows]}
            for rows, reason in zip(comparison.groups, [None, *comparison.reasons], strict=True)
        ],
        "unfinished": [{"run": str(run), "why": why} for run, why in comparison.unfinished],
    }


def _write_csv(comparison: Comparison) -> None:
    rows = [_cells(row) for group in comparison.groups for row in group]
    writer = csv.DictWriter(sys.stdout, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: quoted(v, 10_000) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    for run, why in comparison.unfinished:
        print(shown(f"{run}: {why}"), file=sys.stderr)


def _print_table(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    everything = [row.run for rows in comparison.groups for row in rows]
    names = _short_names(everything)
    for rows, reason in zip(comparison.groups, ["", *comparison.reasons], strict=True):
        record, nll = rows[0].record, rows[0].is_nll
        data, unit = quoted((record.get("protocol") or {}).get("data")), str(record.get("unit"))
        if reason.startswith("metric is "):
            console.print()
        elif reason:
            first = "the first table" if nll else f"the first table of {record.get('metric')}"
            console.print(shown(f"\nnot comparable with {first}: {reason}"), markup=False)
        caption = f"{data}, {record.get('split')} split, " + (
            (unit if "/" in unit else f"{unit} an example")
            if nll
            else f"{record.get('n_samples')} samples against {record.get('n_reference')} examples"
        )
        table = Table(title=Text(shown(caption)), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
        arrow = "↑" if record.get("better") == "higher" else "↓"
        lines = [
            [str(row.rank or "-"), names[row.run], *(_measures(row) if nll else _sample_measures(row))] for row in rows
        ]
        for (name, justify), cells in zip(_COLUMNS if nll else _SAMPLE_COLUMNS, zip(*lines, strict=True), strict=True):
            title = name.replace("METRIC", f"{record.get('metric')} {arrow}")
            title = title.replace("bits/dim", f"bits/{unit.partition('/')[2] or 'dim'}")
            wraps = name in ("run", "sampler", "and")
            table.add_column(
                Text(shown(title)),
                justify=justify,  # type: ignore[arg-type]
                overflow="fold",
                no_wrap=not wraps,
                min_width=None if wraps else max(map(len, cells)),  # a number is never cut, however long others are
            )
        for line in lines:
            table.add_row(*(Text(shown(cell)) for cell in line))  # as text: what a run says is no markup
        least = Measurement.get(console, console.options.update(max_width=10_000), table).minimum
        console.print(table, width=max(least, console.width), crop=False)
    for run, why in comparison.unfinished:
        console.print(shown(f"{run}: {why}"), markup=False)
    notes = [note for rows in comparison.groups for note in (_FOOTNOTE if rows[0].is_nll else _FOOTNOTE_SAMPLES,)]
    for note in dict.fromkeys(notes):
        console.print(f"\n{note}", markup=False, style="dim", soft_wrap=True)


_COLUMNS = (
    ("", "right"),
    ("run", "left"),
    ("NLL", "right"),
    ("bits/dim", "right"),
    ("to best", "right"),
    ("z", "right"),
    ("estimator", "left"),
    ("params", "right"),
    ("time", "right"),
    ("seed", "right"),
)


def _measures(row: Row) -> list[str]:
    cells = _cells(row)
    error = cells["se_examples"]  # the spread over examples holds the noise of each already, but not what they share
    if error is not None:
        error = math.hypot(error, row.record.get("se_shared") or 0.0)
    value = f"{SIGNS[cells['bound']]} {_nats(row.value)}" + ("" if error is None else f" ±{_nats(error)}")
    difference = "" if row.difference is None else _nats(row.difference, "+")
    difference += "" if row.difference_se is None else f" ±{_nats(row.difference_se)}"
    bits = cells["bits_per_dim"]
    return [
        value,
        "" if bits is None else _nats(bits),
        difference,
        "" if row.z is None else f"{row.z:.1f}" if abs(row.z) < 1e6 else f"{row.z:.3g}",
        " ".join(str(cells[key]) for key in ("estimator", "weights") if cells[key]),
        _count(cells["parameters"]),
        _duration(cells["seconds"]),
        "" if cells["seed"] is None else str(cells["seed"]),
    ]


_SAMPLE_COLUMNS = (
    ("", "right"),
    ("run", "left"),
    ("METRIC", "right"),
    ("to best", "right"),
    ("z", "right"),
    ("and", "left"),
    ("sampler", "left"),
    ("seed", "right"),
)
_TOLD = 4  # diagnostics in a table


def _sample_measures(row: Row) -> list[str]:
    error = row.record.get("se")
    difference = "" if row.difference is None else f"{row.difference:+.3g}"
    told = [
        (k, v) for k, v in (row.record.get("diagnostics") or {}).items() if not k.startswith("se_") and v is not None
    ]
    return [
        f"{row.value:.4g}" + ("" if error is None else f" ±{error:.1g}"),
        difference + ("" if row.difference_se is None else f" ±{row.difference_se:.1g}"),
        "" if row.z is None else f"{row.z:.1f}",
        "\n".join(f"{key} {value:.3g}" for key, value in told[:_TOLD]),
        _sampler(row.record) or "",
        "" if row.record.get("seed") is None else str(row.record["seed"]),
    ]


def _sampler(record: Mapping[str, Any]) -> str | None:
    """The sampler with its settings, as on the command line."""
    if record.get("sampler") is None:
        return None
    settings = (
        f"{key}={quoted(value)}" for key, value in (record.get("sampler_settings") or {}).items() if value is not None
    )
    return " ".join([str(record["sampler"]), *settings])


def _nats(value: float, sign: str = "") -> str:
    """Three decimals; of numbers beyond all NLLs their size."""
    return f"{value:{sign}.3f}" if abs(value) < 1e9 else f"{value:{sign}.3e}"


def _count(n: int | None) -> str:
    if n is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return str(n)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.4g}h"


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Folder names without the start that all of them share; a long one breaks before its last part."""
    distinct = list(dict.fromkeys(paths))
    parts = [path.parts for path in distinct]
    shared = 0
    while len(distinct) > 1 and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    names = {path: str(Path(*path.parts[shared:])) for path in distinct}
    return {path: "/\n".join(name.rsplit("/", 1)) if len(name) > 24 else name for path, name in names.items()}
