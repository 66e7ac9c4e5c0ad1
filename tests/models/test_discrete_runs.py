"""Runs of small discrete energies from the command line to the record."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from gencli.cli.main import main

SHORT = ["trainer.max_steps=30", "trainer.eval_every=30", "trainer.batch_size=32", "logger=none", "n=4", "device=cpu"]


def bits(path: Path, rows: int = 200, columns: int = 6) -> Path:
    """Bits that are all the same as the first one, but for one in ten."""
    g = torch.Generator().manual_seed(0)
    first = (torch.rand(rows, 1, generator=g) < 0.5).expand(-1, columns)
    x = torch.where(torch.rand(rows, columns, generator=g) < 0.1, ~first, first).int()
    names = ",".join(f"bit{i}" for i in range(columns))
    path.write_text("\n".join([names, *(",".join(map(str, row)) for row in x.tolist())]) + "\n")
    return path


def record(folder: Path) -> dict:
    (found,) = (folder / "eval").glob("test-*.json")
    return json.loads(found.read_text())


def test_a_category_of_a_table_shows_z_as_a_sum(tmp_path):
    table = tmp_path / "one.csv"
    table.write_text("\n".join(["colour", *["red"] * 120, *["green"] * 60, *["blue"] * 20]) + "\n")
    words = ["model=tabular", "data=csv", f"data.path={table}", "data.columns={colour: categorical}"]
    assert main(["train", *words, *SHORT, f"run_dir={tmp_path / 'run'}"]) == 0
    found = record(tmp_path / "run")
    assert found["bound"] == "exact"
    assert found["estimator"] == "enumerate"
    assert found["diagnostics"]["terms"] == 3
    entropy = -sum(p * math.log(p) for p in (0.6, 0.3, 0.1))
    assert found["value"] == pytest.approx(entropy, abs=0.25)  # of twenty rows
    assert found["ledger"] == [{"term": "model", "nats": pytest.approx(found["value"])}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["model=rbm", "model.hidden=4", "objective=pcd", "objective.buffer=50", "objective.steps=2"],
        ["model=discrete_ebm", "model.net.vector.hidden=[16]", "objective=cd", "objective.steps=1"],
        ["model=tabular", "objective=exact_mle"],
    ],
)
def test_bits_are_trained_drawn_and_measured(words, tmp_path):
    where = ["data=csv", f"data.path={bits(tmp_path / 'bits.csv')}", "data.support=binary"]
    options = [*SHORT, "optimizer.lr=0.02", "sampler.steps=20", "sampler.warmup=0", "estimator=enumerate"]
    assert main(["train", *words, *where, *options, f"run_dir={tmp_path / 'run'}"]) == 0
    found = record(tmp_path / "run")
    assert found["bound"] == "exact"
    assert found["value"] < 6 * math.log(2) + 0.2
    assert found["diagnostics"]["terms"] == (16 if "model=rbm" in words else 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model=rbm"], "estimator=enumerate sums at most 4,194,304 terms; Z of this model has about 10^"),
        (["model=tabular"], "model=tabular: 2^64 states; a table holds 1,048,576 at most"),
        (["model=rbm", "estimator=trw"], "estimator=trw cannot measure model=rbm: it needs Pairwise"),
    ],
)
def test_what_cannot_be_summed_is_refused_in_one_line(words, told, tmp_path, capsys):
    table = bits(tmp_path / "bits.csv", rows=20, columns=64)
    where = ["data=csv", f"data.path={table}", "data.support=binary", f"run_dir={tmp_path / 'run'}"]
    enumerate_ = [] if "estimator=trw" in words else ["estimator=enumerate"]
    assert main(["train", *words, *where, *SHORT, *enumerate_]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
