"""What the page of a run, or of several, shows, from records, metrics and pictures; nothing is built or run."""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import yaml

from gencli import __version__
from gencli.config import stored
from gencli.core.bounds import SIGNS
from gencli.core.errors import UsageError, shown
from gencli.report import forms, importance, plots, words
from gencli.report.collect import Row, one_a_run, results
from gencli.report.compare import compare
from gencli.report.render import caveats, short_names
from gencli.report.render import sheet_of as runs_sheet
from gencli.report.seeds import entries, flat, swept
from gencli.report.sheet import Sheet

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

PICTURES = 4 * 2**20
"""Bytes of pictures that a page takes in, as they lie on disk."""


@dataclass(frozen=True)
class Picture:
    """A picture of a run: its name, and its file as a data URL."""

    name: str
    url: str


@dataclass(frozen=True)
class Number:
    """A record in words: what was measured, the number, what it is to the true value, errors, protocol, ledger."""

    title: str
    number: str
    bound: str
    errors: Sequence[str]
    flags: Sequence[str]
    protocol: Sequence[tuple[str, str]]
    ledger: Sequence[tuple[str, str]]


@dataclass
class Section:
    """One run on the page."""

    name: str
    folder: str
    status: str
    facts: Sequence[tuple[str, str]]
    numbers: Sequence[Number]
    problems: Sequence[str]
    curves: Sequence[plots.Plot]
    pictures: Sequence[Picture] = ()
    left_out: Sequence[str] = ()
    config: str = ""


@dataclass
class Page:
    """All that the template is given."""

    title: str
    made: str
    version: str
    sections: list[Section]
    tables: list[tuple[str, Sheet, list[str]]] = field(default_factory=list)
    figures: list[plots.Plot] = field(default_factory=list)
    parallel: plots.Parallel | None = None
    differences: Sheet | None = None
    importances: tuple[Sheet, str] | None = None


def gather(folders: Sequence[Path], split: str = "test") -> Page:
    """Everything of some runs that a page shows; of one that cannot be read, why.

    Args:
        folders: the runs.
        split: of the records.
    """
    names = short_names(folders)
    left = PICTURES
    sections, series = [], [_series(shown(names[run]), run) for run in folders]
    for run, one in zip(folders, series, strict=True):
        section, used = _section(run, names[run], split, left, one)
        left -= used
        sections.append(section)
    title = names[folders[0]] if len(folders) == 1 else f"{len(folders)} runs"
    page = Page(shown(title), datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), __version__, sections)
    if len(folders) > 1:
        _together(page, folders, names, split, series)
    return page


def _section(run: Path, name: str, split: str, room: int, series: Series) -> tuple[Section, int]:
    rows, problems = results(run, split)
    try:
        info = stored.info(run)
        config = yaml.dump(stored.config(run), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    except UsageError as error:
        return Section(shown(name), shown(str(run)), "damaged", [], [], [shown(str(error))], []), 0
    taken, left_out, used = [], [], 0
    for file in sorted((run / "samples").glob("*.png")):
        content = _png(file, room - used)
        if content is None:
            left_out.append(shown(file.name))
            continue
        used += len(content)
        url = "data:image/png;base64," + base64.b64encode(content).decode()
        taken.append(Picture(shown(file.stem), url))
    facts = [
        ("seed", info.get("seed")),
        ("parameters", info.get("parameters")),
        ("steps", (info.get("progress") or {}).get("step")),
        ("seconds", info.get("wall_seconds")),
        ("device", info.get("device")),
        ("started", info.get("started")),
        ("git commit", info.get("git_commit")),
        ("versions", ", ".join(f"{k} {v}" for k, v in (info.get("versions") or {}).items())),
    ]
    section = Section(
        shown(name),
        shown(str(run)),
        shown(str(info.get("status"))),
        [(key, shown(str(value))) for key, value in facts if value not in (None, "")],
        [_number(row) for row in rows],
        [shown(problem) for problem in problems],
        _curves([series]),
        taken,
        left_out,
        config,
    )
    return section, used


def _png(file: Path, room: int) -> bytes | None:
    """A picture of a run; None: it is too large, or no picture of this folder.

    A stranger's link would put a file of this machine on a page that is handed on.
    """
    if file.is_symlink() or file.parent.is_symlink() or not file.is_file() or file.stat().st_size > room:
        return None
    content = file.read_bytes()
    return content if content.startswith(b"\x89PNG\r\n\x1a\n") else None


def _number(row: Row) -> Number:
    record = row.record
    nll = row.is_nll
    title = f"{'NLL' if nll else record.get('metric')} on the {record.get('split')} split"
    ledger = [t for t in record.get("ledger") or [] if isinstance(t, Mapping)]
    return Number(
        shown(title + (f" ({row.variant})" if row.variant else "")),
        shown((f"{SIGNS.get(str(record.get('bound')), '')} " if nll else "") + words.number(record)),
        words.BOUNDS.get(str(record.get("bound")), "") if nll else "",
        [shown(error) for error in words.errors(record)],
        [shown(str(flag)) for flag in record.get("flags") or []],
        [(shown(key), shown(value)) for key, value in words.protocol(record)],
        [(shown(str(term.get("term"))), shown(str(term.get("nats")))) for term in ledger],
    )


@dataclass(frozen=True)
class Series:
    """What a run measured while it trained: points (step, value) of its validation, whose key that is, and its loss."""

    name: str
    measured: str = "score"
    scores: Sequence[tuple[float, float]] = ()
    losses: Sequence[tuple[float, float]] = ()


def _series(name: str, run: Path) -> Series:
    try:
        lines = stored.metrics(run)
    except UsageError:
        return Series(name)

    def points(split: str, keys: Sequence[str]) -> tuple[str, list[tuple[float, float]]]:
        own = [line for line in lines if line.get("split") == split]
        key = next((k for k in keys if any(k in line for line in own)), keys[0])
        found = [(line["step"], line.get(key)) for line in own]
        return key, [(float(x), float(y)) for x, y in found if isinstance(x, int) and isinstance(y, int | float)]

    measured, scores = points("val", ("nll", "loss", "energy_discrepancy"))
    return Series(name, measured, scores, points("train", ("loss",))[1])


def _curves(runs: Sequence[Series]) -> list[plots.Plot]:
    """Validation and training loss by step: of one run both, of several a line a run each."""
    measured = next((run.measured for run in runs if run.scores), "score")
    scores, losses = [(run.name, run.scores) for run in runs], [(run.name, run.losses) for run in runs]
    made = [plots.curves("Validation", f"{measured} (validation)", scores), plots.curves("Training", "loss", losses)]
    return [plot for plot in made if plot is not None]


def _together(
    page: Page, folders: Sequence[Path], names: Mapping[Path, str], split: str, series: Sequence[Series]
) -> None:
    """Tables, plots and differences of several runs."""
    comparison, configs = compare(folders, split), {run: flat(run) for run in folders}
    for rows, reason in zip(comparison.groups, ["", *comparison.reasons], strict=True):
        table = entries(rows, [], known={row.run: configs[row.run] for row in rows})
        seeds = any(len(entry.rows) > 1 for entry in table)
        sheet = forms.sheet_of(table) if seeds else runs_sheet(rows, names)
        told = forms.caveats(table) if seeds else caveats(rows, names)
        page.tables.append((shown(reason), sheet, [shown(line) for line in told]))
    page.figures += _curves(series)
    if not comparison.groups:
        return
    rows = [row for row in one_a_run(comparison.groups[0]) if math.isfinite(row.value)]
    keys = swept([configs[row.run] for row in rows])
    with contextlib.suppress(UsageError):  # of few configurations there are none
        found = importance.importances(rows, [configs[row.run] for row in rows])
        page.importances = importance.sheet_of(found, ""), found.note
    what = "NLL" if rows and rows[0].is_nll else "value"
    timed = [(float(s), row.value, names[row.run]) for row in rows if (s := row.info.get("wall_seconds"))]
    if plot := plots.scatter(f"{what} by time", "seconds", what, timed):
        page.figures.append(plot)
    for key in keys:
        points = [
            (float(v), row.value, names[row.run])
            for row in rows
            if isinstance(v := configs[row.run].get(key), int | float) and not isinstance(v, bool)
        ]
        if len({x for x, _, _ in points}) > 1 and (plot := plots.scatter(f"{what} by {key}", key, what, points)):
            page.figures.append(plot)
    told = [key for key in keys if all(_simple(configs[row.run].get(key)) for row in rows)][:6]
    lines = [(names[row.run], [configs[row.run].get(key) for key in told], row.value) for row in rows]
    page.parallel = plots.parallel(told, lines, what)
    if keys:
        columns = [("run", "left"), *((shown(key), "left") for key in keys[:12])]
        cells = [[names[row.run], *(shown(_text(configs[row.run].get(key))) for key in keys[:12])] for row in rows]
        page.differences = Sheet("", columns, cells)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _simple(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def html(page: Page) -> str:
    """The page as HTML; all that is not ours is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gencli.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    frame = {"width": plots.WIDTH, "height": plots.HEIGHT, "left": plots.LEFT, "right": plots.RIGHT}
    frame |= {"top": plots.TOP, "bottom": plots.BOTTOM}
    return environment.get_template("page.html.j2", globals=frame).render(page=page)
