"""Runs on text through the command line: measured, sampled, compared and shown."""

import json
import math

import numpy as np
import pytest
import torch

import gencli
from gencli.cli import main as cli
from gencli.report.compare import compare

PLAY = "to be, or not to be: that is the question. whether 'tis nobler in the mind to suffer\n" * 30


QUICK = ["logger=none", "device=cpu", "n=2", "data.window=16", "trainer.max_steps=4", "trainer.eval_every=2"]


BODY = ["model.layers=1", "model.heads=2", "model.width=8"]


pytestmark = pytest.mark.slow  # the runs that all of these share take a few seconds


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "play.txt").write_text(PLAY)
    data = ["data=text_file", f"data.path={folder}/play.txt", *QUICK]
    gencli.train(["model=transformer", *BODY, *data, f"run_dir={folder}/transformer"])
    gencli.train(["model=ngram", "model.order=3", *data, f"run_dir={folder}/ngram"])
    return folder


def result(folder, name="test-exact"):
    return json.loads((folder / "eval" / f"{name}.json").read_text())


def test_a_run_measures_all_of_the_text_per_character(runs, capsys):
    r = result(runs / "transformer")
    assert (r["unit"], r["bound"]) == ("nats/char", "exact")
    assert r["n_symbols"] == len(PLAY) - len(PLAY) * 95 // 100
    assert r["protocol"]["window"] == "16, stride 8"
    assert r["protocol"]["symbols"] == "char"
    assert result(runs / "ngram")["value"] < r["value"]
    metrics = [json.loads(line) for line in (runs / "transformer" / "metrics.jsonl").read_text().splitlines()]
    loss = [m["loss"] for m in metrics if m["split"] == "train"]
    score = [m["nll"] for m in metrics if m["split"] == "val"]
    assert abs(loss[0] - score[-1]) < 1  # both per character

    run = gencli.load(runs / "transformer")
    again = run.nll("test", batch_size=7)
    assert again["value"] == pytest.approx(r["value"], abs=1e-6)
    train = run.nll("train")
    assert train["n_symbols"] == len(PLAY) * 90 // 100
    split = run.parts.dataset.split("test")
    rows = split.gather(torch.arange(len(split)))
    total = -run.log_prob(rows.x, given=rows.given).sum()
    assert total / split.counts.sum() == pytest.approx(r["value"], abs=1e-6)


def test_samples_are_text(runs, capsys):
    folder = runs / "ngram"
    names = sorted(p.name for p in (folder / "samples").iterdir())
    assert names == ["ancestral.npz", "ancestral.txt"]
    command = ["sample", f"run={folder}", "n=2", "sampler.prompt='to be'", "sampler.length=40", "name=long"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "  | to be" in said
    assert "long.txt" in said
    written = (folder / "samples" / "long.txt").read_text()
    assert written.startswith("=== 0 ===\nto be")
    assert np.load(folder / "samples" / "long.npz")["samples"].shape == (2, 40)


def test_bad_prompts_take_one_line(runs, capsys):
    run = f"run={runs / 'transformer'}"
    for words, message in (
        (["sampler.prompt=TO"], "the character 'T' is not among the"),
        (["sampler.prompt='to be, or not to be'"], "sampler.length=16: the prompt alone has 19 symbols"),
        (["sampler.given=top_half"], "needs images"),
    ):
        assert cli.main(["sample", run, *words]) == 2
        assert message in capsys.readouterr().err


def test_models_that_cannot_condition_are_refused(capsys, tmp_path):
    assert cli.main(["train", "model=realnvp", "data=hmm"]) == 2
    assert (
        "is not Autoregressive in the order of the data: data=hmm is scored symbol by symbol" in capsys.readouterr().err
    )
    assert not (tmp_path / "outputs").exists()


def test_comparison_is_per_symbol_and_paired(runs):
    comparison = compare([runs / "transformer", runs / "ngram"])
    assert len(comparison.groups) == 1
    best, other = comparison.groups[0]
    assert other.difference == pytest.approx(other.value - best.value)
    a, b = (np.load(runs / name / "eval" / "test-exact.npz") for name in ("transformer", "ngram"))
    d, c = a["nll"] - b["nll"], a["counts"]
    slack = d - d.sum() / c.sum() * c
    blocks = np.array([block.sum() for block in np.array_split(slack, 7)])  # 15 rows, which depend on each other
    assert other.difference_se == pytest.approx(math.sqrt(7 / 6 * (blocks**2).sum()) / c.sum())


def test_another_window_is_another_protocol(runs):
    data = ["data=text_file", f"data.path={runs}/play.txt", *QUICK, "data.stride=4"]
    gencli.train(["model=ngram", "model.order=3", *data, f"run_dir={runs}/stride4"])
    comparison = compare([runs / "ngram", runs / "stride4"])
    assert len(comparison.groups) == 2
    assert "window is 16, stride 4, not 16, stride 8" in comparison.reasons[0]


def test_surprise_in_colour(runs, capsys):
    folder = runs / "ngram"
    assert cli.main(["sample", f"run={folder}", "picture=surprise_text", "name=seen"]) == 0
    said = capsys.readouterr().out
    assert "nats" in said
    html = (folder / "samples" / "seen.html").read_text()
    assert html.count("<span") >= len(PLAY) - len(PLAY) * 95 // 100
