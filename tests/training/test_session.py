"""A run from open to finish: its folder, its record, what it refuses, and two at once."""

import json
import math
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.run.assembly import placed
from tests.conftest import TINY
from tests.runs import same, tensors


def test_a_run_folder_is_complete(tiny_run):
    info = json.loads((tiny_run / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["progress"]["step"] == 20
    assert info["parameters"] == sum(p.numel() for p in gencli.load(tiny_run).model.parameters())
    assert info["sizes"] == {}  # all of them were said
    assert {"seed", "versions", "git_commit", "device", "world_size", "wall_seconds", "best", "result"} <= set(info)
    config = yaml.safe_load((tiny_run / "config.yaml").read_text())
    assert config["choices"]["model"] == "realnvp"
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert {(line["step"], line["split"]) for line in lines} >= {(5, "train"), (10, "val"), (20, "val"), (20, "test")}
    assert all({"step", "split", "seconds", "weights"} <= set(line) for line in lines)
    assert (tiny_run / "samples" / "direct.png").stat().st_size > 1000
    assert np.load(tiny_run / "samples" / "direct.npz")["samples"].shape == (16, 2)
    assert (tiny_run / "train.log").read_text()


def test_the_record_is_complete_and_adds_up(tiny_run):
    record = json.loads((tiny_run / "eval" / "test-exact.json").read_text())
    keys = (
        "metric value unit bits_per_dim perplexity bound estimator settings se_examples se_estimator n_examples "
        "n_nonfinite diagnostics ledger split split_sha256 protocol weights checkpoint checkpoint_sha256 seed seconds"
    )
    assert set(keys.split()) <= set(record)
    assert sum(line["nats"] for line in record["ledger"]) == pytest.approx(record["value"], abs=1e-6)
    assert record["bound"] == "exact"  # real data, an exact density
    assert record["se_estimator"] == 0.0
    assert record["bits_per_dim"] == pytest.approx(record["value"] / (2 * math.log(2)))
    nll = np.load(tiny_run / "eval" / "test-exact.npz")["nll"]
    assert nll.mean() == pytest.approx(record["value"])
    assert record["diagnostics"]["nll_minus_entropy"] == pytest.approx(
        record["value"] - record["diagnostics"]["entropy"]
    )


def test_validation_is_measured_too_by_the_same_protocol(tiny_run):
    test, val = (json.loads((tiny_run / "eval" / f"{split}-exact.json").read_text()) for split in ("test", "val"))
    for key in ("estimator", "settings", "protocol", "weights", "checkpoint_sha256", "seed"):
        assert val[key] == test[key]
    assert val["split_sha256"] == gencli.load(tiny_run).parts.dataset.split("val").sha256
    assert json.loads((tiny_run / "run.json").read_text())["result"]["split"] == "test"
    assert main(["compare", str(tiny_run), "--split", "val"]) == 0


def test_the_api_agrees_with_the_record(tiny_run):
    run = gencli.load(tiny_run)
    record = run.results[0]
    again = run.nll(split="test", batch_size=333)
    assert again["value"] == pytest.approx(record["value"], abs=1e-5)  # any batch size
    x = run.parts.dataset.split("test").gather(torch.arange(100)).x
    expected = np.load(tiny_run / "eval" / "test-exact.npz")["nll"][:100]
    assert torch.allclose(-run.log_prob(x), torch.from_numpy(expected), atol=1e-4)
    assert torch.equal(run.sample(8, seed=3), run.sample(20, seed=3)[:8])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.max_steps=null", "max_minutes"),
        ("trainer.precision=fp16", "fp32 or bf16"),
        ("device=cuda:7", "device=cuda:7"),
        ("data.transform=logit", "data.transform"),
        ("sampler.classes=[1]", "sampler.classes"),
        ("model.conditional=true", "labels"),
        ("sampler.temperature=-1", "sampler.temperature"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_nothing_is_written(override, says, tmp_path):
    overrides = [o for o in TINY if not o.startswith(override.split("=")[0] + "=")]
    if override == "model.conditional=true":
        overrides[0] = "data=checkerboard"
    with pytest.raises(UsageError, match=says) as caught:
        gencli.train([*overrides, override])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override", ["trainer.max_steps=0", "trainer.max_minutes=0", "optimizer.name=sgd", "run_dir=/proc/no/x"]
)
def test_more_values_that_make_no_sense(override, tmp_path):
    overrides = [o for o in TINY if not o.startswith(override.split("=")[0] + "=")]
    with pytest.raises(UsageError):
        gencli.train([*overrides, override])
    assert list(tmp_path.iterdir()) == []


def test_a_full_run_dir_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        gencli.train([*TINY, "run_dir=mine"])
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_closed_form_can_be_the_best():
    others = [word for word in TINY if not word.startswith("model")]
    run = gencli.train([*others, "model=gaussian", "run_dir=run", "optimizer.lr=1.0"])
    assert run.info["best"]["step"] == 0
    x = run.parts.dataset.split("train").gather(torch.arange(2000)).x
    fit = torch.distributions.MultivariateNormal(x.mean(0).double(), torch.cov(x.T.double(), correction=0))
    points = x[:10]
    assert torch.allclose(run.log_prob(points), fit.log_prob(points.double()), atol=1e-4)


def test_log_prob_takes_data_units_only(tiny_run):
    run = gencli.load(tiny_run)
    with pytest.raises(UsageError, match="shape"):
        run.log_prob(torch.zeros(3, 5))
    with pytest.raises(UsageError, match="at least 1"):
        run.sample(0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("eval ~data.transform", "~data.transform: an option of a run cannot be removed"),
        ("eval data.transform=standardize", "data.transform=standardize"),
        ("sample model.bound=1.0", "model.bound=1.0"),
        ("train model.bound=0.01", "model.bound=0.01"),
        ("train data.seed=7", "data.seed=7"),
        ("train seed=5", "seed=5"),
    ],
)
def test_model_and_data_of_a_run_cannot_be_changed(words, says, tiny_run, capsys):
    verb, override = words.split()
    before = {p: p.read_bytes() for p in tiny_run.rglob("*") if p.is_file()}
    assert main([verb, f"{'resume' if verb == 'train' else 'run'}={tiny_run}", override]) == 2
    assert says in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tiny_run.rglob("*") if p.is_file()} == before


def test_names_of_a_stranger_do_not_leave_the_folder(tiny_run, tmp_path):
    folder = tmp_path / "stranger"
    shutil.copytree(tiny_run, folder)
    text = (folder / "config.yaml").read_text().partition("\n")[2]  # without its seal
    for name in (f"{tmp_path}/out", "../../out", ".."):
        (folder / "config.yaml").write_text(text.replace("sampler: direct", f"sampler: {name}"))
        assert main(["sample", f"run={folder}"]) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"stranger"}


# --- two sessions in one process ---

DROPOUT = [*TINY, "model.net.vector.dropout=0.3", "trainer.ema_decay=0.9"]
"""Its weights and its dropout come from torch's global generators."""


@pytest.mark.slow
def test_two_runs_in_two_threads_do_not_meet():
    """Each gives the bits that it gives alone, however their steps fall between each other."""
    alone = {seed: gencli.train([*DROPOUT, f"seed={seed}", f"run_dir=alone{seed}"]) for seed in (1, 2)}
    failures = []

    def run(seed):
        try:
            gencli.train([*DROPOUT, f"seed={seed}", f"run_dir=beside{seed}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert failures == []
    for seed, other in alone.items():
        assert same(tensors(other.path), tensors(f"beside{seed}")) == []
        assert gencli.load(f"beside{seed}").results[0]["value"] == other.results[0]["value"]


@pytest.mark.slow
def test_a_run_finds_its_table_from_any_folder(tmp_path, monkeypatch, capsys):
    """The path is kept absolute; the one of a stranger's run, and of a run that goes on, stays as it is."""
    Path("table.csv").write_text("a,b\n" + "".join(f"{i % 7},{i % 5}.5\n" for i in range(60)))
    small = ["model=gaussian", "trainer.max_steps=2", "logger=none", "n=0", "device=cpu"]
    assert main(["train", "data=csv", "data.path=table.csv", *small, "run_dir=run"]) == 0
    kept = yaml.safe_load(Path("run/config.yaml").read_text())["data"]
    assert kept["path"] == str(tmp_path / "table.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["eval", "run=../run", "device=cpu"]) == 0
    stranger = {"path": "table.csv", "root": "data"}
    assert placed(stranger, stranger) == (stranger, {})
    assert placed({"path": "~/t.csv", "root": None, "test_path": "s3://b/t"})[0]["path"] == str(Path.home() / "t.csv")


def test_a_file_that_is_gone_is_told_as_it_was_typed_and_where_it_lay(tmp_path, monkeypatch, capsys):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.csv").write_text("a,b\n" + "".join(f"{i % 7}.5,{i * i % 11}.25\n" for i in range(60)))
    monkeypatch.chdir(tmp_path / "sub")
    words = ["data=csv", "data.path=t.csv", "model=gaussian", "trainer.max_steps=1", "n=0", "logger=none"]
    assert main(["train", *words, "run_dir=../run"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "run=run"]) == 0  # from another folder
    (tmp_path / "sub" / "t.csv").unlink()
    assert main(["eval", "run=run"]) == 2
    assert f"data.path=t.csv ({tmp_path}/sub/t.csv): there is no such file" in capsys.readouterr().err
