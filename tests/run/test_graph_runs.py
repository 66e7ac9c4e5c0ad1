"""Runs on networks from the command line: what records and samples say, and files that are read again."""

from __future__ import annotations

import json

import pytest

from gencli.cli.main import main

QUICK = [
    "trainer.max_steps=2",
    "trainer.ema_decay=0",
    "logger=none",
    "n=2",
    "seed=0",
    "device=cpu",
    "kernel@objective.kernel=gibbs",
    "kernel@sampler.kernel=gibbs",
    "kernel@estimator.kernel=gibbs",
    "objective.samples=20",
    "objective.steps=1",
    "sampler.warmup=0",
    "sampler.steps=4",
    "estimator.chains=20",
    "estimator.bridges=2",
    "estimator.burn=0",
    "estimator.steps=2",
]


@pytest.mark.slow
def test_a_run_of_one_network_says_that_it_is_in_sample(tmp_path, capsys):
    path = tmp_path / "ties.csv"
    path.write_text("from,to\na,b\nb,c\nc,a\nc,d\nd,e\n")
    words = ["model=ergm", "model.terms=[edges,triangles]", "data=graph", f"data.path={path}"]
    assert main(["train", *words, f"run_dir={tmp_path}/r", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "in-sample" in said
    assert "theta of edges = " in said
    assert "log-likelihood -" in said
    record = json.loads((tmp_path / "r" / "eval" / "test-path_sampling.json").read_text())
    assert record["flags"] == ["in-sample"]
    assert record["protocol"]["train_on"] == "all"
    found = record["diagnostics"]
    assert found["log_likelihood"] == pytest.approx(-record["value"], abs=1e-3)
    assert {"theta.edges", "theta.triangles", "theta_se.triangles", "aic", "bic"} <= found.keys()
    path.unlink()  # sampling needs no file
    assert main(["sample", f"run={tmp_path}/r", "n=2"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=karate", "model.terms=[edges,triangls]"], "model.terms: triangls: there is no such term"),
        (["data=karate", 'model.terms="edges + nodematch(clubb)"'], "the data have no 'clubb'. Did you mean 'club'"),
        (["data=digits"], "model=ergm is of data laid out as network; data=digits is image: models that take data="),
        (["data=uci_binary"], "data that model=ergm takes: florentine, graph, karate, lazega"),
        (["data=graph", "data.path=nothing.csv"], "nothing.csv"),
    ],
)
def test_what_is_no_network_is_refused_in_a_line(tmp_path, capsys, words, message):
    assert main(["train", "model=ergm", *words, f"run_dir={tmp_path}/r", *QUICK]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_other_models_of_bits_work_on_networks(tmp_path):
    words = ["model=made", "model.hidden=8", "data=florentine", "trainer.max_steps=2", "n=2", "logger=none"]
    assert main(["train", *words, f"run_dir={tmp_path}/r", "device=cpu"]) == 0
    record = json.loads((tmp_path / "r" / "eval" / "test-exact.json").read_text())
    assert record["bound"] == "exact"
    assert record["flags"] == ["in-sample"]
