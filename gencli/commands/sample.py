"""``gencli sample``: draw from a run, and look."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gencli.build import component
from gencli.errors import UsageError
from gencli.files import write_whole
from gencli.interfaces import DirectSampling
from gencli.parts import Parts
from gencli.pictures.base import Picture
from gencli.pictures.samples import SHOWN, of_samples
from gencli.reporting import Reporter, relative
from gencli.run import open_run
from gencli.sampling import draw


def keep(parts: Parts, run: Path, name: str, seed: int, x: Tensor, y: Tensor | None) -> list[Path]:
    """Write samples/<name>.npz (data units) and samples/<name>.png, a grid of images or a cloud of more samples."""
    arrays = {"samples": x.cpu().numpy()} | ({} if y is None else {"labels": y.cpu().numpy()})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    npz = run / "samples" / f"{name}.npz"
    write_whole(npz, buffer.getvalue())
    if parts.dataset.to_image(x[:1]) is None and len(x) < SHOWN:
        x = draw(parts, SHOWN, seed)[0]  # x and more: a handful of points shows no density
    png = npz.with_suffix(".png")
    write_whole(png, of_samples(parts, x))
    return [png, npz]


def sample(cfg: Mapping[str, Any]) -> list[Path]:
    """Draw ``n`` samples of a run, or another picture of it, into its samples/ folder; returns the files."""
    run = open_run(cfg, "sampler")
    parts = run.parts
    reporter = Reporter()
    if cfg.get("picture"):
        files = _picture(cfg, parts, run.path)
        for file in files:
            reporter.say(f"  {relative(file)}")
        return files
    passes = parts.model.passes if isinstance(parts.model, DirectSampling) else 0
    what = f"sampling ({passes} passes)" if passes > 1 else "sampling"
    with reporter.progress(what, cfg["n"]) as bar:
        size = cfg.get("batch_size") or run.config["trainer"]["eval_batch_size"]
        x, y = draw(parts, cfg["n"], cfg["seed"], batch_size=size, tick=bar.at)
    name = cfg["name"] or f"{cfg['choices']['sampler']}-seed{cfg['seed']}"
    files = keep(parts, run.path, name, cfg["seed"], x, y)
    which = parts.checkpoint.stem if parts.checkpoint else "?"
    nfe = parts.sampler.nfe if parts.sampler else None
    cost = "" if nfe is None else f", {nfe:.0f} network evaluations a sample"
    reporter.say(f"{cfg['n']} samples, seed {cfg['seed']}, {parts.weights} weights of checkpoint {which}{cost}")
    for file in files:
        reporter.say(f"  {relative(file)}")
    return files


def _picture(cfg: Mapping[str, Any], parts: Parts, run: Path) -> list[Path]:
    """Write the files of the option ``picture``.

    Raises:
        UsageError: the model lacks what it shows.
    """
    chosen = component(cfg["picture"], Picture, cfg["trust"])
    lacking = [c.__name__ for c in chosen.requires if not isinstance(parts.model, c)]
    if lacking:
        raise UsageError(f"picture={cfg['choices']['picture']} needs {' and '.join(lacking)}, which the model lacks")
    stem = cfg["name"] or f"{cfg['choices']['picture']}-seed{cfg['seed']}"
    files = []
    for suffix, content in chosen.make(parts, cfg["n"], cfg["seed"]).items():
        files.append(run / "samples" / f"{stem}{suffix}")
        write_whole(files[-1], content)
    return files
