"""Tables for papers and pages: Markdown and LaTeX, and the sheet of configurations with several seeds."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from typing import Any

from gencli.core.bounds import SIGNS, nats
from gencli.core.errors import quoted, shown
from gencli.core.files import standard_json
from gencli.report import importance
from gencli.report.compare import Comparison
from gencli.report.render import caption_of, decimals, difference
from gencli.report.seeds import SIGNIFICANT, Entry
from gencli.report.sheet import Sheet, print_sheet, terminal

NOTE = """\
± examples: what another test set would change, with the error that all examples share, such as that of log Z; > a
lower limit of it, of which no p follows. ± seeds: what other seeds would change. Differences are paired over the
same examples and hold both; p is two-sided, by Student's t, adjusted by Holm's method for {m} comparisons."""

_COLUMNS = (
    ("", "right"),
    ("configuration", "left"),
    ("seeds", "right"),
    ("NLL", "right"),
    ("± examples", "right"),
    ("± seeds", "right"),
    ("to best", "right"),
    ("p", "right"),
)


def sheet_of(table: Sequence[Entry]) -> Sheet:
    """Configurations of one comparable group, a row each, the best first."""
    record = table[0].rows[0].record
    columns = list(_COLUMNS)
    if record.get("metric") != "nll":
        columns[3] = (f"{record.get('metric')} {'↑' if record.get('better') == 'higher' else '↓'}", "right")
    digits = decimals(*(se for entry in table for se in (entry.se_examples, entry.se_seeds)))
    lines = [
        [
            str(entry.rank or "-"),
            entry.name,
            str(len(entry.rows)),
            f"{SIGNS[entry.bound]} {entry.value:.{digits}f}" if entry.rows[0].is_nll else f"{entry.value:.4g}",
            ">" * entry.se_at_least + _number(entry.se_examples),
            _number(entry.se_seeds),
            difference(entry.difference, entry.difference_se),
            p_text(entry.p),
        ]
        for entry in table
    ]
    return Sheet(caption_of(record), columns, lines, (3,) if surely_best(table) else ())


def surely_best(table: Sequence[Entry]) -> bool:
    """Whether the first is better than every other, each difference significant after Holm's adjustment."""
    return len(table) > 1 and all(entry.p is not None and entry.p < SIGNIFICANT for entry in table[1:])


def p_text(p: float | None) -> str:
    """A p value; small ones by their bound."""
    return "" if p is None else "<0.001" if p < 1e-3 else f"{p:.3f}"


def cells(group: int, entry: Entry) -> dict[str, Any]:
    """One configuration as plain values: the columns of CSV and JSON."""
    record = entry.rows[0].record
    return {
        "group": group,
        "rank": entry.rank,
        "configuration": entry.name,
        "data": (record.get("protocol") or {}).get("data"),
        "split": record.get("split"),
        "metric": record.get("metric"),
        "value": entry.value,
        "unit": record.get("unit"),
        "bound": entry.bound,
        "seeds": len(entry.rows),
        "se_examples": entry.se_examples,
        "se_at_least": entry.se_at_least,
        "se_seeds": entry.se_seeds,
        "difference": entry.difference,
        "difference_se": entry.difference_se,
        "p_holm": entry.p,
        "runs": " ".join(str(row.run) for row in entry.rows),
    }


def caveats(table: Sequence[Entry]) -> list[str]:
    """What a reader of a table must know: single seeds, and means that one example carries."""
    found = []
    if any(len(entry.rows) == 1 for entry in table):
        found.append("one seed tells nothing of what another would give: its p holds the examples' error only")
    for entry in table:
        if entry.outlier is not None:
            found.append(f"{entry.name}: example {entry.outlier} carries the mean and most of its error")
    return found


def write_grouped(comparison: Comparison, tables: Sequence[Sequence[Entry]], form: str | None) -> None:
    """Configurations of each group in a form, or as a table for the terminal."""
    rows = [cells(group, entry) for group, table in enumerate(tables) for entry in table]
    if form == "json":
        apart = [None, *comparison.reasons]
        found = [
            {"apart": why, "rows": [cells(group, entry) for entry in table], "caveats": caveats(table)}
            for group, (why, table) in enumerate(zip(apart, tables, strict=True))
        ]
        print(standard_json({"groups": found, "unfinished": [[str(run), why] for run, why in comparison.unfinished]}))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: quoted(v, 10_000) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
        _tell_unfinished(comparison)
    elif form:
        write_sheets(comparison, [sheet_of(table) for table in tables], form)
    else:
        console = terminal()
        for table, reason in zip(tables, ["", *comparison.reasons], strict=True):
            if reason:
                console.print(shown(f"\nnot comparable with the first table: {reason}"), markup=False)
            print_sheet(sheet_of(table), console)
            for line in caveats(table):
                console.print(shown(line), markup=False)
        for run, why in comparison.unfinished:
            console.print(shown(f"{run}: {why}"), markup=False)
        most = max(len(table) - 1 for table in tables)
        if most:
            console.print(f"\n{NOTE.format(m=most)}", markup=False, style="dim", soft_wrap=True)


def write_importances(found: importance.Importances, comparison: Comparison, form: str | None) -> None:
    """Importances of hyper-parameters over the first group, in a form or for the terminal."""
    caption = f"importance of hyper-parameters: {caption_of(comparison.groups[0][0].record)}"
    plain = [{"key": one.key, "importance": one.value, "se": one.se} for one in found.keys]
    if form == "json":
        told = {"runs": found.runs, "configurations": found.configurations, "explained": found.explained}
        print(standard_json({**told, "keys": plain}))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, list(plain[0]))
        writer.writeheader()
        writer.writerows(plain)
    elif form:
        write_sheets(comparison, [importance.sheet_of(found, caption)], form)
    else:
        console = terminal()
        print_sheet(importance.sheet_of(found, caption), console)
        console.print(f"\n{found.note}", markup=False, style="dim", soft_wrap=True)


def write_sheets(comparison: Comparison, sheets: Sequence[Sheet], form: str) -> None:
    """Tables as Markdown or LaTeX to the standard output; runs without a number are told on the standard error."""
    print("\n".join((markdown if form == "markdown" else latex)(sheet) for sheet in sheets), end="")
    _tell_unfinished(comparison)


def _tell_unfinished(comparison: Comparison) -> None:
    for run, why in comparison.unfinished:
        print(shown(f"{run}: {why}"), file=sys.stderr)


_MARKUP = r"([\\|*_`<>\[\]])"


def escaped(text: str, *, code: bool = False) -> str:
    """Text as Markdown shows it, in one line; ``code``: within a string of code."""
    if code:
        return _escaped(text, r"([\\\"`])", r"\\\1")
    return _escaped(text, _MARKUP, r"\\\1")


def markdown(sheet: Sheet) -> str:
    """A table of GitHub's Markdown; the best number in bold where it is better beyond doubt."""
    lines = [[_escaped(cell, _MARKUP, r"\\\1") for cell in line] for line in sheet.lines]
    for at in sheet.first:
        lines[0][at] = f"**{lines[0][at]}**"
    rule = ["---:" if justify == "right" else "---" for _, justify in sheet.columns]
    rows = [[title for title, _ in sheet.columns], rule, *lines]
    caption = _escaped(sheet.caption, _MARKUP, r"\\\1")
    return f"{caption}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(sheet: Sheet) -> str:
    """A table with the rules of booktabs; the best number in bold where it is better beyond doubt.

    One that is wider than the text stands out into both margins, where the right one alone would cut it off.
    """
    lines = [[_tex(cell) for cell in line] for line in sheet.lines]
    for at in sheet.first:
        lines[0][at] = rf"\textbf{{{lines[0][at]}}}"
    align = "".join("r" if justify == "right" else "l" for _, justify in sheet.columns)
    rows = "".join(f"{' & '.join(line)} \\\\\n" for line in lines)
    title = " & ".join(_tex(title) for title, _ in sheet.columns)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_tex(sheet.caption)}}}\n\\makebox[\\linewidth]{{\\begin{{tabular}}{{{align}}}\n"
        f"\\toprule\n{title} \\\\\n\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}}}\n\\end{{table}}\n"
    )


_TEX = {
    "[": "{[}",  # which after the end of a row would be its skip
    "*": "{*}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"$\sim$",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def _tex(cell: str) -> str:
    text = _escaped(cell, "", "").replace("<=", "≤").replace(">=", "≥")
    escaped = "".join(_TEX.get(c, c) for c in text).replace("≤", r"$\leq$").replace("≥", r"$\geq$")
    return re.sub(r"[^\x20-\x7e]", "?", escaped)  # what pdflatex would stop at


def _escaped(cell: str, pattern: str, into: str) -> str:
    """A cell in one line, without control characters."""
    text = shown(" ".join(cell.split()))
    return re.sub(pattern, into, text) if pattern else text


def _number(value: float | None) -> str:
    return "" if value is None else nats(value, digits=decimals(value))
