"""What ends training and validation: bounds that are given, time, a signal."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

import gencli
from gencli.cli.main import main
from gencli.config.sections import LEAST_SECONDS, TrainerOptions
from gencli.run.pace import Plan
from gencli.training import final, validate
from tests.conftest import TINY
from tests.runs import same, tensors


@pytest.mark.parametrize(
    ("bounds", "steps"),
    [
        ({}, 3000),
        ({"auto_steps": 200}, 200),
        ({"auto_steps": 200, "max_minutes": 1.0}, None),
        ({"max_minutes": 10.0}, None),
        ({"max_epochs": 2.5}, 25),
        ({"max_epochs": 0.01}, 1),
        ({"max_steps": 7, "max_minutes": 10.0}, 7),
        ({"max_steps": 7, "max_epochs": 2.0}, 7),
        ({"max_steps": None, "max_epochs": 2.0}, 20),
    ],
)
def test_a_bound_that_is_given_alone_binds_alone(bounds, steps):
    assert TrainerOptions(**bounds).steps(per_epoch=10) == steps


def test_measuring_takes_as_long_as_training_unless_it_is_said_how_much():
    assert TrainerOptions().eval_seconds(1.0) == LEAST_SECONDS
    assert TrainerOptions().eval_seconds(600.0) == 600.0
    assert TrainerOptions(eval_minutes=2.0).eval_seconds(1.0) == 120.0
    for asked in ({"eval_examples": 100}, {"eval_examples": None}, {"eval_minutes": None}):
        assert TrainerOptions(**asked).eval_seconds(1.0) is None


def test_epochs_end_a_run():
    run = gencli.train(
        [*(w for w in TINY if "max_steps" not in w), "trainer.max_epochs=0.5", "data.train=512", "run_dir=run"]
    )
    assert run.config["trainer"]["max_steps"] == "auto"
    assert run.info["steps"] == run.info["progress"]["step"] == 2  # half of 512 examples by 128


@pytest.mark.slow
def test_a_signal_ends_a_validation_at_once_and_it_takes_place_on_resume(monkeypatch, capsys):
    gencli.train([*TINY, "run_dir=whole"])
    calls = []
    with monkeypatch.context() as patch:
        own = validate.Validation._choose
        patch.setattr(validate.Validation, "_choose", lambda *a: calls.append(1) or own(*a))
        patch.setattr(
            validate.Validation,
            "_scorer",
            lambda self, model: _signalled if len(calls) == 2 else lambda b, n: self.parts.objective.score(model, b, n),
        )
        assert main(["train", *TINY, "run_dir=halves"]) == 143
    assert "stopped at the validation after step 10, saved; go on with" in capsys.readouterr().out
    gencli.train(["resume=halves"])
    assert same(tensors("whole"), tensors("halves")) == []

    def scores(run):
        lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        return [(line["step"], line["nll"]) for line in lines if line["split"] == "val"]

    assert scores("halves") == scores("whole")


def _signalled(batch, noise):
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("the signal did not end the validation")


@pytest.mark.slow
def test_a_run_validates_on_the_same_examples_to_its_end(monkeypatch, capsys):
    asked = []

    def planned(score, n, batch_size, budget, processes):
        asked.append(budget)
        return Plan(50, n, 3.0, batch_size)

    monkeypatch.setattr(validate, "plan", planned)
    words = [*(word for word in TINY if "eval_examples" not in word), "run_dir=run"]
    gencli.train([*words, "trainer.max_steps=10"])
    assert asked == [LEAST_SECONDS]  # one validation of ten steps in all, and before them
    assert "validating on 50 of " in capsys.readouterr().out
    gencli.train(["resume=run", "trainer.max_steps=20"])
    assert len(asked) == 1
    lines = [line for line in gencli.load("run").metrics if line["split"] == "val"]
    assert [line["step"] for line in lines] == [0, 10, 20]


@pytest.mark.parametrize(
    ("spent", "rows", "left", "fits"),
    [(60.0, 10, 50.0, False), (60.0, 10, 61.0, True), (5.0, 500, 1.0, True), (1e9, 1, None, True)],
)
def test_validation_is_measured_where_its_fewest_rows_fit_into_the_time_that_is_left(spent, rows, left, fits):
    assert final._fits(SimpleNamespace(seconds=spent, n_examples=rows), left) is fits


@pytest.mark.slow
def test_a_run_without_time_for_validation_has_the_number_of_the_test_split_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(final, "_fits", lambda record, seconds: False)
    gencli.train([*TINY, "run_dir=run"])
    assert "no time was left for split=val: gencli eval run=run split=val" in capsys.readouterr().out
    assert [file.name for file in Path("run/eval").glob("*.json")] == ["test-exact.json"]
    assert main(["eval", "run=run", "split=val"]) == 0
