"""Every row of a file, scored and ranked among the held-out rows of a run."""

import numpy as np
import pandas as pd
import pytest
import torch

import gencli
from gencli.cli.main import main
from gencli.data.sets.csv import CSV
from gencli.data.split import TensorSplit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of normal rows, and a file whose third row is far from all of them."""
    folder = tmp_path_factory.mktemp("ranks")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100, 2))
    np.savetxt(folder / "ours.csv", rows, delimiter=",", header="a,b", comments="")
    new = np.concatenate([[[0.0, 0.0], [1.0, -1.0], [30.0, 30.0]], rng.normal(size=(17, 2))])
    np.savetxt(folder / "new.csv", new, delimiter=",", header="a,b", comments="")
    few = [
        "device=cpu",
        "logger=none",
        "n=0",
        "trainer.max_steps=3",
        "trainer.eval_every=1",
        "trainer.eval_examples=15",
    ]
    gencli.train(["model=gaussian", "data=csv", f"data.path={folder}/ours.csv", *few, f"run_dir={folder}/run"])
    return folder


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    """Every row of the file in its order, as data of a user's file give them."""
    monkeypatch.setattr(CSV, "whole", lambda self: TensorSplit(torch.as_tensor(rows_of(self.path)).float()))


def rows_of(path):
    return np.loadtxt(path, delimiter=",", skiprows=1)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_every_row_has_its_nats_and_its_rank(folder, capsys, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    words = ["eval", f"run={folder}/run", "device=cpu", f"data.path={folder}/new.csv", "split=all", f"scores={out}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.index("  row 2  ") < said.index("  100.0 %")  # the worst is the first
    table = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    run = gencli.load(folder / "run", device="cpu")
    nats = -run.log_prob(torch.as_tensor(rows_of(folder / "new.csv")).float()).numpy()
    assert np.allclose(table["nats"], nats, atol=1e-5)
    assert list(table["row"]) == list(range(20))
    with np.load(folder / "run" / "eval" / "test-exact.npz") as kept:
        held_out = kept["nll"]
    assert np.allclose(table["percentile"], [100 * (held_out < value).mean() for value in table["nats"]])
    assert table["percentile"][2] == 100
    assert list((folder / "run" / "eval").glob("all-exact-new-*.json"))

    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


def test_nothing_alike_gives_no_rank(folder, capsys, tmp_path):
    words = ["eval", f"run={folder}/run", "device=cpu", "split=all", "weights=raw", f"scores={tmp_path}/out.csv"]
    assert main(words) == 0
    assert "no rank: no test or val rows" in "".join(capsys.readouterr())
    assert list(pd.read_csv(tmp_path / "out.csv")) == ["row", "nats"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("scores=out.txt", "ends in .csv or .parquet"),
        ("scores=no/out.csv", "there is no folder no"),
        ("scores=out.csv examples=3", "examples= leaves rows out"),
        ("scores=out.csv estimator=null metrics=[mmd]", "estimator=null measures none"),
    ],
)
def test_refusals(folder, capsys, tmp_path, words, message):
    assert main(["eval", f"run={folder}/run", "device=cpu", "split=all", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_that_are_no_file_have_no_rows_of_it(tiny_run, capsys):
    assert main(["eval", f"run={tiny_run}", "device=cpu", "split=all"]) == 2
    assert "split=all: data=moons has none" in capsys.readouterr().err
