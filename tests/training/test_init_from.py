"""A new run begins with the weights of another; a resumed one keeps its data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import gencli
from gencli.cli.main import main
from gencli.config.compose import compose
from gencli.core.errors import UsageError
from gencli.run import checkpoint
from tests.conftest import TINY

STILL = ["optimizer.lr=0", "trainer.max_steps=2", "trainer.eval_every=1", "trainer.log_every=1", "n=0"]
"""Training that moves nothing."""


def table(path, shift, columns="u,v"):
    x = np.random.default_rng(0).normal(size=(300, len(columns.split(",")))) + shift
    np.savetxt(path, x, delimiter=",", header=columns, comments="", fmt="%.6f")


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A finished run on a table, standardized."""
    folder = tmp_path_factory.mktemp("origin")
    table(folder / "a.csv", 0)
    words = [word for word in TINY if not word.startswith("data")]
    data = ["data=csv", f"data.path={folder / 'a.csv'}", "data.transform=standardize"]
    gencli.train([*words, *data, f"run_dir={folder / 'run'}"])
    return folder / "run"


def weights(run, part, which="last"):
    return checkpoint.under(part, checkpoint.read(Path(run) / "checkpoints" / f"{which}.safetensors")[0])


def alike(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "part"), [((), "ema"), (("weights=raw", "checkpoint=last"), "model")])
def test_a_new_run_begins_with_the_weights_of_another(which, part, origin):
    table("b.csv", 3)
    run = gencli.train([f"init_from={origin}", "data.path=b.csv", *which, *STILL, "run_dir=new"])
    kept = "last" if part == "model" else "best"
    assert alike(weights("new", "model"), weights(origin, part, kept))
    assert alike(weights("new", "preprocess"), weights(origin, "preprocess"))  # the units of these weights
    first = next(line for line in run.metrics if line["split"] == "val")
    assert first["step"] == 0  # the weights as they are may be the best
    info, config = json.loads(Path("new/run.json").read_text()), yaml.safe_load(Path("new/config.yaml").read_text())
    assert info["init_from"]["run"] == config["init_from"] == str(origin)
    assert (info["init_from"]["checkpoint"], info["progress"]["step"]) == (kept, 2)
    # old weights measured on new data by the old run, and by the new one
    old = gencli.load(origin, weights=config["weights"], checkpoint=kept, overrides={"data": config["data"]})
    x = run.parts.dataset.split("test").gather(torch.arange(20)).x
    assert torch.equal(old.log_prob(x), run.log_prob(x))


@pytest.mark.slow
def test_a_run_that_began_so_resumes_and_samples_without_the_other(origin):
    shutil.copytree(origin, "old")
    gencli.train(["init_from=old", *STILL, "run_dir=new"])
    shutil.rmtree("old")
    gencli.train(["resume=new", "trainer.max_steps=3"])
    assert yaml.safe_load(Path("new/config.yaml").read_text())["init_from"] == str(Path("old").absolute())
    assert gencli.load("new").sample(3).shape == (3, 2)


@pytest.mark.slow
def test_a_model_that_starts_from_data_starts_from_the_weights():
    gencli.train(["model=gaussian", "data=moons", "trainer.max_steps=1", "n=0", "logger=none", "run_dir=old"])
    gencli.train(["init_from=old", "data=checkerboard", *STILL, "run_dir=new"])
    assert alike(weights("new", "model"), weights("old", "ema", "best"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=maf"], "a run of model=realnvp"),
        (["model.couplings=9"], "model.couplings=9: the weights of init_from="),
        (["data.transform=none"], "were trained with standardize"),
        (["data=gaussian", "data.dim=3"], "shape of its data is (2,), of data=gaussian (3,)"),
        (["data.label=w", "data.path=wide.csv"], "data.label: the run's data.json has no classes"),
        (["data.columns=[v]"], "data.columns=['v']: the weights of init_from="),
        (["data.path=other.csv"], "has no column 'v'"),
        (["resume=old"], "leave one of them away"),
        (["weights=mean"], "weights"),
        (["checkpoint=worst"], "checkpoint=worst: "),
        (["init_from=nowhere"], "no such run folder"),
        (["objective.teacher=x"], "objective.teacher"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_folder_is_made(words, says, origin, capsys):
    table("wide.csv", 0, "u,v,w")
    table("other.csv", 0, "u,w")
    assert main(["train", f"init_from={origin}", *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not Path("outputs").exists()


def test_a_strangers_run_is_data(origin):
    shutil.copytree(origin, "old")
    config = yaml.safe_load(Path("old/config.yaml").read_text())
    config["model"]["_target_"] = "mine.Model"
    Path("old/config.yaml").write_text(yaml.safe_dump(config))
    Path("mine.py").write_text("raise RuntimeError('ran')")
    with pytest.raises(UsageError, match="trust"):
        gencli.train(["init_from=old"])


@pytest.mark.slow
def test_a_resumed_run_keeps_its_data(origin):
    shutil.copytree(origin, "old")
    table("b.csv", 3)
    before = {path: path.read_bytes() for path in Path("old").rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"b.csv: a resumed run keeps its data"):
        gencli.train(["resume=old", "data.path=b.csv", "trainer.max_steps=21"])
    assert before == {path: path.read_bytes() for path in Path("old").rglob("*") if path.is_file()}
    shutil.copy(origin.parent / "a.csv", "moved.csv")
    gencli.train(["resume=old", "data.path=moved.csv", "trainer.max_steps=21"])
    assert json.loads(Path("old/run.json").read_text())["progress"]["step"] == 21
    info = json.loads(Path("old/run.json").read_text())
    del info["data_sha256"], info["seal"]  # as an older gencli left it
    Path("old/run.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match=r"b.csv: a resumed run keeps its data"):
        gencli.train(["resume=old", "data.path=b.csv", "trainer.max_steps=22"])


def test_the_way_into_model_space_may_be_named_beside_a_data_set(tiny_run):
    config = compose("train", [f"init_from={tiny_run}", "data=moons", "data.transform=standardize"])
    assert config["data"]["transform"] == "standardize"
