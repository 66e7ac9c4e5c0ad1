"""The jobs of a sweep on a cluster, started, watched and stopped as those of ``Pool`` are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gencli.config.clusters import GROUP, Cluster, Ray, Slurm
from gencli.core.errors import UsageError
from gencli.sweeps.backend import Backend
from gencli.sweeps.causes import cause
from gencli.sweeps.child import Request
from gencli.sweeps.folder import state_of
from gencli.sweeps.node import NodeJob
from gencli.sweeps.on_ray import OnRay
from gencli.sweeps.pool import Outcome
from gencli.sweeps.submitted import Submitted


class Remote:
    """Jobs of a sweep on a cluster; see ``Pool``.

    Args:
        backend: the cluster.
        most: jobs that are handed over at a time.
        config_dirs: the user's own directories of options.
        minutes: that a job may take.
        memory: GiB that a job may take.
    """

    def __init__(
        self,
        backend: Backend,
        most: int,
        config_dirs: tuple[str, ...],
        *,
        minutes: float | None = None,
        memory: float | None = None,
    ) -> None:
        self.backend, self.most, self.config_dirs = backend, most, config_dirs
        self.minutes, self.memory = minutes, memory
        self.running: dict[Any, tuple[Any, float]] = {}
        self.asked: set[Any] = set()
        self.adopted: set[Any] = set()

    @property
    def free(self) -> bool:
        """Whether another job can be handed over."""
        return len(self.running) < self.most

    def start(self, job: Any, request: Request) -> None:
        """Hand a job over, by whatever it is known to the caller."""
        paths = {"folder": os.path.abspath(request.folder), "log": os.path.abspath(request.log)}
        sent = Request(**{**vars(request), **paths, "memory": self.memory})
        node = NodeJob(sent, self.config_dirs, os.getcwd(), self.minutes, self.backend.forwards)
        self.running[job] = self.backend.submit(node), time.monotonic()

    def place(self, job: Any) -> dict[str, Any]:
        """By what a job is found again after an end of the sweep."""
        return self.backend.place(self.running[job][0])

    def adopt(self, job: Any, place: Mapping[str, Any]) -> bool:
        """Take on a job that another process of this sweep had handed over, if it has not ended."""
        handle = self.backend.find(place) if place else None
        if handle is not None:
            self.running[job] = handle, time.monotonic()
            self.adopted.add(job)
        return handle is not None

    def wait(self, seconds: float) -> dict[Any, Outcome]:
        """Wait so long; the jobs that have ended since."""
        time.sleep(seconds)
        ended = {}
        for job, (handle, began) in [*self.running.items()]:
            if self.backend.done(handle):
                del self.running[job]
                spent = time.monotonic() - began
                found = _by_run(job.run, spent) if job in self.adopted else self.backend.result(handle)
                if isinstance(found, dict):
                    ended[job] = Outcome(**found)
                elif job in self.asked:  # before it began
                    ended[job] = Outcome(128 + signal.SIGINT, "stopped", spent, True)
                else:
                    ended[job] = Outcome(1, cause(1, found), spent)
        return ended

    def ask_to_stop(self, job: Any) -> None:
        """Let one job save and end."""
        handle, _ = self.running[job]
        if job not in self.asked:
            self.asked.add(job)
            self.backend.stop(handle)

    def stop(self, number: int) -> None:
        """Let every job save and end."""
        for job in self.running:
            self.ask_to_stop(job)

    def kill(self) -> None:
        """End all jobs at once."""
        for handle, _ in self.running.values():
            self.backend.kill(handle)
        self.running.clear()


def _by_run(run: Path, seconds: float) -> dict[str, Any] | str:
    """How a job ended that another process had handed over, by its run: what it returned to that one is a pickle."""
    if state_of(run) == "finished":
        return {"exit_code": 0, "cause": "", "seconds": seconds}
    return "it ended before it was done; its log says why"


def require(cluster: Cluster) -> None:
    """Refuse a launcher that cannot work here.

    Raises:
        UsageError: a package or a command is missing.
    """
    if importlib.util.find_spec(cluster.package) is None:
        wanted = f"pip install 'gencli-nll[{cluster.package}]'"
        raise UsageError(f"{GROUP}={cluster.name}: the package {cluster.package} is not installed: {wanted}")
    if isinstance(cluster, Slurm) and not shutil.which("srun"):
        raise UsageError(f"{GROUP}={cluster.name}: there is no srun here; {GROUP}=submitit_local runs jobs here")


def backend(cluster: Cluster, folder: Path) -> Backend:
    """The backend of a launcher.

    Args:
        cluster: the launcher's keys.
        folder: of the sweep, on a disk that all nodes see.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # processes of a cluster take no modules from the current folder
    return OnRay(cluster) if isinstance(cluster, Ray) else Submitted(cluster, (folder / "submitit").absolute())
