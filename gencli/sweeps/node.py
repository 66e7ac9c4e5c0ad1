"""A job on a node of a cluster: a process of its own beside the one that the cluster started, which watches it.

Whoever is stopped and started again in the same place goes on in the same run folder, so a job that a cluster queues
again needs to know nothing of its past.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gencli.config.multirun import resumed
from gencli.core.errors import UsageError
from gencli.sweeps.child import Request
from gencli.sweeps.folder import clear, state_of
from gencli.sweeps.pool import Outcome, Pool

PATIENCE = 120.0
"""Seconds in which a cluster that has sent SIGTERM takes the node away; where it does not, the job goes on."""


@dataclass
class NodeJob:
    """What is sent to a node and called there. submitit calls ``checkpoint`` before it queues the job again.

    Args:
        request: the job; all paths are absolute.
        config_dirs: the user's own directories of options.
        folder: the working directory.
        minutes: that the job may take.
        forwards: whether signals reach this process only, and not the one that it started.
    """

    request: Request
    config_dirs: tuple[str, ...]
    folder: str
    minutes: float | None
    forwards: bool
    pool: Pool = field(init=False, repr=False)

    def __call__(self) -> dict[str, Any]:
        """Run the job; returns an ``Outcome`` as plain data."""
        os.chdir(self.folder)
        asked: list[int] = []

        def stop(number: int, _: object) -> None:
            if self.forwards:
                asked.append(number)
                self.pool.stop(number)
            for process in self.pool.running.values():
                process.stopped = True  # a second signal, as `checkpoint` sends it, would end it before it has saved

        # submitit ignores it; SIGINT is Python's own KeyboardInterrupt
        before = signal.signal(signal.SIGTERM, stop)
        try:
            while True:
                outcome = self._once()
                if not outcome.interrupted or asked or outcome.exit_code != 128 + signal.SIGTERM:
                    return asdict(outcome)
                time.sleep(PATIENCE)  # the cluster has told all processes: it will end this one too, and queue it again
        finally:
            signal.signal(signal.SIGTERM, before)

    def _once(self) -> Outcome:
        self.pool = Pool([{}], None, None, minutes=self.minutes, memory=self.request.memory, forks=False)
        try:
            request = self._begin()
        except (UsageError, OSError) as error:
            return Outcome(2, str(error), 0.0)
        if request is None:
            return Outcome(0, "", 0.0)
        try:
            self.pool.start("job", request)
            try:
                return self._wait()
            except KeyboardInterrupt:  # the sweep is stopped
                if self.forwards:
                    self.pool.stop(signal.SIGINT)
                return self._wait()
        finally:
            self.pool.kill()

    def _begin(self) -> Request | None:
        """What is to be done as the run folder is now; None: nothing is left."""
        run, config = Path(self.request.folder), self.request.config
        state = state_of(run)
        if state == "finished":
            return None
        if state == "new":
            clear(run)
        elif not config.get("resume"):
            config = resumed(str(run), config, self.config_dirs)
        return replace(self.request, config=config)

    def _wait(self) -> Outcome:
        while True:
            for outcome in self.pool.wait(0.5).values():
                return outcome

    def checkpoint(self) -> Any:
        """Let the job save and end; what is to be called when the node is there again."""
        from submitit.helpers import DelayedSubmission

        self.pool.stop(signal.SIGTERM)
        while self.pool.running:
            self.pool.wait(0.5)
        return DelayedSubmission(replace(self))
