"""The trials of a search as jobs of a sweep: asked for, watched, told.

A trial is trained with the test split closed. Its value is the NLL of the validation split by the run's own estimator.
When all trials have ended, the test split is measured for the best of them, and for no other.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from gencli.config import stored
from gencli.config.multirun import Multirun, Search, measured
from gencli.config.plain import is_of
from gencli.core.errors import UsageError, quoted
from gencli.report.collect import Row, own_nll
from gencli.sweeps import progress
from gencli.sweeps.folder import SweepFolder, state_of
from gencli.sweeps.ids import job_id, slug
from gencli.sweeps.jobs import Job
from gencli.sweeps.search.study import ask, value_of

HOPELESS = 5
"""Failures, of the first trials and of nothing else, that end a search."""

_RESULT: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("nll", "se", "bits_per_dim", "parameters", "sampling_seconds"), (int, float, type(None))),
    **{"steps": (int, type(None)), "n_examples": (int,), "bound": (str, type(None)), "unit": (str,)},
}

_HEAD = ("step", "split", "seconds", "weights")


class Trials:
    """The feed of a launch.

    Args:
        sweep: with its search.
        study: that of the search.
        folder: of the sweep.
        private: whether no other folder shares the study.
        say: tells a line.
    """

    def __init__(
        self, sweep: Multirun, study: Study, folder: SweepFolder, private: bool, say: Callable[[str], None]
    ) -> None:
        assert sweep.search is not None
        self.search: Search = sweep.search
        self.study, self.folder, self.private, self.say = study, folder, private, say
        self.total = self.search.options.trials
        if self.search.options.sampler == "grid":
            self.total = min(self.total, math.prod(len(space.listed or ()) for space in self.search.spaces))
        self.place = {"sweep": str(folder.path.resolve()), "host": platform.node()}
        self.test: Row | None = None
        self._running: dict[str, Trial] = {}
        self._watched: dict[str, int] = {}
        self._asked_test = False
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._left = [trial for trial in running if self._ours(trial)]
        self.before = len(study.get_trials(deepcopy=False)) - len(self._left)

    # --- feed ----------------------------------------------------------------------------------------------------

    def ask(self) -> Job | None:
        """The next trial; after the last one the measurement of the test split; None: there is nothing now."""
        while True:
            if self._left:
                trial = Trial(self.study, self._left.pop(0)._trial_id)
            elif len(self.study.get_trials(deepcopy=False)) < self.total and not self.hopeless:
                trial = ask(self.study)
            else:
                return None if self._running else self._measurement()
            job = self._job(trial)
            if job.state == "waiting":
                self._running[job.id] = trial
                return job
            self.say(f"{job.name}: {job.cause or 'as an earlier trial'}")

    def watch(self, running: Sequence[Job]) -> list[Job]:
        """Report new validations; the jobs that the pruner ends."""
        ended = []
        for job in running:
            trial = self._running.get(job.id)
            if trial is None or job.pruned or job.config is None or not (step := self._report(job, trial)):
                continue
            last = progress.read(job.run, job.config).of
            if (last is None or step < last) and trial.should_prune():
                value = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values[step]
                job.pruned = f"pruned after step {step} at validation {value:.4g}"
                ended.append(job)
        return ended

    def tell(self, job: Job) -> None:
        """Keep how a trial has ended; of the measurement of the test split, its record."""
        trial = self._running.pop(job.id, None)
        if trial is None:
            self.test = own_nll(job.run, "test") if job.state == "done" else None
            return
        self._report(job, trial)
        self._tell(trial, job)

    # --- one trial -----------------------------------------------------------------------------------------------

    def _ours(self, trial: FrozenTrial) -> bool:
        """Whether a trial that runs, as the storage has it, was begun in this folder by a process that has ended."""
        return self.private or job_of(trial).items() >= self.place.items()

    def _job(self, trial: Trial) -> Job:
        """The job of a trial; one that need not run has been told, and says so by its state."""
        values = {space.key: value_of(trial, space) for space in self.search.spaces}
        planned = self.search.trial(values)
        short = [
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
        ]
        told = f"[{trial.number}] {quoted(' '.join(short), 200)}"
        job = Job(told, planned.swept, planned.config, id=f"{trial.number}", verb="trial")
        if planned.config is None:
            job.state, job.cause, job.exit_code = "failed", f"refused: {planned.refusal}", 2
            self._tell(trial, job)
            return job
        own = job_id(planned.config)
        same = [done for done in self.done if job_of(done).get("id") == own and "run" in job_of(done)]
        job.run = relative(
            job_of(same[0])["run"] if same else self.folder.path / f"{trial.number:04}-{slug(short)}-{own}"
        )
        job.log = job.run.with_name(f"{job.run.name}.log")
        trial.set_user_attr("job", {**self.place, "id": own, "run": str(job.run.resolve())})
        if same:
            job.state = "skipped"
            trial.set_user_attr("result", result_of(same[0]))
            self.study.tell(trial, same[0].values)
        elif state_of(job.run) == "finished":
            job.state = "skipped"
            self._report(job, trial)
            self._tell(trial, job)
        return job

    def _report(self, job: Job, trial: Trial) -> int:
        """Hand on validations that the study does not know; the step of the last one of them, 0: there is none."""
        if self.search.options.objectives != ["nll"]:
            return 0
        file = job.run / "metrics.jsonl"
        size = file.stat().st_size if file.is_file() else 0
        if size == self._watched.get(job.id, 0):
            return 0
        self._watched[job.id] = size
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        latest = 0
        for line in stored.metrics(job.run, []):
            step = line["step"]
            if line.get("split") != "val" or not step or step in known:
                continue
            score = next((value for key, value in line.items() if key not in _HEAD), None)
            if isinstance(score, int | float):
                trial.report(float(score), step)
                latest = step
        return latest

    def _tell(self, trial: Trial, job: Job) -> None:
        if job.state in ("done", "skipped"):
            facts = facts_of(job.run)
            trial.set_user_attr("result", facts)
            values = [facts.get(name) for name in self.search.options.objectives]
            wrong = [
                name
                for name, value in zip(self.search.options.objectives, values, strict=True)
                if value is None or not math.isfinite(value)
            ]
            if not wrong:
                self.study.tell(trial, [float(value) for value in values if value is not None])
                return
            job.cause = f"no finite {wrong[0]} of the validation split" if wrong[0] == "nll" else f"no {wrong[0]}"
        trial.set_user_attr("cause", job.cause)
        self.study.tell(trial, state=TrialState.PRUNED if job.state == "pruned" else TrialState.FAIL)

    # --- the end -------------------------------------------------------------------------------------------------

    @property
    def done(self) -> list[FrozenTrial]:
        """Trials with a value, the best first where one value counts."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted(found, key=lambda trial: trial.values)

    @property
    def hopeless(self) -> bool:
        """Whether trials do nothing but fail."""
        trials = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished()]
        return len(ended) >= HOPELESS and all(trial.state == TrialState.FAIL for trial in ended)

    @property
    def elsewhere(self) -> list[FrozenTrial]:
        """Trials that run in other folders, as far as the storage knows."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if not self._ours(trial)]

    @property
    def chosen(self) -> FrozenTrial | None:
        """The trial with the lowest NLL of the validation split; None: several objectives leave the choice open."""
        return self.done[0] if self.done and self.search.options.objectives == ["nll"] else None

    def _measurement(self) -> Job | None:
        """The job that measures the chosen run on the test split; None: it has been measured, or cannot be yet."""
        chosen = self.chosen
        if self._asked_test or chosen is None or self.elsewhere or len(self.study.trials) < self.total:
            return None
        self._asked_test = True
        run = relative(job_of(chosen).get("run"))
        if not self._is_run_of(chosen, run) or not run.is_dir() or self.search.first.get("estimator") is None:
            return None
        self.test = own_nll(run, "test")
        if self.test is not None:
            return None
        known = self.study.user_attrs.get("measured")
        before = [number for number in known if number != chosen.number] if isinstance(known, list) else []
        if before:
            last = quoted(before[-1])
            self.say(f"warning: the test split has been measured for trial {last} before; this is another look at it")
        self.study.set_user_attr("measured", [*before, chosen.number])
        try:
            config = measured(str(run), self.search.first, self.search.config_dirs)
        except UsageError as error:
            self.say(f"the test split cannot be measured: {error}")
            return None
        name = f"[test] trial {chosen.number}"
        return Job(name, (), config, run=run, log=run.with_name(f"{run.name}.log"), verb="eval")

    def _is_run_of(self, trial: FrozenTrial, run: Path) -> bool:
        """Whether a folder is called as the run of a trial: whoever writes to the storage may name any folder."""
        planned = self.search.trial({space.key: trial.params[space.key] for space in self.search.spaces})
        return planned.config is not None and run.name.endswith(f"-{job_id(planned.config)}")


def short_value(value: Any) -> str:
    """A value as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def relative(run: object) -> Path:
    """A run folder as people type it from here."""
    path = Path(str(run))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def job_of(trial: FrozenTrial) -> dict[str, Any]:
    """Where a trial is trained: host, folder of the sweep, run folder, id of its config."""
    return _kept(trial, "job", dict.fromkeys(("sweep", "host", "id", "run"), (str,)))


def result_of(trial: FrozenTrial) -> dict[str, Any]:
    """What is known of a trial that is done."""
    return _kept(trial, "result", _RESULT)


def _kept(trial: FrozenTrial, name: str, kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """What a storage keeps of a trial under a name, as far as it is of the types that it should be."""
    found = trial.user_attrs.get(name)
    return {k: v for k, v in found.items() if is_of(v, kinds.get(k, ()))} if isinstance(found, dict) else {}


def facts_of(run: Path) -> dict[str, Any]:
    """What a study keeps of a run: numbers by the names of objectives, and what belongs to them."""
    try:
        info = stored.info(run)
    except UsageError:
        return {}
    facts: dict[str, Any] = {name: info.get(name) for name in ("parameters", "sampling_seconds")}
    facts["steps"] = (info.get("progress") or {}).get("step")
    row = own_nll(run, "val")
    if row is not None:
        kept = ("bound", "unit", "bits_per_dim", "n_examples")
        return facts | {"nll": row.value, "se": row.se, **{key: row.record.get(key) for key in kept}}
    best = info.get("best") or {}  # of a model without an estimator: what training validates by
    return facts | {"nll": next((value for key, value in best.items() if key != "step"), None), "bound": None}
