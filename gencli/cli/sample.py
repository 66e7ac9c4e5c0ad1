"""``gencli sample``: draw from a run, and look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gencli.core.errors import UsageError
from gencli.core.files import inside, write_whole
from gencli.models.base import DirectSampling
from gencli.pictures.base import Picture
from gencli.pictures.files import keep, say_text
from gencli.run.assembly import Parts
from gencli.run.naming import drawn as drawn_by
from gencli.run.naming import joined, state
from gencli.run.opened import builder
from gencli.run.reporter import Reporter, relative
from gencli.run.run import Run, open_run
from gencli.run.sampling import draw, region_name


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
    if cfg.get("picture"):
        files, drawing = _picture(cfg, parts, run.path)
        if drawing is not None:
            reporter.console.print(drawing)
        for file in files:
            reporter.say(f"  {relative(file)}")
        return files
    passes = parts.model.passes if isinstance(parts.model, DirectSampling) else 0
    what = f"sampling ({passes} passes)" if passes > 1 else "sampling"
    with reporter.progress(what, cfg["n"]) as bar:
        size = cfg.get("batch_size") or run.config["trainer"]["eval_batch_size"]
        drawn = draw(parts, cfg["n"], cfg["seed"], batch_size=size, tick=bar.at)
    given = parts.sampler.given if parts.sampler is not None else None
    name = cfg["name"] or _name(cfg, run, given)
    files = keep(parts, run.path, name, cfg["seed"], drawn.x, drawn.y)
    which = parts.checkpoint.stem if parts.checkpoint else "?"
    reporter.say(f"{cfg['n']} samples, seed {cfg['seed']}, {parts.weights} weights of checkpoint {which}")
    for key, value in drawn.diagnostics.items():
        reporter.say(f"  {key.replace('_', ' ')} {value:.4g}")
    if given and parts.sampler and parts.sampler.caveat:
        reporter.say(f"  {parts.sampler.caveat}")
    say_text(parts, drawn.x, reporter)
    for file in files:
        reporter.say(f"  {relative(file)}")
    return files


def _name(cfg: Mapping[str, Any], run: Run, given: str | list[int] | None) -> str:
    """The sampler, what is completed, how it differs from the run's own settings, weights and checkpoint, the seed."""
    parts = run.parts
    differing = [text for text in drawn_by(cfg, run.trained, parts.sampler) if not text.startswith("given=")]
    differing += state(parts.weights, parts.checkpoint, run.path, run.trained)
    kept = [region_name(given)] if given else []
    return "-".join([joined(cfg["choices"]["sampler"], *kept, differing=differing), f"seed{cfg['seed']}"])


def _picture(cfg: Mapping[str, Any], parts: Parts, run: Path) -> tuple[list[Path], Any]:
    """Write the files of the option ``picture``; returns them, and what it shows in the terminal.

    Raises:
        UsageError: the model lacks what it shows.
    """
    chosen = builder(cfg["trust"]).component(cfg["picture"], Picture)
    lacking = [c.__name__ for c in chosen.requires if not isinstance(parts.model, c)]
    if lacking:
        raise UsageError(f"picture={cfg['choices']['picture']} needs {' and '.join(lacking)}, which the model lacks")
    stem = cfg["name"] or f"{cfg['choices']['picture']}-seed{cfg['seed']}"
    files = []
    drawn = chosen.make(parts, cfg["n"], cfg["seed"])
    for suffix, content in drawn.files.items():
        files.append(inside(run, "samples", f"{stem}{suffix}"))
        write_whole(files[-1], content)
    return files, drawn.terminal
