"""The run folder as its own process writes it."""

from __future__ import annotations

import datetime
import errno
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from gencli import __version__
from gencli.config import stored
from gencli.config.sections import PLACE
from gencli.core import files, processes, seals
from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.core.files import append, inside, write_sealed, write_whole
from gencli.run import checkpoint as checkpoints

LOCK = ".lock"
"""The file that whoever trains a run holds locked; the system frees it when the process ends, however it ends."""

BEGINNING = (LOCK, "run.json", "data.json", "tensorboard")
"""What lies in a folder before config.yaml, which is written last: who was killed before that never began a run."""

ORPHANS = 10.0
"""Seconds for which processes that read data may hold the lock of a training that was killed."""

TURN = 0.1
"""Seconds between looks at who holds it."""

SECONDS_OF_A_WRITE = 3600.0
"""A temporary file that is older was left by a process that was killed."""


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
        self.identity: str | None = None
        self._lock: FileLock | None = None

    def hold(self, *, fresh: bool = False) -> None:
        """Take the folder for this process: two that train one run would mix their files. Reading takes no lock.

        Args:
            fresh: a run is to begin here.

        Raises:
            UsageError: another process trains this run, or has begun one here.
            RunFailed: the folder cannot be written.
        """
        if not self.writes:
            return
        lock = FileLock(inside(self.path, LOCK), thread_local=False)
        before = process = self._process()
        until = time.monotonic() + ORPHANS
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                process = self._process()
                if processes.alive(process) is not False or time.monotonic() > until:
                    raise self._busy(process) from None
                time.sleep(TURN)
            except (OSError, NotImplementedError) as error:
                why = getattr(error, "strerror", 0) or error
                raise RunFailed(f"{lock.lock_file} cannot be locked: {why}") from error
        if not fresh and before != (process := self._process()):  # another one went on with it while we waited
            lock.release()
            raise self._busy(process)
        self._lock = lock
        files.hold(self.path)
        if fresh and not _is_empty(self.path):
            raise _full(self.path)

    def _busy(self, process: Mapping[str, Any]) -> UsageError:
        who = "another process" if not process else f"process {process.get('pid')} on {process.get('host')}"
        return UsageError(f"{self.path} is being trained by {quoted(who)}: wait for its end, or stop it")

    def release(self) -> None:
        """Let others train this run."""
        if self._lock is not None:
            self._lock.release()
            files.let_go(self.path)

    def _process(self) -> dict[str, Any]:
        """Who trains this run, or did so last, as far as run.json tells."""
        try:
            return stored.info(self.path).get("process") or {}
        except UsageError:
            return {}

    @classmethod
    def fresh_path(cls, cfg: Mapping[str, Any], sweep_dir: Path | None) -> Path:
        """A new folder, made: ``run_dir``, the sweep's job folder, or outputs/<model>-<data>/<date>_<time>[-k].

        Raises:
            UsageError: ``run_dir`` exists and holds something, or the folder cannot be made.
        """
        try:
            return cls._fresh_path(cfg, sweep_dir)
        except OSError as error:
            raise UsageError(f"run_dir: the folder cannot be made ({error})") from error

    @staticmethod
    def _fresh_path(cfg: Mapping[str, Any], sweep_dir: Path | None) -> Path:
        if cfg["run_dir"]:
            path = Path(cfg["run_dir"])
            if path.exists() and not _is_empty(path):
                raise _full(path)
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

    @staticmethod
    def check(path: Path) -> None:
        """Refuse a folder in which a run could not go on, before anything of it is written.

        Raises:
            RunFailed: a link or something else stands where a file or folder of a run belongs, or a file that is
                there may not be read: what is only forbidden is not to be taken for damaged.
        """
        for name in ("checkpoints", "samples", "eval", "tensorboard"):
            if (found := inside(path, name)).exists() and not found.is_dir():
                raise RunFailed(f"{found} is no folder: remove it")
        names: list[tuple[str, ...]] = [
            ("config.yaml",),
            ("data.json",),
            ("run.json",),
            ("metrics.jsonl",),
            ("train.log",),
            (LOCK,),
        ]
        if (path / "checkpoints").is_dir():
            names += [("checkpoints", f"{name}.safetensors") for name in checkpoints.NAMES]
        for parts in names:
            if (found := inside(path, *parts)).exists() and not found.is_file():
                raise RunFailed(f"{found} is no file: remove it")
            if found.exists() and not os.access(found, os.R_OK):
                raise RunFailed(f"{found} cannot be read: {os.strerror(errno.EACCES)}")

    def begin(self, cfg: Mapping[str, Any], schema: Mapping[str, Any], **info: Any) -> None:
        """Write the first run.json, data.json where there is a schema, and config.yaml, with which the run begins."""
        self._clean()
        self.identity = _identity(cfg)
        self.info = {"status": "running", "started": _now(), **_facts(), **info}
        self.update()
        if schema and self.writes:
            write_sealed(inside(self.path, "data.json"), schema, run=self.identity)
        self._write_config(cfg)

    def _write_config(self, cfg: Mapping[str, Any]) -> None:
        if self.writes:
            write_whole(inside(self.path, "config.yaml"), seals.sealed_text(_yaml(cfg), self.identity))

    def reopen(self, cfg: Mapping[str, Any], **info: Any) -> str | None:
        """Go on in a folder that an earlier process began, with the config that goes on.

        Returns:
            What is wrong with its run.json, which is written anew then; None: nothing is.
        """
        damage = None
        try:
            self.info = stored.info(self.path)
        except UsageError as error:
            damage = str(error)
        self.info.pop("reason", None)
        self.identity = stored.identity(self.path)
        self._write_config(cfg)
        self._clean()
        self.update(status="running", resumed=_now(), **_facts(), **info)
        return damage

    def _clean(self) -> None:
        """Remove temporary files of writes that were killed; ``eval`` and ``sample`` may be writing beside us."""
        if self.writes:
            now, before = time.time(), f".{(self.info.get('process') or {}).get('pid')}."
            for left_over in self.path.rglob(".*.tmp"):
                ours = left_over.parent in (self.path, self.path / "checkpoints") or before in left_over.name
                old = ours or now - left_over.lstat().st_mtime > SECONDS_OF_A_WRITE
                if old and (left_over.is_file() or left_over.is_symlink()):
                    left_over.unlink()

    def update(self, **info: Any) -> None:
        """Change fields of run.json."""
        self.info |= info
        if self.writes:
            write_sealed(inside(self.path, "run.json"), self.info, run=self.identity)

    def metric(self, line: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if self.writes:
            append(inside(self.path, "metrics.jsonl"), json.dumps(line) + "\n")

    def forget_after(self, step: int, *, measured: bool = True, due: bool = False) -> int:
        """Drop metrics later than a step: a resumed run writes them anew. A line cut short by a kill goes too.

        Args:
            step: that the run goes on from.
            measured: whether a final measurement at this step stands. If not, its line goes as well: the run measures
                there again.
            due: the validation of that step is still to come: if it has a line, its end was not reached.

        Returns:
            The number of damaged lines, which go as well.
        """
        damaged: list[str] = []
        if self.writes and (self.path / "metrics.jsonl").exists():
            found = stored.metrics(self.path, damaged)
            anew = set() if measured else _final([line for line in found if line["step"] == step])
            if due:
                anew |= {id(line) for line in found if (line["step"], line.get("split")) == (step, "val")}
            kept = [line for line in found if line["step"] <= step and id(line) not in anew]
            write_whole(inside(self.path, "metrics.jsonl"), "".join(json.dumps(line) + "\n" for line in kept))
        return len(damaged)


class _Dumper(yaml.SafeDumper):
    """Plain data only: equal lists are written out, where YAML would name one and refer to it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(cfg: Mapping[str, Any]) -> str:
    return str(yaml.dump(dict(cfg), Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _identity(cfg: Mapping[str, Any]) -> str:
    """What tells a run from others: of its config, without where and with whom it computes."""
    return seals.sha256(_yaml({key: value for key, value in cfg.items() if key not in PLACE}).encode())[:12]


def _final(lines: Sequence[Mapping[str, Any]]) -> set[int]:
    """``id`` of those lines of one step that a final measurement wrote, of data without a test split beside others."""
    found: set[int] = set()
    seen: set[object] = {"test", "train"}  # of training, the usual line has a learning rate
    for line in lines:
        if line.get("split") in seen and "lr" not in line:
            found.add(id(line))
        seen.add(line.get("split"))
    return found


def _is_empty(path: Path) -> bool:
    """Whether a run may begin here: a folder with nothing in it, but what one left that was killed before it began."""
    if not path.is_dir():
        return False
    names = {found.name for found in path.iterdir()}
    return not names or (LOCK in names and all(name in BEGINNING or name.endswith(".tmp") for name in names))


def _full(path: Path) -> UsageError:
    what = "exists and is not empty" if path.is_dir() else "is a file"
    again = f", or go on with resume={path}" if (path / "config.yaml").exists() else ""
    return UsageError(f"run_dir={path} {what}: choose another{again}")


def _facts() -> dict[str, Any]:
    """What and who trains."""
    return {"process": processes.this(), "versions": versions(), "git_commit": git_commit()}


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    names = ("torch", "torchvision", "numpy", "hydra-core")
    found = {"python": platform.python_version(), "gencli": __version__}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "source"
    return found


def git_commit() -> str | None:
    """The commit of the source tree that runs, with + if it was changed; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
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
