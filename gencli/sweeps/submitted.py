"""Slurm, and its rehearsal on this machine, by submitit."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gencli.config.clusters import Local, Slurm
from gencli.core import processes
from gencli.sweeps.backend import Backend
from gencli.sweeps.node import NodeJob


class Submitted(Backend):
    """Slurm, or its rehearsal on this machine, by submitit.

    Its own files are pickles. They lie in a new folder within ``submitit/`` of the sweep, so that none is opened that
    was there before, whoever wrote it.
    """

    def __init__(self, cluster: Slurm | Local, folder: Path) -> None:
        import submitit

        self.slurm = isinstance(cluster, Slurm)
        self.forwards = not self.slurm
        self.all, self.folder = folder, folder / uuid.uuid4().hex
        self.found: dict[str, Mapping[str, Any]] = {}  # of another process of this sweep
        kind: Any = submitit.SlurmExecutor if isinstance(cluster, Slurm) else submitit.LocalExecutor
        self.executor = kind(folder=self.folder, max_num_timeout=cluster.max_num_timeout)
        given = {key: value for key, value in vars(cluster).items() if value not in (None, {}) and "max" not in key}
        if isinstance(cluster, Slurm):
            known = kind._equivalence_dict()
            given = {known.get(key, key): value for key, value in given.items()} | {"job_name": "gencli"}
            if "mem" in given:
                given["mem"] = f"{round(given['mem'] * 1024)}MB"
        self.executor.update_parameters(**given)

    def submit(self, job: NodeJob) -> Any:
        return self.executor.submit(job)

    def done(self, handle: Any) -> bool:
        if handle.paths.result_pickle.exists():
            return True
        if not self.slurm and handle.job_id in self.found:
            return not processes.alive(self.found[handle.job_id])
        return bool(handle.done())

    def result(self, handle: Any) -> dict[str, Any] | str:
        if not handle.paths.result_pickle.exists():
            return f"the cluster ended it ({handle.state.lower()}); log: {handle.paths.stderr}"
        error = handle.exception()
        if error is None:
            return dict(handle.result())
        lines = [line for line in str(error).splitlines() if line.strip("- ")]
        return next((line for line in reversed(lines) if "Error" in line), lines[0])

    def stop(self, handle: Any) -> None:
        if self.slurm:
            _quietly("scancel", "--state=PENDING", handle.job_id)
            _quietly("scancel", "--signal=INT", handle.job_id)
        else:
            _signal(int(handle.job_id), signal.SIGTERM)

    def kill(self, handle: Any) -> None:
        if self.slurm:
            _quietly("scancel", handle.job_id)
        else:
            _signal(int(handle.job_id), signal.SIGINT)

    def place(self, handle: Any) -> dict[str, Any]:
        return {
            "job": str(handle.job_id),
            "folder": self.folder.name,
            **({} if self.slurm else processes.numbered(int(handle.job_id))),
        }

    def find(self, place: Mapping[str, Any]) -> Any:
        job, folder = str(place.get("job")), str(place.get("folder"))
        if not job.isdigit() or not folder.isalnum():
            return None
        found = self.executor.job_class(self.all / folder, job)
        self.found[job] = place
        return None if self.done(found) else found


def _quietly(*words: str) -> None:
    """Run a command of the cluster, whose complaint of a job that has ended is of no use."""
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
