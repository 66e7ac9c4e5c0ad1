"""What commands say of values that are none, of launchers without a sweep, of runs that have not finished."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from gencli.cli import list as listing_of
from gencli.cli.main import main
from gencli.config.sections import SearchOptions
from gencli.core import options
from gencli.report.listing import Line, marks_of, sheet_of


def said(capsys, *words):
    assert main([*words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("trainer.max_steps=1.5", "trainer.max_steps=1.5: an integer of at least 1 or auto or null is needed"),
        ("threads=1.5", "threads=1.5: an integer"),
        ("hydra/launcher=submitit_slurm", "hydra/launcher=submitit_slurm: a launcher runs the jobs of a sweep: add -m"),
        ("hydra/launcher=ray", "hydra/launcher=ray: a launcher runs the jobs of a sweep: add -m"),
        ("model.context.hidden=[8]", "model.context: a net stands here if one is chosen: net@model.context=NAME"),
        ("net@model.context=pyramd", "there is no such net. Did you mean 'pyramid'?"),
        ("net@model.context=mlp", "model.context: a network of the context needs model.conditional=true"),
    ],
)
def test_a_wrong_word_is_refused_in_our_words(word, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text in said(capsys, "train", "model=maf", "data=moons", word)
    assert not list(tmp_path.iterdir())


def test_searches_are_listed_with_their_keys(capsys):
    assert main(["list", "search"]) == 0
    text = capsys.readouterr().out
    assert set(listing_of.SEARCHES) == set(get_args(options.of_dataclass(SearchOptions).hints["sampler"]))
    assert all(name in text for name in (*listing_of.SEARCHES, "search.trials", "search.pruner"))


@pytest.mark.slow
def test_eval_says_that_training_has_not_finished(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "run")
    words = ["eval", "run=run", "examples=5", "split=val"]
    assert main(words) == 0
    out = capsys.readouterr()
    assert "has not finished" not in out.out + out.err
    file = Path("run/run.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "status": "interrupted", "seal": None}))
    assert main(words) == 0
    out = capsys.readouterr()
    assert "training of this run has not finished (interrupted, step 20): gencli train resume=run goes on" in (
        out.out + out.err
    )


def test_ls_shows_errors_and_marks_numbers_of_a_part(capsys, tiny_run):
    assert main(["ls", str(tiny_run.parent)]) == 0
    assert " ± " in capsys.readouterr().out
    facts = {"model": "maf", "data": "moons", "status": "finished", "bound": "upper", "unit": "nats", "split": "test"}
    lines = [
        Line(run="a", **facts, value=3.5, se=0.25),
        Line(run="b", **facts, value=3.5, se=0.25, se_at_least=True, flags=("5 of 10 examples at random",)),
        Line(run="c", **facts, value=3.5, flags=("unbounded likelihood",)),
        Line(run="d", **facts),
    ]
    numbers = [cells[3] for cells in sheet_of(lines).lines]
    assert numbers == ["<= 3.500 ± 0.250", "<= 3.500 ± >0.250 *1", "<= 3.500 *2", ""]
    assert marks_of(lines[:2]) == {("5 of 10 examples at random",): "*"}
