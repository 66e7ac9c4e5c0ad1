"""Processes of jobs: started, watched, stopped."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from gencli.sweeps.causes import cause
from gencli.sweeps.child import Report, Request, Work
from gencli.sweeps.child import run as run_child

GRACE = 30.0
"""Seconds between the request to stop and the end by force of a job that took too long."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        exit_code: of its process; of one that a signal ended, 128 and the signal's number.
        cause: what went wrong; empty if nothing did.
        seconds: wall-clock time.
        interrupted: whether someone asked it to stop, and it saved what it has.
    """

    exit_code: int
    cause: str
    seconds: float
    interrupted: bool = False


@dataclass
class Process:
    """A job that runs.

    Args:
        pid: of the process, which leads a group of its own.
        answer: descriptor on which it says how it ended; its end of file is the end of the process.
        slot: of the pool.
        began: monotonic time.
    """

    pid: int
    answer: int
    slot: int
    began: float
    text: bytes = b""
    late: float | None = None
    stopped: bool = False

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """End what it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End it with all that it started; it has not been waited for."""
        self.kill_group()
        self.signal(signal.SIGKILL)  # the group is not there before the process has made it


class Pool:
    """A fixed number of slots, each of which runs one job at a time.

    Args:
        slots: variables of the environment of each, which give it its device.
        work: trains a config; None where nothing is forked.
        report: tells a failure; returns the exit code.
        minutes: that a job may take.
        memory: GiB that a job may take.
        forks: whether jobs are forks of this process, which then has all modules loaded and no threads; else each
            begins with a Python of its own.
    """

    def __init__(
        self,
        slots: Sequence[dict[str, str]],
        work: Work | None,
        report: Report | None,
        *,
        minutes: float | None = None,
        memory: float | None = None,
        forks: bool = True,
    ) -> None:
        self.slots, self.work, self.report = slots, work, report
        self.minutes, self.memory, self.forks = minutes, memory, forks
        self.running: dict[Any, Process] = {}

    @property
    def free(self) -> bool:
        """Whether another job can start."""
        return len(self.running) < len(self.slots)

    def start(self, job: Any, request: Request) -> None:
        """Start a job, by whatever it is known to the caller; there has to be a free slot."""
        slot = min({*range(len(self.slots))} - {process.slot for process in self.running.values()})
        request = replace(request, env=self.slots[slot], memory=self.memory)
        ours, theirs = os.pipe()
        try:
            pid = self._fork(request, ours, theirs) if self.forks else self._spawn(request, theirs)
        finally:
            os.close(theirs)
        with suppress(OSError):  # the child does so too, and may be further
            os.setpgid(pid, pid)
        self.running[job] = Process(pid, ours, slot, time.monotonic())

    def _fork(self, request: Request, ours: int, theirs: int) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # no handler of the sweep is to run in the child
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads of BLAS, which minds forks
                pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.close(ours)
                    for other in self.running.values():
                        os.close(other.answer)
                    assert self.work is not None
                    assert self.report is not None
                    code = run_child(request, self.work, self.report, theirs)
                finally:
                    os._exit(code)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return pid

    def _spawn(self, request: Request, theirs: int) -> int:
        read, write = os.pipe()
        os.set_inheritable(theirs, True)
        words = [sys.executable, "-m", "gencli.cli.job", str(theirs)]
        own = os.environ | {"OMP_NUM_THREADS": str(request.threads), "PYTHONSAFEPATH": "1"} | request.env
        # Slurm sends SIGUSR2 to all processes of a job: it is meant for the one that has it saved and queued again
        mask = [signal.SIGUSR2]
        actions = [(os.POSIX_SPAWN_DUP2, read, 0)]
        try:
            pid = os.posix_spawn(words[0], words, own, file_actions=actions, setpgroup=0, setsigmask=mask)
        finally:
            os.close(read)
        with open(write, "wb") as stream, suppress(BrokenPipeError):
            stream.write(json.dumps(asdict(request)).encode())
        return pid

    def place(self, job: Any) -> dict[str, Any]:
        """By what a job is found again after an end of the sweep: its process ends with that."""
        return {}

    def adopt(self, job: Any, place: Mapping[str, Any]) -> bool:
        """Take on a job that another process of this sweep had started and that runs still; there are none."""
        return False

    # --- watching ------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> dict[Any, Outcome]:
        """Wait for an end, but not longer than that; the jobs that have ended since."""
        self._enforce()
        descriptors = [process.answer for process in self.running.values()]
        ready = select.select(descriptors, [], [], seconds)[0] if descriptors else []
        ended = {}
        for job, process in [*self.running.items()]:
            if process.answer in ready:
                more = os.read(process.answer, 65536)
                process.text += more
            else:
                more = b"-"
            done, status = os.waitpid(process.pid, 0 if not more else os.WNOHANG)
            if done:
                ended[job] = self._end(job, process, status)
        return ended

    def _enforce(self) -> None:
        """Ask jobs that take too long to stop, then end them by force."""
        if self.minutes is None:
            return
        for process in self.running.values():
            over = time.monotonic() - process.began - 60 * self.minutes
            if over > 0 and process.late is None:
                process.late = time.monotonic()
                process.signal(signal.SIGTERM)
            elif process.late is not None and time.monotonic() - process.late > GRACE:
                process.kill()

    def _end(self, job: Any, process: Process, status: int) -> Outcome:
        while more := os.read(process.answer, 65536) if select.select([process.answer], [], [], 0)[0] else b"":
            process.text += more
        os.close(process.answer)
        process.kill_group()  # what it started and left behind
        del self.running[job]
        code = os.waitstatus_to_exitcode(status)
        said = json.loads(process.text)["message"] if process.text else ""
        minutes = self.minutes if process.late is not None else None
        asked = minutes is None and (code > 128 or (process.stopped and -code in _SIGNALS))  # before it heard signals
        why = cause(code, said, minutes=minutes, memory=self.memory)
        return Outcome(code if code >= 0 else 128 - code, why, time.monotonic() - process.began, asked)

    # --- stopping ------------------------------------------------------------------------------------------------

    def ask_to_stop(self, job: Any) -> None:
        """Let one job save and end."""
        process = self.running[job]
        if not process.stopped:
            process.stopped = True
            process.signal(signal.SIGINT)

    def stop(self, number: int) -> None:
        """Hand a signal on to every job, once: it saves and ends."""
        for process in self.running.values():
            if not process.stopped:
                process.stopped = True
                process.signal(number)

    def kill(self) -> None:
        """End all jobs at once."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            os.waitpid(process.pid, 0)
            os.close(process.answer)
        self.running.clear()
