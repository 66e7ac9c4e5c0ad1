"""The folder of a sweep: sweep.json, a run folder and a log for each job, and one process that runs it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from gencli.config import stored
from gencli.config.plain import mapping
from gencli.core import processes
from gencli.core.errors import RunFailed, UsageError, quoted
from gencli.core.files import inside, named, write_json

OUTPUTS = Path("outputs/sweeps")
RECORD = "sweep.json"
LOCK = ".lock"

ORPHANS = 60.0
"""Seconds for which the jobs of a sweep that was killed may save what they have."""

_RECORD: dict[str, tuple[type, ...]] = {"sweep": (str,), "process": (dict,), "jobs": (dict,)}

State = Literal["new", "unfinished", "finished"]
Undone = Callable[["SweepFolder"], str]


def state_of(run: Path) -> State:
    """What is there of a job: nothing to go on with, a run that can go on, or all of it."""
    if not any((run / "checkpoints" / f"{name}.safetensors").is_file() for name in ("last", "previous")):
        return "new"
    try:
        return "finished" if stored.info(run).get("status") == "finished" else "unfinished"
    except UsageError:  # a damaged run.json is written anew by who goes on
        return "unfinished"


class SweepFolder:
    """A sweep on disk.

    Args:
        path: the folder.
        made: whether this process made it.
    """

    def __init__(self, path: Path, *, made: bool) -> None:
        self.path, self.made = path, made
        self._lock: FileLock | None = None
        self._record: dict[str, Any] = {"jobs": {}}

    # --- which one -----------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, given: str | None, sweep: str, undone: Undone) -> tuple[SweepFolder, str]:
        """The folder of a sweep, and what there is to say of an earlier one.

        Args:
            given: the user's choice; None: that of an unfinished sweep of the same jobs, or a new one.
            sweep: the id of the sweep.
            undone: what is said of a folder of this sweep that can be gone on with; empty: all is done there.

        Raises:
            UsageError: the choice can be no folder.
            RunFailed: a folder cannot be made.
        """
        if given is not None:
            path = named(given, "sweep.dir=")
            if path.exists() and not path.is_dir():
                raise UsageError(f"sweep.dir={quoted(given)}: this is no folder")
            return cls(path, made=not path.exists()), ""
        for path in sorted(OUTPUTS.glob(f"*/{RECORD}"), reverse=True):
            if _read(path).get("sweep") != sweep:
                continue
            found = cls(path.parent, made=False)
            if left := undone(found):
                return found, f"going on with {path.parent}: {left}"
            return _new(), f"{path.parent} is a finished sweep of these jobs (sweep.dir=... shows it); beginning anew"
        return _new(), ""

    def states(self) -> list[str]:
        """The states of the jobs, as sweep.json has them."""
        return [str(job.get("state")) for job in _read(self.path / RECORD).get("jobs", {}).values()]

    def run(self, job: str, name: str) -> Path:
        """The run folder of a job: the one that has its id, whatever else its name says."""
        return next((path for path in self.path.glob(f"*-{job}") if path.is_dir()), self.path / f"{name}-{job}")

    # --- one process ---------------------------------------------------------------------------------------------

    def hold(self, sweep: str, tell: Any) -> None:
        """Take the sweep for this process and for the jobs that it forks, which keep the lock until they have ended.

        Args:
            sweep: its id.
            tell: says a line.

        Raises:
            UsageError: another process runs this sweep.
            RunFailed: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(inside(self.path, LOCK), thread_local=False)
            self._record = {"jobs": {}} | _read(self.path / RECORD)
            process = self._record.get("process") or {}
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if processes.alive(process) is not False:
                    raise
                tell("jobs of the sweep that ended are still saving: waiting for them")
                lock.acquire(timeout=ORPHANS)
        except Timeout:
            who = f"process {process.get('pid')} on {process.get('host')}" if process else "another process"
            raise UsageError(
                f"{self.path} is a sweep that {quoted(who)} runs: wait for its end, or sweep.dir=ANOTHER"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise RunFailed(f"{self.path} cannot be written: {getattr(error, 'strerror', 0) or error}") from error
        self._lock = lock
        self._record |= {"sweep": sweep, "process": processes.this()}

    def release(self) -> None:
        """Let others run this sweep; leave nothing behind of one that made no run."""
        if self._lock is not None:
            self._lock.release()
            if not (self.path / RECORD).exists():  # refused before it began
                (self.path / LOCK).unlink(missing_ok=True)
        if self.made and self.path.is_dir() and {found.name for found in self.path.iterdir()} <= {LOCK, RECORD}:
            shutil.rmtree(self.path)
            for parent in (OUTPUTS, OUTPUTS.parent) if self.path.parent == OUTPUTS else ():
                if not any(parent.iterdir()):
                    parent.rmdir()

    def place(self, job: str) -> dict[str, Any]:
        """Where a cluster runs a job, as an earlier process of this sweep wrote it down."""
        noted = self._record["jobs"].get(job)
        place = noted.get("place") if isinstance(noted, dict) else None
        return place if isinstance(place, dict) else {}

    # --- what is written -----------------------------------------------------------------------------------------

    def note(self, words: Sequence[str], jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """Write sweep.json: the command, and each job by its id."""
        self._record["jobs"] = {**self._record["jobs"], **jobs}
        started = self._record.setdefault("started", time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        write_json(
            inside(self.path, RECORD),
            {"command": ["gencli", "train", *words], "started": started, **self._record},
        )


def clear(run: Path) -> None:
    """Remove what a job left that has no checkpoint: it cannot go on, and nothing is lost."""
    if run.is_symlink():
        raise RunFailed(f"{run} is a symbolic link: nothing is written through it; remove it")
    if run.exists():
        shutil.rmtree(run)


def _new() -> SweepFolder:
    """A folder named by the second, with a counter where two sweeps start in the same one."""
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for k in range(1, 1000):
        path = OUTPUTS / (name if k == 1 else f"{name}-{k}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunFailed(f"cannot write a sweep folder: {error}") from error
        return SweepFolder(path, made=True)
    raise RunFailed(f"too many sweeps named {OUTPUTS / name}")


def _read(file: Path) -> dict[str, Any]:
    """A sweep.json; nothing where there is none, or where it is damaged: what is done stands in the run folders."""
    try:
        return mapping(file, _RECORD, stored.LONG) if file.is_file() else {}
    except UsageError:
        return {}
