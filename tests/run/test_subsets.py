"""A measurement that time or a signal cuts short: a random subset, named as such, whose number is that of its rows."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import gencli
from gencli.cli.main import main
from gencli.data.split import TensorSplit, at_most, random_order
from gencli.estimators.exact import Exact
from gencli.run import nll
from gencli.run.pace import Plan
from tests.conftest import TINY


@pytest.fixture
def slow(monkeypatch):
    """Measurements are told to be slow: 60 rows fit, 20 at a time."""

    def planned(score, n, batch_size, budget, processes):
        return Plan(min(n, 60) if budget is not None else n, n, 1000.0, 20)

    monkeypatch.setattr(nll, "planned", planned)


@pytest.fixture
def copy(tiny_run):
    shutil.copytree(tiny_run, "run")
    return Path("run")


def interrupt_at(monkeypatch, call, number=signal.SIGINT):
    """Send this process a signal at that call of the estimator."""
    own, seen = Exact.nll, []

    def scoring(self, *arguments):
        seen.append(1)
        if len(seen) == call:
            os.kill(os.getpid(), number)
        return own(self, *arguments)

    monkeypatch.setattr(Exact, "nll", scoring)


def whole(run):
    return np.load(run / "eval" / "test-exact.npz")["nll"]


def test_a_beginning_of_the_order_is_the_random_subset_of_that_size():
    split = TensorSplit(torch.arange(50)[:, None])
    some = at_most(split, 30)
    for m in (1, 7, 30):
        begun = some.index[random_order(50, 30)[:m]]
        assert sorted(begun.tolist()) == at_most(split, m).index.tolist()


def test_as_many_random_rows_as_fit_are_measured_and_named(slow, copy, capsys):
    full = whole(copy)
    assert main(["eval", "run=run", "minutes=1"]) == 0
    record = json.loads((copy / "eval" / "test-exact-examples=60.json").read_text())
    rows = at_most(gencli.load(copy).parts.dataset.split("test"), 60).index.numpy()
    assert (record["n_examples"], record["n_split"]) == (60, len(full))
    assert record["value"] == pytest.approx(full[rows].mean(), abs=1e-5)
    assert record["se_examples"] == pytest.approx(full[rows].std(ddof=1) / 60**0.5, rel=1e-4)
    assert record["flags"] == [f"60 of {len(full)} examples at random"]
    said = capsys.readouterr().out
    assert "60 of 400 examples at random" in said
    assert f"measuring test NLL on 60 of {len(full)} examples, drawn at random, in about 16:40" in said
    assert len(whole(copy)) == len(full)  # the run's own record is as it was


def test_minutes_bound_what_all_rows_share_too(copy, monkeypatch):
    own, told = Exact.within, []

    def within(self, seconds):
        told.append(seconds)
        return own(self, seconds)

    monkeypatch.setattr(Exact, "within", within)
    for words in ([], ["minutes=2"]):
        assert main(["eval", "run=run", *words]) == 0
    assert told == [None, pytest.approx(0.8 * 120)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_evaluation_with_the_number_so_far(number, code, slow, copy, monkeypatch, capsys):
    full = whole(copy)
    interrupt_at(monkeypatch, 3, number)
    assert main(["eval", "run=run"]) == code
    record = json.loads((copy / "eval" / "test-exact-examples=40.json").read_text())
    rows = at_most(gencli.load(copy).parts.dataset.split("test"), 40).index.numpy()
    assert record["value"] == pytest.approx(full[rows].mean(), abs=1e-5)
    assert record["flags"] == ["stopped after 40 of 400 examples, drawn at random"]
    assert "stopped after 40 of 400 examples" in capsys.readouterr().out
    nats = np.load(copy / "eval" / "test-exact-examples=40.npz")["nll"]
    assert np.allclose(nats, full[rows], atol=1e-5)  # each row beside its own number


def test_a_signal_before_ten_rows_leaves_no_number(copy, monkeypatch):
    before = {path.name for path in (copy / "eval").iterdir()}
    monkeypatch.setattr(nll, "planned", lambda score, n, *rest, **options: Plan(n, n, 1000.0, 5))
    interrupt_at(monkeypatch, 2)
    assert main(["eval", "run=run"]) == 130
    assert {path.name for path in (copy / "eval").iterdir()} == before


@pytest.mark.slow
def test_a_training_measures_what_fits_and_says_so_and_all_by_eval(slow, capsys):
    run = gencli.train([*TINY, "run_dir=run"])
    record = json.loads(Path("run/eval/test-exact.json").read_text())
    assert (record["n_examples"], record["n_split"]) == (60, 400)
    assert "gencli eval run=run   (all 400 examples)" in capsys.readouterr().out
    assert run.nll()["n_examples"] == 400
    assert Path("run/eval/test-exact-examples=400.json").exists()
    assert json.loads(Path("run/eval/test-exact.json").read_text()) == record


@pytest.mark.slow
def test_a_signal_in_the_final_measurement_leaves_its_number_and_a_run_to_go_on_with(slow, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        assert main(["train", *TINY, "run_dir=run"]) == 130
    said = capsys.readouterr().out
    assert "stopped after 40 of 400 examples" in said
    assert "go on with: gencli train resume=run" in said
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    assert json.loads(Path("run/eval/test-exact.json").read_text())["n_examples"] == 40
    assert gencli.train(["resume=run"]).info["status"] == "finished"
    assert json.loads(Path("run/eval/test-exact.json").read_text())["n_examples"] == 60


def test_runs_of_other_subsets_are_not_ranked_together(slow, copy, capsys):
    shutil.copytree(copy, "other")
    record = json.loads((copy / "eval" / "test-exact.json").read_text())
    assert main(["eval", "run=other", "minutes=1"]) == 0
    shutil.copy("other/eval/test-exact-examples=60.json", "other/eval/test-exact.json")
    shutil.copy("other/eval/test-exact-examples=60.npz", "other/eval/test-exact.npz")
    capsys.readouterr()
    assert main(["compare", "run", "other"]) == 0
    assert "split_sha256" in capsys.readouterr().out
    assert record["n_examples"] == 400
