"""Slurm, and its rehearsal on this machine, by submitit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from gencli.config.clusters import Local, Slurm
from gencli.core import processes
from gencli.core.errors import UsageError
from gencli.sweeps.backend import Backend
from gencli.sweeps.folder import ORPHANS
from gencli.sweeps.node import NodeJob

LOOK = 15.0
"""Seconds between two questions to Slurm."""

LATE = 15.0
"""Seconds in which what an ended job has returned comes to be seen here, on a disk of the network."""

_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT", "FORGOTTEN"),
}


class Queue:
    """What Slurm says of our jobs, asked for all of them at a time.

    submitit asks sacct, which knows nothing where a cluster keeps no accounts, and asks more and more seldom: a job
    that was taken out of the queue would seem to wait there for ten minutes, or for ever.
    """

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.looked = float("-inf")

    def watch(self, job: str) -> None:
        """Have an eye on this job too; it is taken to wait until Slurm says something else."""
        self.states.setdefault(job, "PENDING")
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed."""
        self.looked = float("-inf")

    def state(self, job: str) -> str:
        """The word of Slurm for its state; FORGOTTEN: it ended so long ago that Slurm knows nothing of it."""
        if time.monotonic() - self.looked > LOOK:
            words = ["squeue", "--noheader", "--all", "--states=all", f"--user={os.getuid()}", "--format=%i %T"]
            told = subprocess.run(words, check=False, capture_output=True, text=True)
            if told.returncode == 0:  # else nobody answers now, which says nothing of the jobs
                found = dict(fields for line in told.stdout.splitlines() if len(fields := line.split()) == 2)
                self.states = {known: found.get(known, "FORGOTTEN") for known in self.states}
            self.looked = time.monotonic()
        return self.states[job]


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
        self.queue = Queue()
        self.ended: dict[str, float] = {}  # when an end was first heard of that has no result yet
        self.found: dict[str, Mapping[str, Any]] = {}  # of another process of this sweep
        kind: Any = submitit.SlurmExecutor if isinstance(cluster, Slurm) else submitit.LocalExecutor
        self.executor = kind(folder=self.folder, max_num_timeout=cluster.max_num_timeout)
        given = {key: value for key, value in vars(cluster).items() if value not in (None, {}) and "max" not in key}
        if isinstance(cluster, Slurm):
            known = kind._equivalence_dict()
            given = {known.get(key, key): value for key, value in given.items()} | {"job_name": "gencli"}
            if "mem" in given:
                given["mem"] = f"{round(given['mem'] * 1024)}MB"
            more = cluster.additional_parameters
            if not {"no-requeue", "no_requeue"} & set(more):  # where a cluster has it off (JobRequeue=0)
                given["additional_parameters"] = {"requeue": True} | more
        self.executor.update_parameters(**given)

    def submit(self, job: NodeJob) -> Any:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with redirect_stderr(StringIO()):  # on which submitit repeats what sbatch said
                handle = self.executor.submit(job)
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines()]
            if not self.queue.states:  # the first one: nothing was begun, and nothing is left behind
                shutil.rmtree(self.folder, ignore_errors=True)
                with suppress(OSError):  # of an earlier process of this sweep
                    self.all.rmdir()
            raise UsageError(f"sbatch refuses it: {'; '.join(line for line in said if line)}") from None
        if self.slurm:
            self.queue.watch(handle.job_id)
        return handle

    def done(self, handle: Any) -> bool:
        if handle.paths.result_pickle.exists():
            return True
        if not self.slurm:
            if handle.job_id in self.found:
                return not processes.alive(self.found[handle.job_id])
            return bool(handle.done())
        state = self.queue.state(handle.job_id)
        if state not in _ENDED:
            self.ended.pop(handle.job_id, None)
            return False
        with suppress(OSError):  # has NFS look at the folder again
            self.folder.chmod(self.folder.stat().st_mode)
        since = self.ended.setdefault(handle.job_id, time.monotonic())
        return state == "CANCELLED" or time.monotonic() - since > LATE

    def result(self, handle: Any) -> dict[str, Any] | str:
        if not handle.paths.result_pickle.exists():
            state = self.queue.state(handle.job_id) if self.slurm else handle.state
            log = f"; log: {handle.paths.stderr}" if handle.paths.stderr.exists() else ""
            return f"the cluster ended it ({state.lower()}){log}"
        error = handle.exception()
        if error is None:
            return dict(handle.result())
        lines = [line for line in str(error).splitlines() if line.strip("- ")]
        return next((line for line in reversed(lines) if "Error" in line), lines[0])

    def stop(self, handle: Any) -> None:
        if self.slurm:
            _quietly("scancel", "--state=PENDING", handle.job_id)
            _quietly("scancel", "--signal=INT", handle.job_id)
            self.queue.look_soon()
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
        if not self.slurm:
            return None if self.done(found) else found
        self.queue.watch(job)
        end = time.monotonic() + ORPHANS
        while (state := self.queue.state(job)) == "COMPLETING" and time.monotonic() < end:  # it saves, and ends
            time.sleep(1)
            self.queue.look_soon()
        return None if state in _ENDED or found.paths.result_pickle.exists() else found


def _quietly(*words: str) -> None:
    """Run a command of the cluster, whose complaint of a job that has ended is of no use."""
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
