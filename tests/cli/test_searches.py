"""``gencli train -m search=...``: trials run in processes of their own, and what cannot be is refused in a line."""

import json
import math
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import torch  # noqa: F401 (jobs are forks of this process, and need not import it)
import yaml

from gencli.cli import main as cli
from gencli.config import multirun
from gencli.core.errors import Interrupted, RunFailed
from gencli.sweeps import launcher
from gencli.sweeps.search import launch, study
from gencli.sweeps.search.trials import Trials
from tests.cli.conftest import TOY

LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
BEST = 3e-3


def train(config, folder):
    """A training that validates by its learning rate alone, and stops when it is asked to."""
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    rate = config["optimizer"]["lr"]
    value = abs(math.log(rate / BEST))
    if value > 3:
        raise RunFailed("the loss is not finite")
    for name in ("checkpoints", "eval"):
        (folder / name).mkdir(parents=True)
    (folder / "checkpoints" / "best.safetensors").touch()
    (folder / "checkpoints" / "last.safetensors").touch()
    stored = {key: entry for key, entry in config.items() if key not in ("resume", "run_dir", "init_from")}
    (folder / "config.yaml").write_text(yaml.safe_dump(stored))
    for step in (200, 400, 600):
        with (folder / "metrics.jsonl").open("a") as stream:
            stream.write(
                json.dumps({"step": step, "split": "val", "seconds": step, "weights": "raw", "nll": value}) + "\n"
            )
        until = time.monotonic() + (20 if config["n"] == 1 and value > 1 else 0)
        while time.monotonic() < until and not asked:
            time.sleep(0.01)
        if asked:
            raise Interrupted(f"stopped by SIGINT after step {step}, saved", signal.SIGINT)
    record(folder, "val", value)
    (folder / "run.json").write_text('{"status": "finished"}')


def record(folder, split, value):
    found = {"metric": "nll", "value": value, "unit": "nats", "bound": "exact", "estimator": "exact", "split": split}
    (folder / "eval" / f"{split}-exact.json").write_text(json.dumps(found))


@pytest.fixture(autouse=True)
def _fakes(monkeypatch, tmp_path):
    def run_verb(verb, config, folder):
        if verb == "eval":
            record(Path(config["run"]), config["split"], 7.0)
        else:
            assert verb == "trial"
            train(config, folder)

    monkeypatch.setattr(cli, "_run_verb", run_verb)
    monkeypatch.setattr(launch, "can_fork", lambda: True)
    monkeypatch.setattr(launcher, "_warm", lambda configs: None)


def states():
    found = optuna.load_study(study_name=None, storage=f"sqlite:///{Path('here/search.db').absolute()}")
    return [trial.state.name for trial in found.get_trials(deepcopy=False)]


@pytest.mark.slow
def test_a_search_ends_with_the_chosen_configuration_on_the_test_split(capsys):
    words = ["train", *TOY, "-m", LR, "search=random", "sweep.dir=here", "sweep.workers=2"]
    assert cli.main([*words, "search.trials=5"]) == 0
    out, _ = capsys.readouterr()
    assert set(states()) == {"COMPLETE", "FAIL"}
    assert len(states()) == 5
    assert "the loss is not finite" in out
    assert "test NLL = 7.000 nats" in out
    assert len([*Path("here").glob("*/eval/test-exact.json")]) == 1
    values = {
        float(file.parts[1].partition("lr")[2].rpartition("-")[0]): file for file in Path("here").glob("*/eval/val*")
    }
    nearest = min(values, key=lambda rate: abs(math.log(rate / BEST)))
    assert values[nearest].with_name("test-exact.json").is_file()
    command = next(line for line in out.splitlines() if line.startswith("  gencli train"))
    assert f"optimizer.lr={nearest:.4g}"[:-1] in command

    assert cli.main([*words, "search.trials=6"]) == 0  # the same search, one more trial
    assert len(states()) == 6
    again = capsys.readouterr().out
    assert "[5] optimizer.lr=" in again
    assert "[4] optimizer.lr=" not in again


def test_a_storage_that_fails_meanwhile_is_told_in_a_line(monkeypatch, capsys):
    def told(feed, job):
        with closing(sqlite3.connect("here/search.db")) as database:
            database.execute("DROP TABLE trials")
        feed.study.get_trials(states=())

    monkeypatch.setattr(Trials, "tell", told)
    words = ["train", *TOY, "-m", LR, "search=random", "search.trials=2", "sweep.dir=here", "sweep.workers=1"]
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert "search.db: no such table: trials" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_who_falls_behind_is_asked_to_stop_and_is_pruned(capsys):
    words = ["train", *TOY, "-m", LR, "search=random", "search.pruner=halving", "search.trials=4", "sweep.dir=here"]
    assert cli.main([*words, "n=1", "sweep.workers=1", "trainer.eval_every=200", "search.seed=34"]) == 0
    assert states() == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]  # learning rates near the best, then far from it
    jobs = json.loads(Path("here/sweep.json").read_text())["jobs"]
    pruned = [job for job in jobs.values() if job["state"] == "pruned"]
    assert len(pruned) == states().count("PRUNED")
    assert all(job["cause"].startswith("pruned after step") for job in pruned)
    assert "pruned" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [LR, "search=tpee"],
            "search.sampler=tpee: one of tpe, cmaes, gp, grid, random is needed. Did you mean 'tpe'?",
        ),
        ([LR, "search.trails=3"], "search.trails: a search takes no such option. Did you mean 'trials'"),
        ([LR, "search.trials=0"], "search.trials=0: an integer of at least 1 is needed"),
        ([LR, "search.pruner=wilcoxon"], "search.pruner=wilcoxon: one of none, median, halving, hyperband is needed"),
        ([LR, "search=cmaes", "search.objectives=[nll,parameters]"], "search=cmaes: it takes one objective"),
        ([LR, "search.pruner=median", "search.objectives=[parameters]"], "validations tell the NLL alone"),
        ([LR, "search=tpe", "search.objectives=[nll,nll]"], "each of them once"),
        ([LR, "search=tpe", "search.params=none.yaml"], "search.params=none.yaml: there is no such file"),
        ([LR, "search=grid"], "optimizer.lr: search=grid goes through values"),
        ([LR, "search=tpe", "seed=0,1"], "seed=0,1: a search does not choose a seed"),
        (["optimizer.lr=1", "search=tpe"], "search=tpe: nothing to search; leave a key open"),
        (["optimizer.lr=tag(log,interval(0,1))", "search=tpe"], "logarithms need numbers above 0"),
        (["optimizer.lr=interval(-1,1)", "search=tpe"], "optimizer.lr=-1.0: a number of at least 0 is needed"),
        ([LR], "a sweep goes through values; list them, or give a range(...); search=tpe searches"),
        ([LR, "search=tpe", "search.storage=file.db"], "a journal file whose name ends in .log, is needed"),
        ([LR, "search=tpe", "hydra/launcher=basic"], "search.* are keys of gencli train -m with its own launcher"),
    ],
)
def test_what_no_search_can_be_is_refused_in_a_line(words, says, capsys):
    assert cli.main(["train", *TOY, "-m", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("outputs").exists()


def test_a_search_is_a_multirun(capsys):
    assert cli.main(["train", *TOY, "search=tpe"]) == 2
    assert "search=tpe: without -m this is no sweep" in capsys.readouterr().err


def test_what_is_missing_is_said_with_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "gencli.sweeps.search.study", None)
    monkeypatch.delattr("gencli.sweeps.search.study")
    assert cli.main(["train", *TOY, "-m", LR, "search=tpe"]) == 2
    assert "pip install 'gencli-nll[search]'" in capsys.readouterr().err


def test_spaces_of_a_file_are_those_of_the_command(monkeypatch):
    monkeypatch.setattr(multirun, "_trial", lambda values, *_, strict: multirun.Planned((), {"seed": 0}))
    Path("space.yaml").write_text(
        "optimizer.lr: tag(log,interval(1e-4,1e-1))\noptimizer.schedule: [constant, cosine]\n"
    )
    own = [*TOY[2:], "search=tpe"]
    by_file = multirun.multirun((), [*own, "search.params=space.yaml"], TOY[1:2]).search
    by_words = multirun.multirun((), [*own, LR, "optimizer.schedule=constant,cosine"], TOY[1:2]).search
    assert by_file.spaces == by_words.spaces
    assert study.study_id(by_file) == study.study_id(by_words)
