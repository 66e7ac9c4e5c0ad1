"""A comparison as a table for people, as CSV and as JSON."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencli.core.bounds import SIGNS, nats
from gencli.core.errors import quoted, shown
from gencli.report.collect import Row
from gencli.report.compare import Comparison, outlier
from gencli.report.sheet import Sheet, print_sheet, terminal

_FOOTNOTE = """\
=  the NLL itself.  <= an upper bound: the NLL is no worse, so a small one beats what it beats for sure, while a large \
one may only be loose.  >= a lower bound: the NLL may be worse.  ~ an estimate. These have no rank.
± holds the spread over examples and the error that all share, such as that of log Z; ±> is a lower limit of it.
Differences are paired over the same examples, and z counts them in standard errors: below 2 is too close to call."""
_FOOTNOTE_SAMPLES = """\
Metrics on samples: arrows say which way is better. Errors of differences are those of two independent measurements."""
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
    ("notes", "left"),
)
_SAMPLE_COLUMNS = (
    ("", "right"),
    ("run", "left"),
    ("METRIC", "right"),
    ("to best", "right"),
    ("z", "right"),
    ("and", "left"),
    ("sampler", "left"),
    ("seed", "right"),
    ("notes", "left"),
)
TOO_CLOSE = 2.0  # standard errors
_TOLD = 4  # diagnostics in a table


def plain(comparison: Comparison) -> dict[str, Any]:
    """Groups of rows, and runs without a number, as JSON takes them."""
    return {
        "groups": [
            {"apart": reason, "rows": [_cells(row) for row in rows]}
            for rows, reason in zip(comparison.groups, [None, *comparison.reasons], strict=True)
        ],
        "further": comparison.further,
        "unfinished": [{"run": str(run), "why": why} for run, why in comparison.unfinished],
    }


def write_csv(comparison: Comparison) -> None:
    """All rows to the standard output; runs without a number are told on the standard error."""
    rows = [_cells(row) for group in comparison.groups for row in group]
    writer = csv.DictWriter(sys.stdout, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: quoted(v, 10_000) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    for run, why in comparison.unfinished:
        print(shown(f"{run}: {why}"), file=sys.stderr)


def print_table(comparison: Comparison, names: Mapping[Path, str] | None = None) -> None:
    """A table for each group, with what sets it apart, and what the signs mean; names: of runs, else their folders."""
    console = terminal()
    names = names or short_names([row.run for rows in comparison.groups for row in rows])
    for rows, reason in zip(comparison.groups, ["", *comparison.reasons], strict=True):
        if reason.startswith("metric is "):
            console.print()
        elif reason:
            first = "the first table" if rows[0].is_nll else f"the first table of {rows[0].record.get('metric')}"
            console.print(shown(f"\nnot comparable with {first}: {reason}"), markup=False)
        print_sheet(sheet_of(rows, names), console)
        for line in caveats(rows, names):
            console.print(shown(line), markup=False, soft_wrap=True)
    for run, why in comparison.unfinished:
        console.print(shown(f"{run}: {why}"), markup=False)
    if comparison.further:
        console.print(
            f"{comparison.further} other measurements (settings, examples, weights, data): --all", markup=False
        )
    notes = [_FOOTNOTE if rows[0].is_nll else _FOOTNOTE_SAMPLES for rows in comparison.groups]
    for note in dict.fromkeys(notes):
        console.print(f"\n{note}", markup=False, style="dim")


def caveats(rows: Sequence[Row], names: Mapping[Path, str]) -> list[str]:
    """Means that one example carries, a line each."""
    found = [(names[row.run], outlier(row.scores)) for row in rows if row.scores is not None]
    return [f"{name}: example {one} carries the mean and most of its error" for name, one in found if one is not None]


def sheet_of(rows: Sequence[Row], names: Mapping[Path, str]) -> Sheet:
    """One group of comparable runs, a row each."""
    record, nll = rows[0].record, rows[0].is_nll
    lines = [
        [str(row.rank or "-"), names[row.run], *(_measures if nll else _sample_measures)(row), "\n".join(row.notes)]
        for row in rows
    ]
    columns: Sequence[tuple[str, str]] = _COLUMNS if nll else _SAMPLE_COLUMNS
    if not any(row.notes for row in rows):
        columns, lines = columns[:-1], [line[:-1] for line in lines]
    titles = [(_title(name, record), justify) for name, justify in columns]
    best = len(rows) > 1 and rows[0].rank == 1 and rows[1].z is not None and rows[1].z > TOO_CLOSE
    return Sheet(caption_of(record), titles, lines, (2,) if best else ())


def caption_of(record: Mapping[str, Any]) -> str:
    """Data, split and unit of a group of comparable records."""
    data, unit = quoted((record.get("protocol") or {}).get("data")), str(record.get("unit"))
    measured = unit if "/" in unit else f"{unit} an example"
    if record.get("metric") != "nll":
        measured = f"{record.get('n_samples')} samples against {record.get('n_reference')} examples"
    return f"{data}, {record.get('split')} split, {measured}"


def _title(name: str, record: Mapping[str, Any]) -> str:
    arrow = "↑" if record.get("better") == "higher" else "↓"
    per = str(record.get("unit")).partition("/")[2] or "dim"
    return name.replace("METRIC", f"{record.get('metric')} {arrow}").replace("bits/dim", f"bits/{per}")


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
        "se": row.se,
        "se_at_least": row.se_at_least,
        "better": record.get("better"),
        "n_samples": record.get("n_samples"),
        "sampler": _sampler(record),
        "se_examples": record.get("se_examples"),
        "se_estimator": record.get("se_estimator"),
        "se_shared": record.get("se_shared"),
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
        "outlier": None if row.scores is None else outlier(row.scores),
        "notes": "; ".join(row.notes),
    }


def _measures(row: Row) -> list[str]:
    record, info, digits = row.record, row.info, decimals(row.se)
    seed, bits = info.get("seed", record.get("seed")), record.get("bits_per_dim")
    value = f"{SIGNS[record['bound']]} {nats(row.value, '', digits)}{_error(row.se, row.se_at_least, digits)}"
    return [
        value,
        "" if bits is None else nats(bits),
        difference(row.difference, row.difference_se, row.difference_at_least),
        "" if row.z is None else f"{row.z:.1f}" if abs(row.z) < 1e6 else f"{row.z:.3g}",
        " ".join(str(record[key]) for key in ("estimator", "weights") if record.get(key)),
        _count(info.get("parameters")),
        _duration(info.get("wall_seconds")),
        "" if seed is None else str(seed),
    ]


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


def difference(value: float | None, se: float | None, at_least: bool = False) -> str:
    """A difference of NLLs with its error, in as many digits as the smaller of them needs.

    Example:
        >>> difference(0.00012, 0.00004), difference(-0.8731, 0.1034)
        ('+0.000120 ±0.000040', '-0.873 ±0.103')
    """
    if value is None:
        return ""
    digits = decimals(value, se)
    return nats(value, "+", digits) + _error(se, at_least, digits)


def decimals(*numbers: float | None) -> int:
    """Decimals that show each of some nats: three, and of what is below 0.001 its first two digits."""
    small = [abs(n) for n in numbers if n is not None and 1e-9 < abs(n) < 1e-3]
    return 1 - math.floor(math.log10(min(small))) if small else 3


def _error(se: float | None, at_least: bool, digits: int = 3) -> str:
    return "" if se is None else f" ±{'>' if at_least else ''}{nats(se, digits=digits)}"


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


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Folder names without the start that all of them share."""
    distinct = list(dict.fromkeys(paths))
    parts = [path.parts for path in distinct]
    shared = 0
    while len(distinct) > 1 and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return {path: str(Path(*path.parts[shared:])) for path in distinct}
