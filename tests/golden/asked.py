"""What is asked of the golden runs (``cases``): what they say when they are opened, go on, and are trained anew.

Only the public surface of gencli is used here (``load``, ``train``, the command line), so that this file stays as it is
when modules of the package move.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from golden.cases import CASES, EXAMPLES, HERE, SAMPLES, overrides, path
from golden.words import MORE
from safetensors.torch import load_file

import gencli
from gencli.cli import main as cli
from gencli.config import renamed as names

# --- what a run says -------------------------------------------------------------------------------------------------


def opened(name: str, x: Any = None, device: str = "cpu") -> dict[str, Any]:
    """What a golden run says by its own estimator and sampler.

    Args:
        name: of the run.
        x: samples whose log p is asked for; None: its own.
        device: where it is computed.
    """
    case = CASES[name]
    run = gencli.load(path(name), device=device)
    says: dict[str, Any] = {"status": run.info["status"], "result": run.info["result"], "metrics": _lines(run)}
    if run.config.get("estimator"):
        with silent():
            record = run.nll(case.split, examples=EXAMPLES)
        says["nll"] = _record(record, run.path)
    y = torch.linspace(-1, 1, SAMPLES * case.context).reshape(SAMPLES, case.context) if case.context else None
    samples = run.sample(SAMPLES, y=y).cpu()
    says["samples"] = _tensor(samples)
    if run.config["choices"].get("estimator") == "exact":
        x = samples if x is None else torch.tensor(x, dtype=samples.dtype)
        if y is None and run.config["model"]["conditional"]:
            y = torch.arange(len(x))
        says["log_prob"] = run.log_prob(x, y).tolist()
    return says


def others(name: str, device: str = "cpu") -> dict[str, Any]:
    """What a golden run says by each other estimator and sampler, computed on a device."""
    case, says = CASES[name], {}
    for text in case.estimators:
        shutil.rmtree(Path(path(name)) / "eval", ignore_errors=True)
        where = [f"run={path(name)}", f"device={device}", f"split={case.split}", f"examples={EXAMPLES}"]
        command(["eval", *where, *text.split()])
        (file,) = (Path(path(name)) / "eval").glob("*.json")
        says[text] = _record(json.loads(file.read_text(encoding="utf-8")), Path(path(name)))
    for text in case.samplers:
        shown = yaml.safe_load(command(["sample", f"run={path(name)}", *text.split(), "--cfg", "job"]))
        run = gencli.load(path(name), device=device, overrides={"sampler": shown["sampler"]})
        says[text] = _tensor(run.sample(SAMPLES))
    return says


def trained(name: str, tensors: bool = False) -> dict[str, Any]:
    """What training from scratch gives, and where the golden run goes from its checkpoint; both change the folder.

    Without an estimator: what it says of weights, ``opened`` asks, and here it would cost most of the time.

    Args:
        name: of the run.
        tensors: whether each tensor is told, or only sums of groups.
    """
    stored = state(Path(path(name)), tensors)
    own = [word for word in overrides(name) if not word.startswith(("estimator", "~estimator"))]
    with silent():
        fresh = gencli.train([*own, "~estimator", "run_dir=fresh"])
        resumed = gencli.train([f"resume={path(name)}", f"trainer.max_steps={MORE}", "~estimator"])
    return {
        "stored": stored,
        "fresh": {"state": state(fresh.path, tensors), "metrics": _lines(fresh)},
        "resumed": {"state": state(resumed.path, tensors), "metrics": _lines(resumed)},
    }


def state(run: Path, tensors: bool) -> dict[str, Any]:
    """The last checkpoint, by group (model, ema, objective, preprocess, optimizer.TURN): count, sum, norm, hash."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in sorted(load_file(run / "checkpoints" / "last.safetensors").items()):
        groups.setdefault(name.split("/")[0], {})[name] = tensor
    found: dict[str, Any] = {}
    for group, members in groups.items():
        flat = torch.cat([t.double().flatten() for t in members.values()])
        found[group] = {
            "count": flat.numel(),
            "sum": float(flat.sum()),
            "norm": float(flat.norm()),
            "sha256": _hash(*members.values()),
        }
        if tensors:
            found[group]["tensors"] = {name: _hash(t) for name, t in members.items()}
    return found


def everything(name: str) -> dict[str, Any]:
    """All of the above, to the bit."""
    return {"opened": opened(name), "others": others(name), "trained": trained(name, tensors=True)}


_CLOCK = ("seconds", "steps_per_second", "examples_per_second", "checkpoint_sha256")


def _lines(run: Any) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says."""
    return [{key: value for key, value in line.items() if key not in _CLOCK} for line in run.metrics]


def _record(record: dict[str, Any], run: Path) -> dict[str, Any]:
    """A record with nats by example, without what the clock says and the file's own hash."""
    files = (run / "eval").glob(f"{record['split']}-{record['estimator']}*.npz")  # the name tells how few examples
    with np.load(max(files, key=lambda file: file.stat().st_mtime_ns)) as arrays:
        nats = arrays["nll"].tolist()
    return {key: value for key, value in record.items() if key not in (*_CLOCK, "seal")} | {"nats": nats}


def _tensor(x: torch.Tensor) -> dict[str, Any]:
    return {"dtype": str(x.dtype), "values": x.tolist(), "sha256": _hash(x)}


def _hash(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(
            f"{t.dtype}{list(t.shape)}".encode() + t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:32]


# --- the command line ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent() -> Iterator[io.StringIO]:
    """What is said goes into a text."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        yield said


def command(words: list[str]) -> str:
    """Run ``gencli WORDS``; what it prints.

    Raises:
        RuntimeError: its exit code is not 0.
    """
    with silent() as said, contextlib.redirect_stderr(said):
        code = cli.main(words)
    if code:
        raise RuntimeError(f"gencli {' '.join(words)}: exit code {code}: {said.getvalue()[-2000:]}")
    return said.getvalue()


# --- class paths -----------------------------------------------------------------------------------------------------


def class_paths() -> list[str]:
    """Every dotted name that a run's config.yaml may hold as ``_target_`` and that has to lead to a class."""
    lines = (HERE / "class_paths.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def resolve(path: str) -> type:
    """The class behind a path that once stood in a config.

    Raises:
        TypeError: there is something else.
    """
    module, _, name = names.current(path).rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not inspect.isclass(found):
        raise TypeError(f"{path} is no class")
    return found


def renamed(text: str, pairs: dict[str, str]) -> str:
    """A text in which dotted names, whole ones or their beginnings, have their new names; longest first."""
    if not pairs:
        return text
    names = "|".join(re.escape(name) for name in sorted(pairs, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])({names})(?!\w)", lambda match: pairs[match[1]], text)
