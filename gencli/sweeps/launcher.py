"""``gencli train -m``: what is done is skipped, what was stopped goes on in its folder, the rest starts."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gencli.config.clusters import Cluster, Local, Ray, Slurm
from gencli.config.multirun import Multirun, resumed
from gencli.core.errors import Interrupted, UsageError, quoted
from gencli.report import render
from gencli.report.compare import compare
from gencli.sweeps import progress
from gencli.sweeps.child import Report, Request, Work
from gencli.sweeps.folder import SweepFolder, clear, state_of
from gencli.sweeps.ids import job_id, slug, sweep_id
from gencli.sweeps.jobs import Feed, Job
from gencli.sweeps.machine import THREADS, can_fork, on_cores, on_gpus, threads_asked
from gencli.sweeps.pool import Outcome, Pool
from gencli.sweeps.remote import Remote, backend, require
from gencli.sweeps.table import Display, Row, left
from gencli.training.signals import StopRequest

TURN = 0.5
"""Seconds between two looks at the clock and at the files of the jobs."""


def launch(sweep: Multirun, work: Work, report: Report) -> int:
    """Run a sweep; returns the exit code.

    Args:
        sweep: its jobs, composed.
        work: trains a config.
        report: tells a failure to the user; returns the exit code.

    Raises:
        UsageError: the sweep cannot be run, and nothing was written.
        RunFailed: its folder cannot be written.
    """
    forks = can_fork()
    if sweep.cluster is not None:
        require(sweep.cluster)
    jobs = _jobs(sweep)
    display = Display()
    able = [job for job in jobs if job.config is not None]
    refused = [job for job in jobs if job.config is None]
    if not able or (refused and sweep.options.on_fail == "stop"):
        return _tell_end(display, sweep, jobs)
    names = {job.id: slug(job.swept) for job in able}
    wanted = sweep_id(names)

    def undone(found: SweepFolder) -> str:
        done = sum(state_of(found.run(job, name)) == "finished" for job, name in names.items())
        return f"{done} of {len(names)} jobs are done" if done < len(names) else ""

    folder, told = SweepFolder.of(sweep.options.dir, wanted, undone)
    try:
        _place(able, folder, names)
        folder.hold(wanted, display.say)
        if told:
            display.say(told)
        for job in able:
            if state_of(job.run) == "finished":
                job.state = "skipped"
        running = Launch(sweep, jobs, folder, display)
        running.run(work, report, forks, [job.config for job in jobs if job.config is not None])
        return _tell_end(display, sweep, jobs, running.stopped)
    finally:
        folder.release()


def _jobs(sweep: Multirun) -> list[Job]:
    """The jobs, each of them once."""
    jobs: dict[str, Job] = {}
    for planned in sweep.jobs:
        own = "" if planned.config is None else job_id(planned.config)
        job = Job("", planned.swept, planned.config, own)
        if planned.config is None:
            job.state, job.cause, job.exit_code = "failed", planned.refusal, 2
        jobs.setdefault(own or " ".join(planned.swept), job)
    for number, job in enumerate(jobs.values(), start=1):
        job.name = f"[{number}/{len(jobs)}] {quoted(' '.join(job.swept), 200)}"
    return [*jobs.values()]


def _place(jobs: Sequence[Job], folder: SweepFolder, names: dict[str, str]) -> None:
    """Where each job has its run and its log.

    Raises:
        UsageError: two jobs would share a folder.
    """
    taken: dict[Path, Job] = {}
    for job in jobs:
        assert job.config is not None
        own = job.config["run_dir"]
        job.run = Path(own) if own else folder.run(job.id, names[job.id])
        job.log = folder.path / f"{job.run.name if not own else f'{names[job.id]}-{job.id}'}.log"
        if job.run in taken:
            raise UsageError(f"run_dir={own}: each job of a sweep needs a folder of its own; leave run_dir= away")
        taken[job.run] = job


class Launch:
    """A sweep while it runs.

    Args:
        sweep: what was asked for.
        jobs: that are known before it starts.
        folder: where it lies.
        display: tells it to people.
        feed: chooses further jobs.
    """

    def __init__(
        self, sweep: Multirun, jobs: list[Job], folder: SweepFolder, display: Display, feed: Feed | None = None
    ) -> None:
        self.sweep, self.jobs, self.folder, self.display, self.feed = sweep, jobs, folder, display, feed
        self.stopped = 0
        self.begun = False  # whether a job of it runs or has run
        self.slots = 1
        self.exactly = threads_asked() is not None
        self.places = {job.id: folder.place(job.id) for job in jobs}  # of an earlier process of this sweep

    def run(self, work: Work, report: Report, forks: bool, configs: Sequence[dict[str, Any]]) -> None:
        """All jobs, in as many slots as their configs leave room for."""
        for job in self._of("failed"):
            self.display.say(f"{job.name}: refused: {job.cause}", "red")
        if self.feed or self._of("waiting"):
            options, before = self.sweep.options, os.environ.get(THREADS)
            try:
                if self.sweep.cluster is not None:
                    self._on_cluster(self.sweep.cluster, configs)
                    return
                share = on_cores(configs, options.workers)
                os.environ[THREADS] = str(share.threads)  # torch and BLAS read it when they are imported
                on_cpu = {config["device"] for config in configs} <= {"cpu", "auto"}
                if (gpus := on_gpus(configs, options.workers)) is not None:
                    share, on_cpu = gpus, False
                    os.environ[THREADS] = str(share.threads)
                forks = forks and on_cpu  # an import that asks for CUDA would spoil it for all forks
                if forks:
                    _warm(configs)
                self.slots = len(share.slots)
                self.display.say(f"sweep {self.folder.path}: {self.total} {self.what}, {share.what}")
                pool = Pool(share.slots, work, report, minutes=options.minutes, memory=options.memory, forks=forks)
                self._all(pool, share.threads)
            finally:
                self._note()
                os.environ.pop(THREADS, None) if before is None else os.environ.update({THREADS: before})

    def _on_cluster(self, cluster: Cluster, configs: Sequence[dict[str, Any]]) -> None:
        """All jobs, where a launcher runs them: the queue of a cluster decides how many at a time."""
        options = self.sweep.options
        share = on_cores(configs, options.workers)
        waits = not isinstance(cluster, Local) and options.workers == "auto"
        self.slots = len(configs) if waits else len(share.slots)
        threads = {Slurm: "cpus_per_task", Ray: "num_cpus"}.get(type(cluster))
        found = backend(cluster, self.folder.path)
        what = "all in its queue" if waits else f"{self.slots} at a time"
        self.display.say(f"sweep {self.folder.path}: {self.total} {self.what} by {cluster.name}, {what}")
        pool = Remote(found, self.slots, self.sweep.config_dirs, minutes=options.minutes, memory=options.memory)
        self._all(pool, getattr(cluster, threads) if threads else share.threads)

    def _all(self, pool: Pool | Remote, threads: int) -> None:
        self._note()
        with StopRequest() as stop, self.display:
            try:
                while True:
                    while pool.free and not self.stopped and (job := self._next()) is not None:
                        self._start(pool, job, threads)
                        self._heed(stop, pool)
                    if not pool.running:
                        break
                    for job, outcome in pool.wait(TURN).items():
                        self._ended(job, outcome)
                    for job in self.feed.watch(self._of("running")) if self.feed else ():
                        pool.ask_to_stop(job)
                    if self.sweep.options.on_fail == "stop" and self._of("failed") and not self.stopped:
                        self._stop(pool, signal.SIGINT, "sweep.on_fail=stop")
                        self.stopped = -1
                    self._heed(stop, pool)
                    self.display.update(self._summary, self._rows)
            except Interrupted as error:  # a second signal
                self.stopped = error.exit_code - 128
            finally:
                for job in self._of("running") if pool.running else []:
                    job.state, job.exit_code = "interrupted", 128 + signal.SIGKILL
                pool.kill()

    # --- one job -------------------------------------------------------------------------------------------------

    def _next(self) -> Job | None:
        """What can start next."""
        if waiting := self._of("waiting"):
            return waiting[0]
        job = self.feed.ask() if self.feed else None
        if job is not None:
            self.jobs.append(job)
            self.places[job.id] = self.folder.place(job.id)
        return job

    def _start(self, pool: Pool | Remote, job: Job, threads: int) -> None:
        config = job.config
        assert config is not None
        if pool.adopt(job, self.places.get(job.id, {})):
            self.display.say(f"{job.name}: runs already in {job.run}")
            job.state, job.since, job.place = "running", time.monotonic(), self.places[job.id]
            self.begun = True
            return
        try:
            going_on = job.verb != "eval" and state_of(job.run) == "unfinished"
            if going_on:
                job.before = progress.read(job.run, config).fraction
                config = resumed(str(job.run), config, self.sweep.config_dirs)
            elif job.verb != "eval":
                clear(job.run)
        except (UsageError, OSError) as error:
            self._failed(job, Outcome(2, str(error), 0.0))
            self._tell(job)
            return
        request = Request(
            config=config,
            folder=str(job.run),
            log=str(job.log),
            threads=threads,
            exactly=self.exactly,
            verb=job.verb,
        )
        try:
            pool.start(job, request)
        except UsageError as error:
            if not self.begun:  # a cluster that takes none of them
                raise
            self._failed(job, Outcome(1, str(error), 0.0))
            self._tell(job)
            return
        self.begun = True
        if not self.display.live:
            self.display.say(f"{job.name}: {'goes on' if going_on else 'starts'} in {job.run}")
        job.state, job.since, job.place = "running", time.monotonic(), pool.place(job)
        if job.place:  # it outlives this process, and is to be found by the next one
            self._note()

    def _ended(self, job: Job, outcome: Outcome) -> None:
        job.exit_code, job.seconds, job.place = outcome.exit_code, outcome.seconds, {}
        if not outcome.cause:
            job.state = "done"
            told = progress.result(job.run) if job.verb != "eval" else ""
            self.display.say(f"{job.name}: done in {left(job.seconds)}{told and f', {told}'}")
        elif outcome.interrupted and job.pruned:
            job.state, job.cause = "pruned", job.pruned
            self.display.say(f"{job.name}: {job.pruned}")
        elif outcome.interrupted:
            job.state, job.cause = "interrupted", outcome.cause
            self.display.say(f"{job.name}: {outcome.cause}")
        else:
            self._failed(job, outcome)
        self._tell(job)
        self._note()

    def _tell(self, job: Job) -> None:
        if self.feed and job.state != "interrupted":
            self.feed.tell(job)

    def _failed(self, job: Job, outcome: Outcome) -> None:
        job.state, job.cause, job.exit_code = "failed", outcome.cause, outcome.exit_code
        if job.exit_code == 2 and not job.run.exists():
            job.log.unlink(missing_ok=True)  # a refusal leaves nothing behind
        self.display.say(f"{job.name}: failed after {left(outcome.seconds)}: {job.cause}", "red")

    # --- stopping ------------------------------------------------------------------------------------------------

    def _heed(self, stop: StopRequest, pool: Pool | Remote) -> None:
        if stop.signal and self.stopped <= 0:
            self.stopped = stop.signal
            self._stop(pool, stop.signal, signal.Signals(stop.signal).name)

    def _stop(self, pool: Pool | Remote, number: int, why: str) -> None:
        self.display.say(
            f"{why}: {len(pool.running)} running jobs save what they have; a second Ctrl-C ends them at once"
        )
        pool.stop(number)

    # --- what is told --------------------------------------------------------------------------------------------

    @property
    def what(self) -> str:
        """What its jobs are called."""
        return "jobs" if self.feed is None else "trials"

    @property
    def total(self) -> int:
        """Jobs that there are to be."""
        return self.feed.total if self.feed else len(self.jobs)

    def _of(self, state: str) -> list[Job]:
        return [job for job in self.jobs if job.state == state]

    def _rows(self) -> list[Row]:
        now = time.monotonic()
        return [
            Row(job.name, progress.read(job.run, job.config), now - job.since, job.before)
            for job in self._of("running")
            if job.config is not None
        ]

    def _summary(self) -> str:
        states = ("pruned", "failed", "interrupted", "running", "waiting")
        counts = {state: len(self._of(state)) for state in states}
        before = self.feed.before if self.feed else 0
        counts["waiting"] += max(0, self.total - before - len(self.jobs))
        done = before + sum(job.state in ("done", "skipped") and job.verb != "eval" for job in self.jobs)
        told = [f"{done} of {self.total} done", *(f"{count} {state}" for state, count in counts.items() if count)]
        rows = self._rows()
        spans = [job.seconds for job in self._of("done")]
        spans += [row.seconds + row.left for row in rows if row.left is not None]
        if spans and not self.stopped:
            span = sum(spans) / len(spans)
            missing = sum(span if row.left is None else row.left for row in rows) + span * counts["waiting"]
            told.append(f"about {left(missing / self.slots)} left")
        return ", ".join(told)

    def _note(self) -> None:
        """Write down what is known of the jobs; of those that were done before, that stands there already."""
        self.folder.note(
            self.sweep.words,
            {
                job.id: {
                    "overrides": list(job.swept),
                    "run": str(job.run),
                    **{key: getattr(job, key) for key in ("state", "exit_code", "cause")},
                    "seconds": round(job.seconds, 1),
                    **({"place": job.place} if job.place else {}),
                }
                for job in self.jobs
                if job.id and job.state != "skipped"
            },
        )


def _warm(configs: Sequence[dict[str, Any]]) -> None:
    """Import what the jobs will use, once for all of them; what users brought along is left to the jobs."""
    targets = {str(node["_target_"]) for config in configs for node in _nodes(config)}
    ours = {target.rpartition(".")[0] for target in targets if target.startswith("gencli.")}
    late = {  # what a training imports when it comes to need it: each takes a second or more
        "torch._dynamo": any(config["trainer"]["compile"] is True for config in configs),
        "torch.utils.tensorboard": any(target.startswith("gencli.loggers.tensorboard.") for target in targets),
        "matplotlib.figure": any(config["n"] for config in configs),
        "matplotlib.backends.backend_agg": any(config["n"] for config in configs),
    }
    here = Path.cwd()
    os.chdir(Path(__file__).parent)  # matplotlib evaluates a matplotlibrc of the current folder, whosever that is
    try:
        for name in ("gencli.training.session", *(name for name, used in late.items() if used), *sorted(ours)):
            with suppress(ImportError):  # the job will say so
                importlib.import_module(name)
    finally:
        os.chdir(here)


def _nodes(value: Any) -> list[dict[str, Any]]:
    """Every section within a config that names a class."""
    if not isinstance(value, dict):
        return []
    return [*([value] if "_target_" in value else []), *(node for each in value.values() for node in _nodes(each))]


def _tell_end(display: Display, sweep: Multirun, jobs: Sequence[Job], stopped: int = 0) -> int:
    """The comparison, the failures with their causes, how to go on; returns the exit code."""
    done = [job for job in jobs if job.state in ("done", "skipped")]
    failed = [job for job in jobs if job.state == "failed"]
    if done and (comparison := compare([job.run for job in done])).groups:
        render.print_table(comparison, {job.run: slug(job.swept) for job in done})
        display.say("")
    skipped = sum(job.state == "skipped" for job in jobs)
    display.say(f"{len(done)} of {len(jobs)} jobs done" + f", {skipped} of them before" * bool(skipped))
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed:", file=sys.stderr)
    for job in failed:
        log = f"; log: {job.log}" if job.log.is_file() else ""
        print(quoted(f"  {job.name}: {job.cause} (exit code {job.exit_code}{log})", 10_000), file=sys.stderr)
    if len(done) + len(failed) < len(jobs) or any(job.exit_code != 2 for job in failed):
        display.say(f"go on with the same command: {shlex.join(['gencli', 'train', *sweep.words])}")
    if stopped > 0:
        return 128 + stopped
    if len(done) == len(jobs):
        return 0
    return 2 if failed and all(job.exit_code == 2 for job in jobs) else 1
