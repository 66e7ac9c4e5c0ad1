"""``gencli train``: build, train, measure on held-out data, draw samples."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gencli.cli.eval import local_device, show
from gencli.cli.sample import keep, say_text
from gencli.config.locate import find_run
from gencli.core import distributed
from gencli.core.errors import GencliError, Interrupted, RunFailed, UsageError
from gencli.models.base import Model
from gencli.pictures.samples import grid_of
from gencli.run import checkpoint as checkpoints
from gencli.run.assembly import PREPROCESSING, Parts, assemble, load_weights
from gencli.run.folder import RunFolder
from gencli.run.nll import measure
from gencli.run.reporter import Reporter, relative
from gencli.run.run import Run, refuse_changes
from gencli.run.sampling import check as check_sampler
from gencli.run.sampling import draw
from gencli.training.loop import Trainer, check
from gencli.training.signals import StopRequest


def train(cfg: Mapping[str, Any], sweep_dir: Path | None = None) -> Run:
    """Run a config to the end, or go on with ``resume``; returns the run.

    Everything that can be refused is refused before the folder is made.

    Raises:
        UsageError: the config is wrong; nothing was written.
        Interrupted: a signal came; the run is saved.
        RunFailed: training could not go on.
    """
    world = distributed.join()
    try:
        return _train({**cfg, "device": local_device(cfg["device"], world)}, sweep_dir, world)
    finally:
        distributed.leave()


def _train(cfg: dict[str, Any], sweep_dir: Path | None, world: distributed.World) -> Run:
    resume = find_run(cfg["resume"]) if cfg.get("resume") else None
    start, start_step, download = None, 0, True
    if resume:
        run = Run(resume)
        trained, _, _ = run.trained, run.info, run.metrics  # what is damaged is refused before anything is written
        RunFolder.check(resume)
        refuse_changes(trained, cfg, ("model", "data", "objective"))
        if cfg["seed"] != trained["seed"]:
            raise UsageError(
                f"seed={cfg['seed']}: a resumed run keeps its seed ({trained['seed']}), its order of batches"
            )
        start = checkpoints.path_of(resume, cfg["checkpoint"])
        start_step = checkpoints.read(start)[1].get("step", 0)
        root = cfg["data"].get("root")
        download = root is None or root != trained["data"].get("root")
    cfg |= {group: _with_runs(cfg.get(group), cfg["data"]) for group in ("model", "objective", "estimator")}
    parts = assemble(cfg, download=download)
    check(cfg, parts.device, world)
    check_sampler(parts)
    try:
        parts.objective.open(parts.model)
    except ValueError as error:
        raise UsageError(str(error)) from error
    whole, train_split, val_split = (parts.dataset.split("train"), parts.dataset.training(), parts.dataset.split("val"))
    assert whole is not None
    assert train_split is not None
    if parts.estimator is not None:
        parts.dataset.split("test")  # a missing file is found out now, not after training; nothing looks at it
    try:
        parts.preprocess.fit(whole)
    except ValueError as error:
        raise UsageError(str(error)) from error
    parameters = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)

    # Rank 0 makes the folder and everyone hears of it, or of why there is none.
    made: Any = None
    if world.main:
        try:
            made = resume or RunFolder.fresh_path(cfg, sweep_dir)
        except UsageError as error:
            made = error
    made = distributed.share(made)
    if isinstance(made, UsageError):
        raise made
    folder = RunFolder(made, writes=world.main)

    with StopRequest() as stop:
        reporter = Reporter(
            folder,
            tensorboard=bool(cfg["logger"] and cfg["logger"]["tensorboard"]),
            quiet=not world.main,
            start=start_step,
        )
        trainer = Trainer(
            cfg,
            parts,
            train_split,
            val_split,
            folder,
            reporter,
            world,
            stop,
            lambda step, model: _draw_while_training(parts, model, cfg, folder, reporter, step),
        )
        stored = {key: value for key, value in cfg.items() if key not in ("resume", "checkpoint")}
        facts = {"device": str(parts.device), "world_size": world.size}
        if start:
            trainer.prepare()
            trainer.load(start)
            folder.forget_after(trainer.step)
            folder.reopen(stored, **facts)
            reporter.say(f"resuming {relative(folder.path)} at step {trainer.step}")
        else:
            folder.begin(stored, seed=cfg["seed"], parameters=parameters, **facts)
        names = cfg["choices"]
        reporter.say(
            f"{names['model']} on {names['data']}: {parameters:,} parameters, {len(train_split):,} examples, "
            f"{parts.device}, seed {cfg['seed']} -> {relative(folder.path)}"
        )
        reporter.text("model", str(parts.model))
        reporter.text("config", json.dumps(dict(cfg), indent=2, default=str))
        began = time.perf_counter()
        again = f"gencli train resume={relative(folder.path)}"
        try:
            if not start:
                trainer.prepare()
            trainer.fit()
            record = _finish(cfg, parts, folder, reporter, world, stop, trainer)
        except (Interrupted, KeyboardInterrupt) as error:
            folder.update(status="interrupted", progress=_progress(trainer), wall_seconds=_wall(folder, began))
            saved = (folder.path / "checkpoints" / "last.safetensors").exists()
            advice = f"go on with: {again}" if saved else "there is no checkpoint yet to go on from"
            reporter.say(f"{str(error) or 'interrupted'}; {advice}")
            raise
        except Exception as error:
            folder.update(
                status="failed", reason=str(error), progress=_progress(trainer), wall_seconds=_wall(folder, began)
            )
            if isinstance(error, GencliError):
                reporter.log(f"failed: {error}")
            raise
        finally:
            reporter.close()
        folder.update(
            status="finished",
            progress=_progress(trainer),
            wall_seconds=_wall(folder, began),
            result=record
            and {k: record[k] for k in ("split", "metric", "value", "unit", "bits_per_dim", "bound", "estimator")},
        )
    place = relative(folder.path)
    reporter.say(f"finished: {place}")
    if record:
        show(record, reporter)
    if parts.sampler is not None:
        reporter.say(f"  samples   gencli sample run={place} n=64")
    others = [
        s for s in ("val", "train") if parts.dataset.split(s) is not None and (not record or record["split"] != s)
    ]
    if others and record:
        reporter.say(f"  measure   gencli eval run={place} split={others[0]}")
    reporter.say(f"  compare   gencli compare {place} ANOTHER_RUN")
    run = Run(folder.path, trust=cfg["trust"], device=cfg["device"])
    run._parts = parts
    return run


def _finish(
    cfg: dict[str, Any],
    parts: Parts,
    folder: RunFolder,
    reporter: Reporter,
    world: distributed.World,
    stop: StopRequest,
    trainer: Trainer,
) -> dict[str, Any] | None:
    """Open the test split, once, with the best checkpoint; draw samples."""
    distributed.share(None)  # the checkpoint is on disk before other ranks read it
    stop.at_once = "stopped during the final evaluation; training is complete and saved"
    if stop.signal:
        raise Interrupted(stop.at_once, stop.signal)
    load_weights(parts, folder.path, None, "best")
    record = None
    if parts.estimator is not None:
        split = next((s for s in ("test", "val", "train") if parts.dataset.split(s) is not None), "train")
        if split != "test":
            reporter.warn(f"data={parts.dataset.name} has no test split: the number below is of split={split}")
        record = measure(
            parts,
            split,
            cfg["estimator"],
            cfg["choices"]["estimator"],
            seed=0,  # as ``gencli eval`` takes it, so that the two agree to the bit
            batch_size=cfg["trainer"]["eval_batch_size"],
            examples=cfg["trainer"].get("eval_examples"),
            run=folder.path,
            world=world,
            reporter=reporter,
        )
        reporter.metrics(trainer.step, split, trainer.seconds, parts.weights, {"nll": record["value"]})
    if world.main and _draws(cfg, parts):
        drawn = draw(parts, cfg["n"], cfg["seed"])
        say_text(parts, drawn.x, reporter)
        for file in keep(parts, folder.path, cfg["choices"]["sampler"], cfg["seed"], drawn.x, drawn.y):
            reporter.say(f"  {relative(file)}")
        grid = grid_of(parts, drawn.x)
        if grid is not None:
            reporter.image("samples", grid, trainer.step)
    if record and record["n_nonfinite"]:
        raise RunFailed(f"{record['n_nonfinite']} of {record['n_examples']} test examples have no finite NLL")
    return record


@torch.no_grad()
def _draw_while_training(
    parts: Parts, model: Model, cfg: Mapping[str, Any], folder: RunFolder, reporter: Reporter, step: int
) -> None:
    """A grid of the same latents as training goes on."""
    if not folder.writes or not _draws(cfg, parts):
        return
    model.eval()
    own, parts.model = parts.model, model
    try:
        drawn = draw(parts, min(cfg["n"], 64), cfg["seed"])
        keep(parts, folder.path, f"step-{step:07d}", cfg["seed"], drawn.x, drawn.y)
        grid = grid_of(parts, drawn.x)
        if grid is not None:
            reporter.image("samples", grid, step)
    finally:
        parts.model = own
        own.train()


def _with_runs(node: Any, data: Mapping[str, Any]) -> Any:
    """A section in which runs are named by absolute paths, so that it can be read from anywhere.

    Raises:
        UsageError: such a run was trained in another model space, where its model means nothing.
    """
    if not isinstance(node, Mapping):
        return node
    found = {}
    for key, value in node.items():
        found[key] = _with_runs(value, data)
        if key in ("run", "teacher") and value is not None:
            folder = find_run(value).resolve()
            theirs = Run(folder).trained.get("data") or {}
            for name in sorted({*PREPROCESSING} - {"flip"}):
                if data.get(name) != theirs.get(name):
                    raise UsageError(
                        f"data.{name}={data.get(name)}: the run {value} has {theirs.get(name)}; they must agree"
                    )
            found[key] = str(folder)
    return found


def _draws(cfg: Mapping[str, Any], parts: Parts) -> bool:
    """Whether training draws samples: not where a context is needed that only a caller can give."""
    given = parts.model.conditional and not parts.dataset.spec.classes
    return parts.sampler is not None and cfg["n"] > 0 and not given


def _progress(trainer: Trainer) -> dict[str, Any]:
    return {"step": trainer.step, "seconds": round(trainer.seconds, 1)}


def _wall(folder: RunFolder, began: float) -> float:
    """Seconds of wall time over all sessions of this run."""
    return round((folder.info.get("wall_seconds") or 0.0) + time.perf_counter() - began, 1)
