"""``gencli sample``: draw from a run, and look."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gencli.config import sections
from gencli.config.compose import compose, quote
from gencli.core.errors import UsageError, quoted
from gencli.core.files import inside, write_whole
from gencli.models.base import DirectSampling
from gencli.pictures import style
from gencli.pictures.base import AnswerPicture, Picture
from gencli.pictures.export import export, formats
from gencli.pictures.files import keep, say_text
from gencli.run.conditioning import from_file
from gencli.run.naming import changed, joined, state, usual
from gencli.run.naming import drawn as drawn_by
from gencli.run.opened import builder
from gencli.run.record import by_place
from gencli.run.reporter import Reporter, relative
from gencli.run.run import Run, open_run
from gencli.run.sampling import borrowed, dealt, draw, region_name
from gencli.run.subject import ask
from gencli.samplers.base import Question

DEFAULT_N = 64


def sample(cfg: Mapping[str, Any]) -> list[Path]:
    """Draw ``n`` samples of a run, or another picture of it, into its samples/ folder; returns the files."""
    run = open_run(cfg, "samples", "sampler")
    if cfg["name"] is not None:
        try:
            inside(run.path, "samples", f"{cfg['name']}.npz")
        except UsageError as error:
            raise UsageError(f"name={error}") from error
    parts = run.parts
    reporter = Reporter()
    for key in ("format", "context") if cfg.get("picture") else ():
        if cfg[key] is not None:
            raise UsageError(f"{key}={quoted(cfg[key])} is for samples, not for picture={cfg['choices']['picture']}")
    if cfg.get("picture"):
        files, drawing = _picture(cfg, run)
        if drawing is not None:
            reporter.console.print(drawing)
        for file in files:
            reporter.say(f"  {relative(file)}")
        return files
    if isinstance(parts.sampler, Question):
        return _answer(cfg, run, reporter)
    y = None if cfg["context"] is None else from_file(cfg["context"], parts)
    n = cfg["n"] if cfg["n"] is not None else DEFAULT_N if y is None else len(y)
    name = _stem(cfg, run)
    asked = None if cfg["format"] is None else formats(cfg["format"], parts, run.path, name)
    passes = parts.model.passes if isinstance(parts.model, DirectSampling) else 0
    what = f"sampling ({passes} passes)" if passes > 1 else "sampling"
    with reporter.progress(what, n) as bar:
        size = cfg.get("batch_size") or run.config["trainer"]["eval_batch_size"]
        drawn = draw(parts, n, cfg["seed"], None if y is None else dealt(y, n), batch_size=size, tick=bar.at)
    if asked is None:
        files = keep(parts, run.path, name, cfg["seed"], drawn.x, drawn.y, sections.style(cfg["style"]))
    else:
        files = export(parts, run.path, name, asked, drawn.x, drawn.y)
    which = parts.checkpoint.stem if parts.checkpoint else "?"
    reporter.say(f"{n} sample{'s' * (n != 1)}, seed {cfg['seed']}, {parts.weights} weights of checkpoint {which}")
    for key, value in drawn.diagnostics.items():
        reporter.say(f"  {key.replace('_', ' ')} {value:.4g}")
    if parts.sampler and parts.sampler.given and parts.sampler.caveat:
        reporter.say(f"  {parts.sampler.caveat}")
    if y is None and (note := borrowed(parts)):
        reporter.say(f"  {note}")
    if drawn.y is not None and (names := parts.dataset.class_names()):
        reporter.say(f"  classes 0 to {len(names) - 1} are {quoted(', '.join(names), 200)}")
    say_text(parts, drawn.x, reporter)
    for file in files:
        reporter.say(f"  {relative(file)}")
    if asked is None and len(files) == 1:
        reporter.say("  no picture: the data beside which samples are drawn cannot be read (data.path=)")
    return files


def _answer(cfg: Mapping[str, Any], run: Run, reporter: Reporter) -> list[Path]:
    """Ask a question, and write its answer: arrays, and the picture of the same name."""
    parts, question = run.parts, run.parts.sampler
    assert isinstance(question, Question)
    for key in ("format", "context"):
        if cfg[key] is not None:
            raise UsageError(f"{key}={quoted(cfg[key])} is for samples, not for sampler={question.option}")
    section = compose("sample", [f"run={quote(str(run.path))}", f"picture={question.picture or question.option}"])[
        "picture"
    ]
    picture = builder(cfg["trust"]).component(section, AnswerPicture, group="picture")
    with reporter.progress(f"asking ({question.option})"):
        answer = ask(parts, cfg["n"], cfg["seed"], cfg.get("batch_size"))
    name, look = _stem(cfg, run), sections.style(cfg["style"])
    with style.applied(look):
        contents = picture.of(answer, parts).contents(look.format)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{key: value.cpu().numpy() for key, value in answer.arrays.items()})  # type: ignore[arg-type]
    files = []
    for suffix, content in {".npz": buffer.getvalue(), **contents}.items():
        files.append(inside(run.path, "samples", f"{name}{suffix}"))
        write_whole(files[-1], content)
    which = parts.checkpoint.stem if parts.checkpoint else "?"
    rows = len(next(iter(answer.arrays.values())))
    reporter.say(f"{question.option} of {rows}, seed {cfg['seed']}, {parts.weights} weights of checkpoint {which}")
    for key, value in answer.diagnostics.items():
        if not key.endswith("_se") and "@" not in key:
            error = answer.diagnostics.get(f"{key}_se")
            reporter.say(f"  {key.replace('_', ' ')} {value:.4g}" + ("" if error is None else f" ± {error:.2g}"))
    reporter.table(by_place(answer.diagnostics))
    for line in (*answer.notes, *(str(relative(file)) for file in files)):
        reporter.say(f"  {line}")
    return files


def _stem(cfg: Mapping[str, Any], run: Run) -> str:
    """The name of the files: the sampler, what is completed, how it differs from the run's own settings, the seed."""
    parts = run.parts
    given = parts.sampler.given if parts.sampler is not None else None
    differing = [text for text in drawn_by(cfg, run.trained, parts.sampler) if not text.startswith("given=")]
    kept = [region_name(given)] if given else []
    return _named(cfg, run, [cfg["choices"]["sampler"], *kept], differing)


def _stem_of_picture(cfg: Mapping[str, Any], run: Run, picture: Picture) -> str:
    """The same of a picture: what it shows, how that and the sampler differ from what is usual, the seed."""
    chosen, sampler = cfg["choices"]["picture"], cfg["choices"].get("sampler")
    differing = changed(cfg["picture"], usual("picture", chosen, run.trained, picture))
    if run.parts.sampler is not None and cfg.get("sampler"):
        differing += [f"sampler={sampler}"] * (sampler != run.trained["choices"].get("sampler"))
        differing += drawn_by(cfg, run.trained, run.parts.sampler)
    return _named(cfg, run, [chosen], differing)


def _named(cfg: Mapping[str, Any], run: Run, what: Sequence[str], differing: Sequence[str]) -> str:
    """``name=``, else what it is, how it and the weights differ from what is usual, the seed."""
    weights = state(run.parts.weights, run.parts.checkpoint, run.path, run.trained)
    return str(cfg["name"] or f"{joined(*what, differing=[*differing, *weights])}-seed{cfg['seed']}")


def _picture(cfg: Mapping[str, Any], run: Run) -> tuple[list[Path], Any]:
    """Write the files of the option ``picture``; returns them, and what it shows in the terminal.

    Raises:
        UsageError: the model lacks what it shows.
    """
    parts = run.parts
    chosen = builder(cfg["trust"]).component(cfg["picture"], Picture)
    lacking = [c.__name__ for c in chosen.requires if not isinstance(parts.model, c)]
    if lacking:
        raise UsageError(f"picture={cfg['choices']['picture']} needs {' and '.join(lacking)}, which the model lacks")
    stem = _stem_of_picture(cfg, run, chosen)
    files = []
    look = sections.style(cfg["style"])
    with style.applied(look):
        drawn = chosen.make(parts, DEFAULT_N if cfg["n"] is None else cfg["n"], cfg["seed"])
        contents = drawn.contents(look.format, look.film)
    for suffix, content in contents.items():
        files.append(inside(run.path, "samples", f"{stem}{suffix}"))
        write_whole(files[-1], content)
    return files, drawn.terminal
