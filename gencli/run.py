"""A run folder: how it is written, and how it is opened again."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gencli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from gencli.interfaces import Model
    from gencli.parts import Parts


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs, whole."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


class RunFolder:
    """The files of one run, as its own process writes them; other ranks hold one that writes nothing.

    Args:
        path: the folder.
        writes: whether this process is the one that writes.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.info: dict[str, Any] = {}

    @classmethod
    def fresh_path(cls, cfg: Mapping[str, Any], sweep_dir: Path | None) -> Path:
        """A new folder, made: ``run_dir``, the sweep's job folder, or outputs/<model>-<data>/<date>_<time>[-k].

        Raises:
            UsageError: ``run_dir`` exists and holds something.
        """
        if cfg["run_dir"]:
            path = Path(cfg["run_dir"])
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UsageError(f"run_dir={path} exists and is not empty: choose another, or go on with resume={path}")
            path.mkdir(parents=True, exist_ok=True)
            return path
        if sweep_dir is not None:
            sweep_dir.mkdir(parents=True)
            return sweep_dir
        names = cfg["choices"]
        stem = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        parent = Path("outputs") / f"{names['model']}-{names['data']}"
        parent.mkdir(parents=True, exist_ok=True)
        k = 0
        while True:  # two runs in one second, or in two processes: the folder belongs to whoever makes it
            path = parent / (f"{stem}-{k}" if k else stem)
            try:
                path.mkdir()
            except FileExistsError:
                k += 1
            else:
                return path

    def begin(self, cfg: Mapping[str, Any], **info: Any) -> None:
        """Write config.yaml and the first run.json."""
        self._write_config(cfg)
        self.info = {"status": "running", "started": _now(), "versions": versions(), "git_commit": git_commit(), **info}
        self.update()

    def _write_config(self, cfg: Mapping[str, Any]) -> None:
        if self.writes:
            write_whole(self.path / "config.yaml", yaml.safe_dump(dict(cfg), sort_keys=False, allow_unicode=True))

    def reopen(self, cfg: Mapping[str, Any], **info: Any) -> None:
        """Go on in a folder that an earlier process began, with the config that goes on."""
        self._write_config(cfg)
        self.info = json.loads((self.path / "run.json").read_text())
        self.info.pop("reason", None)
        self.update(status="running", resumed=_now(), **info)

    def update(self, **info: Any) -> None:
        """Change fields of run.json."""
        self.info |= info
        if self.writes:
            write_json(self.path / "run.json", self.info)

    def metric(self, line: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if self.writes:
            with (self.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop metrics later than a step: a resumed run writes them anew. A line cut short by a kill goes too."""
        file = self.path / "metrics.jsonl"
        if not self.writes or not file.exists():
            return
        kept = []
        for line in file.read_text().splitlines():
            try:
                keep = json.loads(line)["step"] <= step
            except ValueError:
                keep = False
            if keep:
                kept.append(line)
        write_whole(file, "".join(line + "\n" for line in kept))


class Run:
    """A finished or unfinished run, opened for reading, sampling and scoring.

    Opening runs no code of the folder: the config is plain data, classes come from gencli or from trusted packages,
    weights are safetensors.

    Args:
        path: the run folder.
        trust: packages whose classes its config may name.
        device: ``auto``, ``cpu``, ``cuda`` ...
        weights: ``ema`` or ``raw``; None: the EMA where the run kept one.
        checkpoint: ``best``, ``last``, ``previous`` or a path.
        overrides: replacements within the config, by group.

    Raises:
        UsageError: the folder holds no run, or its config no plain data.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        trust: Sequence[str] = (),
        device: str = "auto",
        weights: str | None = None,
        checkpoint: str = "best",
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.trust = list(trust)
        self.device = device
        self.wanted = (weights, checkpoint)
        try:
            config = yaml.safe_load((self.path / "config.yaml").read_text())
        except FileNotFoundError as error:
            raise UsageError(f"{self.path} is not a run folder: it has no config.yaml") from error
        except yaml.YAMLError as error:
            raise UsageError(f"{self.path}/config.yaml is not plain YAML: {str(error).splitlines()[0]}") from error
        if not isinstance(config, dict):
            raise UsageError(f"{self.path}/config.yaml holds no config")
        self.trained: dict[str, Any] = config
        self.config: dict[str, Any] = config | dict(overrides or {}) | {"trust": self.trust}
        self._parts: Parts | None = None

    @property
    def info(self) -> dict[str, Any]:
        """run.json."""
        return json.loads((self.path / "run.json").read_text())

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """metrics.jsonl, a dict a line."""
        file = self.path / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def results(self) -> list[dict[str, Any]]:
        """The result records under eval/."""
        return [json.loads(file.read_text()) for file in sorted((self.path / "eval").glob("*.json"))]

    @property
    def parts(self) -> Parts:
        """Data, preprocessing, model and its partners, with the checkpoint's weights."""
        if self._parts is None:
            from gencli.parts import restore

            self._parts = restore(self.config, self.path, self.device, *self.wanted)
        return self._parts

    @property
    def model(self) -> Model:
        """The model, in evaluation mode."""
        return self.parts.model

    def sample(self, n: int, seed: int = 0, y: Tensor | None = None) -> Tensor:
        """N samples in data units, (n, *); y: labels or contexts of a conditional model (classes in turn if None)."""
        from gencli.commands.sample import draw

        return draw(self.parts, n, seed, y)[0].cpu()

    def log_prob(self, x: Tensor, y: Tensor | None = None, seed: int = 0) -> Tensor:
        """Log p(x) in data space, (B,) nats; of integer data under a model of reals, a lower bound.

        Raises:
            UsageError: this model has no normalised density.
        """
        import torch

        from gencli.interfaces import ExactLikelihood
        from gencli.noise import RowNoise

        parts = self.parts
        if not isinstance(parts.model, ExactLikelihood):
            raise UsageError(
                f"model={self.config['choices']['model']} has no exact likelihood: see `gencli list model`"
            )
        x = x.to(parts.device)
        noise = RowNoise(seed, torch.arange(len(x), device=parts.device))
        with torch.no_grad():
            z, terms = parts.preprocess(x, noise)
            y = None if y is None else y.to(parts.device)
            total = parts.model.log_prob(z, y).double() - sum(t.double() for t in terms.values())
        return total.cpu()

    def nll(self, split: str = "test", **options: Any) -> dict[str, Any]:
        """A result record, as ``gencli eval run=... split=...`` gives it; options: estimator, batch_size, seed."""
        from gencli.commands.eval import measure

        return measure(self, split, **options)


def load(path: str | Path = "latest", **options: Any) -> Run:
    """Open a run folder, a checkpoint in it, or the ``latest`` run; options as for ``Run``."""
    from gencli.locate import checkpoint_in, find_run

    named = checkpoint_in(str(path))
    return Run(find_run(str(path)), **({"checkpoint": named} if named else {}) | options)


def open_run(cfg: Mapping[str, Any], partner: str) -> Run:
    """The run of an eval or sample command, with the command's own estimator or sampler.

    Raises:
        UsageError: the command changes the model, or the data beyond where its files lie.
    """
    from gencli.locate import find_run

    run = Run(
        find_run(cfg["run"]),
        trust=cfg["trust"],
        device=cfg["device"],
        weights=cfg["weights"],
        checkpoint=cfg["checkpoint"],
        overrides={key: cfg[key] for key in ("data", partner) if key in cfg},
    )
    for group in ("model", "data"):
        own, asked = run.trained[group], cfg[group]
        changed = [key for key in asked if key not in ("root", "path") and asked[key] != own.get(key)]
        if changed:
            raise UsageError(f"{group}.{changed[0]}={asked[changed[0]]}: a run keeps the {group} it was trained with")
    return run


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    names = ("gencli", "torch", "torchvision", "numpy", "hydra-core")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "source"
    return found


def git_commit() -> str | None:
    """The commit of the source tree that runs, with + if it was changed; None for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "-C", root, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
