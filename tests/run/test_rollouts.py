"""Roll-outs, metrics and pictures of a trained model of states, by commands and in Python."""

import json

import numpy as np
import pytest
import torch

import gencli
from gencli.cli import main as cli

TINY = [
    *("data=pendulum", "data.length=40", "data.train=10", "data.val=2", "data.test=6"),
    *("model=increment", "model.net.vector.hidden=[8]"),
    *("trainer.max_steps=4", "trainer.eval_every=4", "trainer.log_every=4", "logger=none", "n=0", "device=cpu"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rollouts") / "run"
    gencli.train([*TINY, f"run_dir={folder}"])
    return folder


def test_the_record_knows_the_entropy_and_that_rows_are_of_trajectories(run):
    record = json.loads((run / "eval" / "test-exact.json").read_text())
    assert record["bound"] == "exact"
    assert record["se_blocks"] == 6
    assert record["protocol"]["context"] == "vector"
    assert record["diagnostics"]["nll_minus_entropy"] > 0


@pytest.mark.slow
def test_a_rollout_is_an_answer_with_a_picture(run, capsys):
    assert cli.main(["sample", f"run={run}", "sampler=rollout", "sampler.steps=5", "sampler.members=3", "n=2"]) == 0
    out = capsys.readouterr().out
    assert "rollout of 2" in out
    assert "@1       @5\n" in out
    assert "  crps_persistence " in out
    with np.load(next((run / "samples").glob("rollout*.npz"))) as arrays:
        assert arrays["members"].shape == (2, 3, 5, 2)
        assert arrays["truth"].shape == (2, 5, 2)
    assert [*(run / "samples").glob("rollout*.png")]


@pytest.mark.slow
def test_skill_and_attractor_are_drawn_and_forecasts_measured(run):
    for picture in (["picture=skill", "picture.steps=3"], ["picture=attractor", "picture.steps=6"]):
        assert cli.main(["sample", f"run={run}", *picture, "n=4"]) == 0
        assert [*(run / "samples").glob(f"{picture[0][8:]}*.png")]
    words = ["metrics=[forecast]", "metrics.forecast.leads=[1,3]", "metrics.forecast.members=4"]
    assert cli.main(["eval", f"run={run}", *words]) == 0
    (file,) = (run / "eval").glob("test-forecast*.json")
    record = json.loads(file.read_text())
    assert record["better"] == "lower"
    assert {"rmse@3", "se_rmse@3", "spread/skill@1", "crps_climatology@3"} <= {*record["diagnostics"]}


def test_a_forecast_in_python_is_that_of_its_steps(run):
    opened = gencli.load(run)
    answer = opened.ask("rollout", n=2, steps=3, members=2)
    assert answer.arrays["members"].shape == (2, 2, 3, 2)
    assert torch.isfinite(answer.arrays["members"]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sampler=rollout", "sampler.steps=41"], "40 steps is how far held-out states of data=pendulum reach, not 41"),
        (["sampler=rollout", "sampler.members=1"], "sampler.members=1: an integer of at least 2 is needed"),
        (["picture=attractor", "picture.plane=[0,2]"], "picture.plane=[0, 2]: this data has coordinates 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(run, words, message, capsys):
    assert cli.main(["sample", f"run={run}", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_of_no_states_rolls_nowhere(tiny_run, capsys):
    assert cli.main(["sample", f"run={tiny_run}", "sampler=rollout"]) == 2
    assert "sampler=rollout needs model.conditional=true" in capsys.readouterr().err
    assert cli.main(["eval", f"run={tiny_run}", "metrics=[forecast]"]) == 2
    assert "metrics=[forecast] needs states in the order of time" in capsys.readouterr().err
    assert cli.main(["train", "model=increment", "data=moons"]) == 2
    assert "model" in capsys.readouterr().err


def test_grids_have_no_attractor_and_a_linear_mean_may_be_the_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("fields.npy", np.random.RandomState(0).randn(120, 1, 4, 4).cumsum(0))
    words = ["data=series", "data.path=fields.npy", "model.mean=linear", "model.covariance=shared", "optimizer.lr=1"]
    options = ["trainer.max_steps=2", "optimizer.warmup_steps=0", "run_dir=grid", "logger=none", "n=0", "device=cpu"]
    assert cli.main(["train", "model=increment", *words, *options]) == 0
    said = "".join(capsys.readouterr())
    assert "2 steps, none of them better on validation than the start, which is kept" in said
    assert cli.main(["sample", "run=grid", "picture=attractor"]) == 2
    assert "picture=attractor is of vectors; data=fields has none" in capsys.readouterr().err
