"""Trials of a search: what is asked is told once, whoever asks; the test split is measured for the best alone."""

import json
import multiprocessing
import os
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from gencli.config import multirun
from gencli.config.multirun import Multirun, Planned, Search
from gencli.config.sections import SearchOptions, SweepOptions
from gencli.config.spaces import Choices, Interval
from gencli.core.errors import GencliError, UsageError
from gencli.sweeps.folder import SweepFolder
from gencli.sweeps.search import samplers, storage, study, trials
from gencli.sweeps.search.trials import Trials

FIRST = {"seed": 0, "device": "cpu", "trust": [], "estimator": {}, "trainer": {"max_steps": 40, "eval_every": 10}}
LR = Interval("optimizer.lr", 1e-4, 1e-1, log=True)
COUNT = Interval("model.transforms", 2, 8, step=2)
KIND = Choices("model.kind", ("a", "b", "[1,2]"))
RECORD = {"metric": "nll", "unit": "nats", "bound": "exact", "estimator": "exact", "se_examples": 0.1, "flags": []}


@pytest.fixture(autouse=True)
def plans(monkeypatch):
    """Trials are composed without Hydra."""

    def plan(values, fixed, config_dirs):
        return Planned(tuple(f"{key}={value}" for key, value in values.items()), {**FIRST, **values})

    monkeypatch.setattr(multirun, "_trial", plan)
    monkeypatch.setattr(trials, "measured", lambda run, config, dirs: {"run": run})


def feed(folder="sweep", spaces=(LR, COUNT, KIND), say=print, **options):
    """Trials over a study, as a process of its own would open it."""
    options = {"storage": "shared.log"} | options
    search = Search(SearchOptions(**options), spaces, (), FIRST, ())
    place = SweepFolder(Path(folder), made=True)
    place.path.mkdir(exist_ok=True)
    opened = study.open_study(search, storage.location(search, place.path))
    return Trials(Multirun((), SweepOptions(), (), (), search), opened, place, options.get("storage") is None, say)


def validates(job, scores, every=10):
    """The validations of a run so far."""
    job.run.mkdir(exist_ok=True)
    lines = [
        {"step": every * k, "split": "val", "seconds": k, "weights": "raw", "nll": s} for k, s in enumerate(scores, 1)
    ]
    (job.run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def ends(job, value, split="val", bound="exact"):
    """A run that is finished."""
    (job.run / "eval").mkdir(parents=True, exist_ok=True)
    (job.run / "checkpoints").mkdir(exist_ok=True)
    (job.run / "checkpoints" / "last.safetensors").touch()
    (job.run / "run.json").write_text(json.dumps({"status": "finished", "parameters": 7, "progress": {"step": 40}}))
    record = {**RECORD, "split": split, "value": value, "bound": bound}
    (job.run / "eval" / f"{split}-exact.json").write_text(json.dumps(record))
    job.state = "done"


def lr(job):
    return job.config["optimizer.lr"]


def test_validation_chooses_and_only_the_best_is_measured_on_test():
    found = feed(trials=4)
    verbs = []
    while job := found.ask():
        verbs.append(job.verb)
        if job.verb == "trial":
            ends(job, abs(lr(job) - 0.01))
        else:
            measured = job
            ends(job, 5.0, "test")
        found.tell(job)
    assert verbs == ["trial"] * 4 + ["eval"]
    best = min(found.done, key=lambda trial: abs(trial.params["optimizer.lr"] - 0.01))
    assert str(measured.run) == str(trials.relative(trials.job_of(best)["run"]))
    assert found.test.value == 5.0
    assert all(trial.params["model.transforms"] in (2, 4, 6, 8) for trial in found.done)

    again = feed(trials=4)
    assert again.ask() is None
    assert again.test.value == 5.0  # read, not measured again
    said = []
    more = feed(trials=5, say=said.append)
    job = more.ask()
    ends(job, -1.0)
    more.tell(job)
    assert more.ask().verb == "eval"
    assert "another look at it" in said[-1]


@pytest.mark.parametrize(("named", "value"), [("enumerate", 12.0), ("exact", 13.0), (None, 12.0)])
def test_the_value_of_a_trial_is_that_of_its_own_estimator(tmp_path, named, value):
    """Not of the first in the alphabet; where the config cannot be read, what bounds the NLL from above."""
    (tmp_path / "eval").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished"}))
    if named is not None:
        config = (Path(__file__).parents[1] / "golden/runs/realnvp/config.yaml").read_text()
        assert config.count("  estimator: exact\n") == 1
        (tmp_path / "config.yaml").write_text(config.replace("  estimator: exact\n", f"  estimator: {named}\n"))
    for name, bound, nll in (("ais", "lower", 5.0), ("enumerate", "exact", 12.0), ("exact", "upper", 13.0)):
        record = {**RECORD, "split": "val", "estimator": name, "bound": bound, "value": nll}
        (tmp_path / "eval" / f"val-{name}.json").write_text(json.dumps(record))
    facts = trials.facts_of(tmp_path)
    assert (facts["nll"], facts["bound"]) == (value, "upper" if named == "exact" else "exact")


def test_what_was_killed_goes_on_with_its_values_in_its_folder():
    first = feed(trials=3)
    jobs = [first.ask(), first.ask()]
    ends(jobs[0], 1.0)  # finished, but never told
    second = feed(trials=3)
    job = second.ask()
    assert (job.id, job.run, job.config) == (jobs[1].id, jobs[1].run, jobs[1].config)
    assert [trial.number for trial in second.done] == [0]
    assert second.done[0].value == 1.0
    assert second.ask().id == "2"


def test_trials_of_other_folders_are_left_to_them():
    mine = feed("mine", trials=2)
    job = mine.ask()
    other = feed("other", trials=2)
    theirs = other.ask()
    assert theirs.id == "1"
    ends(theirs, 1.0)
    other.tell(theirs)
    assert other.ask() is None  # and nothing is measured while a trial may still become the best
    assert [trial.number for trial in other.elsewhere] == [0]
    ends(job, 2.0)
    mine.tell(job)
    assert mine.ask().name == "[test] trial 1"


def _take_part(name, storage, count, mine, others):
    found = feed(name, trials=count, storage=storage)
    job = found.ask()
    mine.set()
    others.wait(60)  # both have one, however long the other took to start
    while job and job.verb == "trial":
        ends(job, lr(job))
        found.tell(job)
        job = found.ask()
    os._exit(0)


@pytest.mark.parametrize("storage", ["{}/shared.log", pytest.param("sqlite:///{}/shared.db", marks=pytest.mark.slow)])
def test_two_processes_on_one_storage_lose_no_trial(storage, tmp_path):
    storage = storage.format(tmp_path)
    if storage.startswith("sqlite"):
        optuna.storages.RDBStorage("sqlite://")  # what it imports need not be imported by each process
    fork = multiprocessing.get_context("fork")
    one, two = fork.Event(), fork.Event()
    both = [fork.Process(target=_take_part, args=("a", storage, 8, one, two))]
    both += [fork.Process(target=_take_part, args=("b", storage, 8, two, one))]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    found = feed("c", trials=8, storage=storage)
    assert 8 <= len(found.study.trials) <= 9  # both may ask for the last one at the same moment
    assert {trial.state.name for trial in found.study.trials} == {"COMPLETE"}
    assert len({trial.params["optimizer.lr"] for trial in found.study.trials}) == len(found.study.trials)
    told = [
        json.loads((Path(trials.job_of(trial)["run"]) / "eval" / "val-exact.json").read_text()) for trial in found.done
    ]
    assert [record["value"] for record in told] == [trial.value for trial in found.done]
    assert {trials.job_of(trial)["sweep"][-2:] for trial in found.done} == {"/a", "/b"}


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_trials_that_fall_behind_are_pruned(pruner):
    found = feed(spaces=(LR,), trials=20, pruner=pruner)
    for _ in range(10):
        job = found.ask()
        validates(job, [1.0, 1.0, 1.0])
        found.watch([job])
        ends(job, 1.0)
        found.tell(job)
    job = found.ask()
    validates(job, [2.0])
    ended = found.watch([job])
    if not ended:  # a bracket of hyperband that looks later
        validates(job, [2.0, 2.0, 2.0])
        ended = found.watch([job])
    assert ended == [job]
    assert job.pruned.endswith("at validation 2")
    assert found.watch([job]) == []
    job.state = "pruned"
    found.tell(job)
    assert found.study.trials[10].state.name == "PRUNED"
    assert found.ask().id == "11"


def test_the_last_validation_prunes_nobody():
    found = feed(spaces=(LR,), trials=20, pruner="median")
    for _ in range(6):
        job = found.ask()
        validates(job, [1.0] * 4)
        found.watch([job])
        ends(job, 1.0)
        found.tell(job)
    job = found.ask()
    validates(job, [2.0] * 4)  # step 40 of 40: the run measures itself now
    assert found.watch([job]) == []


def test_failures_are_kept_with_their_cause_and_nothing_but_failures_end_a_search():
    found = feed(spaces=(LR,), trials=20)
    for cause in ("diverged", "no finite nll of the validation split", "c", "d", "e"):
        job = found.ask()
        job.state, job.cause = "failed", cause
        if cause.startswith("no finite"):
            ends(job, float("inf"))
        found.tell(job)
        assert found.study.trials[-1].user_attrs["cause"] == cause
    assert found.hopeless
    assert found.ask() is None


def test_a_config_that_was_trained_is_not_trained_again():
    found = feed(spaces=(KIND,), trials=8, sampler="random")
    asked = 0
    while (job := found.ask()) and job.verb == "trial":
        asked += 1
        ends(job, float(len(job.config["model.kind"])))
        found.tell(job)
    assert asked == len({trial.params["model.kind"] for trial in found.done}) <= 3
    assert len(found.done) == 8
    assert all(trial.value == len(trial.params["model.kind"]) for trial in found.done)


def test_several_objectives_choose_nobody():
    found = feed(spaces=(LR,), trials=2, objectives=["nll", "parameters"])
    for value in (1.0, 2.0):
        job = found.ask()
        ends(job, value)
        found.tell(job)
    assert sorted(tuple(trial.values) for trial in found.done) == [(1.0, 7.0), (2.0, 7.0)]
    assert found.chosen is None
    assert found.ask() is None


@pytest.mark.parametrize(
    "sampler",
    ["tpe", "random", pytest.param("cmaes", marks=pytest.mark.slow), pytest.param("gp", marks=pytest.mark.slow)],
)
def test_what_is_proposed_follows_from_seed_number_and_history(sampler):
    def proposals(seed, starts):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage, found = optuna.storages.InMemoryStorage(), []
        search = Search(SearchOptions(sampler=sampler, seed=seed), (LR, COUNT), (), FIRST, ())
        for _ in range(starts):
            own = optuna.create_study(
                storage=storage, study_name="s", sampler=samplers.sampler(search), load_if_exists=True
            )
            for _ in range(12 // starts):
                trial = own.ask()
                values = [study.value_of(trial, space) for space in (LR, COUNT)]
                own.tell(trial, abs(values[0] - 0.01) + values[1])
                found.append(tuple(values))
        return found

    once = proposals(0, 1)
    assert proposals(0, 3) == once  # a start that goes on neither repeats nor changes what would have been
    assert len({value for value, _ in once}) == 12
    assert proposals(1, 1) != once


def test_the_grid_is_gone_through_once():
    found = feed(spaces=(COUNT, KIND), sampler="grid", trials=100)
    assert found.total == 12
    while (job := found.ask()) and job.verb == "trial":
        ends(job, 1.0)
        found.tell(job)
    assert len({tuple(trial.params.values()) for trial in found.done}) == 12


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("0", pickle.dumps(Evil()).hex()),
        ("0", pickle.dumps([1]).hex()),
        ("0", "zz"),
        ("x", "00"),
    ],
)
def test_a_storage_runs_no_foreign_code(key, state):
    found = feed(spaces=(LR, COUNT), sampler="cmaes", trials=9)
    job = found.ask()
    ends(job, 1.0)
    found.tell(job)
    storage = found.study._storage
    planted = found.study.ask()
    storage.set_trial_system_attr(planted._trial_id, f"cma:optimizer:{key}", state)
    for space in (LR, COUNT):
        study.value_of(planted, space)
    found.study.tell(planted, 1.0)
    with pytest.raises(UsageError, match="cannot be trusted"):
        feed(spaces=(LR, COUNT), sampler="cmaes", trials=9).ask()
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("file.db", "a journal file whose name ends in .log"),
        ("nosuch://x/y", "nosuch"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("", "a journal file"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_in_a_line(storage, says):
    with pytest.raises(UsageError, match=says) as refused:
        feed(storage=storage)
    assert "search.storage" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("ours", [True, False])
def test_only_a_folder_that_is_called_as_the_trial_is_measured(ours, tmp_path):
    found = feed(trials=1)
    job = found.ask()
    elsewhere = tmp_path / "another machine" / (job.run.name if ours else "victim")
    trial = found._running[job.id]
    trial.set_user_attr("job", {**trial.user_attrs["job"], "run": str(elsewhere)})
    job.run = elsewhere
    ends(job, 1.0)
    found.tell(job)
    following = found.ask()
    assert (following is not None) == ours


def _link(file):
    file.rename("victim")
    file.symlink_to("victim")


def _view(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE VIEW more AS SELECT 1")


def _journal_that_names_a_file(file):
    Path("search.db-journal").write_bytes(b"victim".ljust(600) + bytes.fromhex("d9d505f920a163d7"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_link, "search.db is a symbolic link"),
        (_view, "search.db holds the view more"),
        (_journal_that_names_a_file, "search.db-journal names another file"),
        (lambda file: file.unlink() or os.mkfifo(file), "search.db is no file"),
    ],
)
def test_a_file_by_whose_opening_sqlite_would_do_more_than_read_is_not_opened(change, says):
    with closing(sqlite3.connect("search.db")) as database:
        database.execute("CREATE TABLE own (x)")
    change(Path("search.db"))
    with pytest.raises(GencliError, match=says):
        feed(storage="sqlite:///search.db")


def test_a_trial_that_the_search_does_not_offer_is_refused():
    found = feed(spaces=(LR,), trials=2)
    wrong = optuna.distributions.FloatDistribution(0, 10)
    found.study.add_trial(optuna.trial.create_trial(params={LR.key: 7.0}, distributions={LR.key: wrong}, value=1.0))
    with pytest.raises(UsageError, match="trial 0 is damaged, or of another search"):
        feed(spaces=(LR,), trials=2)


def test_a_study_of_something_else_is_refused():
    feed(spaces=(LR,), study="mine")
    with pytest.raises(UsageError, match=r"search\.study=mine: this study searches something else"):
        feed(spaces=(LR, COUNT), study="mine")
