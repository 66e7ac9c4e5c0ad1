"""Sweeps: every job runs, in this process or in others, and what went wrong is told at the end."""

from pathlib import Path

import pytest

from gencli.cli import main as cli
from gencli.config import command
from tests.cli.conftest import TOY


@pytest.mark.slow
def test_every_job_of_a_sweep_runs(ran, capsys):
    assert cli.main(["train", *TOY, "-m", "seed=1,13,15,2"]) == 1
    out, err = capsys.readouterr()
    assert [config["seed"] for _, config, _ in ran] == [1, 13, 15, 2]
    assert "job 1: model=toy data=toy trust=[toyzoo] seed=13" in out
    assert "2 of 4 jobs failed" in err
    assert "job 1 failed" in err
    assert "the loss is not finite" in err.splitlines()[-2]
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert sorted(path.name for path in sweep.iterdir()) == ["0", "3", "multirun.yaml"]


@pytest.mark.slow
def test_a_sweep_in_which_some_runs_were_written_does_not_end_as_if_nothing_was(ran, capsys):
    assert cli.main(["train", *TOY, "-m", "seed=1,15"]) == 1
    assert "1 of 2 jobs failed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_of_refusals_leaves_nothing_behind(ran):
    assert cli.main(["train", *TOY, "-m", "model=energy", "objective=nll", "seed=1,2"]) == 2
    assert not Path("outputs").exists()


@pytest.mark.parametrize("word", ["model=glob(zzz*)", "model=toy,nope", "trainer.max_steps=1,abc"])
def test_sweeps_that_cannot_start(ran, word, capsys):
    assert cli.main(["train", *TOY, "-m", word]) == 2
    assert ran == []
    assert not Path("outputs").exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_globs_see_options_only(ran):
    assert cli.main(["train", *TOY, "-m", "optimizer=glob(*)"]) == 0
    assert [config["choices"]["optimizer"] for _, config, _ in ran] == ["adam", "adamax", "adamw", "rmsprop", "sgd"]


@pytest.mark.slow
def test_an_interrupted_job_ends_the_sweep(ran):
    assert cli.main(["train", *TOY, "-m", "seed=1,14,2"]) == 143
    assert [config["seed"] for _, config, _ in ran] == [1, 14]


@pytest.mark.slow
def test_two_sweeps_in_one_second(ran, monkeypatch):
    monkeypatch.setattr(command.time, "strftime", lambda form: "now")
    for _ in range(2):
        assert cli.main(["train", *TOY, "-m", "seed=1,2"]) == 0
    assert sorted(path.name for path in Path("outputs/sweeps").iterdir()) == ["now", "now-2"]


def test_no_sweep_inside_torchrun(ran, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["train", *TOY, "-m", "seed=1,2"]) == 2
    assert "torchrun" in capsys.readouterr().err


@pytest.mark.slow
def test_joblib_launcher(capfd):
    """Jobs in other processes: their refusals come back as the exit code and in the summary."""
    words = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model=energy", "objective=nll", "seed=1,2"]
    assert cli.main(["train", *TOY, *words]) == 2
    err = capfd.readouterr().err
    assert "2 of 2 jobs failed" in err
    assert err.count("failed (") == 2
    assert not Path("outputs").exists()
