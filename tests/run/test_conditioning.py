"""Samples of conditional models are drawn for what was asked: classes by name, contexts by value or from a file."""

import csv
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.run import conditioning
from tests.conftest import TINY

CONTEXTS = [[10050.0, 0.5], [9900.0, -1.0]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of a context of two coordinates, of three classes with names, of three whose names are numbers."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    c, e = rng.uniform(-1, 1, (90, 2)), rng.normal(size=(90, 2))
    table = np.concatenate([c + 0.1 * e, c * [100, 1] + [1e4, 0]], 1)
    np.savetxt(folder / "context.csv", table, delimiter=",", header="u,v,temp,load", comments="", fmt="%.6f")
    for name, labels in (("pets", ["cat", "dog", "zebra"]), ("numbers", ["1", "2", "10"])):
        lines = [f"{3 * (k % 3) + e[k, 0]:.5f},{e[k, 1]:.5f},{labels[k % 3]}" for k in range(90)]
        (folder / f"{name}.csv").write_text("\n".join(["u,v,pet", *lines]))
    words = [word for word in TINY if not word.startswith(("data", "n="))]
    for name, y in (("context", "context=[temp,load]"), ("pets", "label=pet"), ("numbers", "label=pet")):
        data = ["data=csv", f"data.path={folder}/{name}.csv", "data.transform=standardize", f"data.{y}"]
        gencli.train([*words, *data, "model.conditional=true", "n=4", f"run_dir={folder}/{name}"])
    return folder


@pytest.fixture(scope="module")
def opened(trained):
    return {name: gencli.load(trained / name, device="cpu").parts for name in ("context", "pets", "numbers")}


@pytest.fixture
def runs(trained):
    for name in ("context", "pets", "numbers"):
        shutil.copytree(trained / name, name)
    return trained


def sampled(run, *words):
    assert main(["sample", f"run={run}", "format=csv", "name=new", *words]) == 0
    with Path(run, "samples/new.csv").open() as file:
        return list(csv.DictReader(file))


def points(rows):
    return torch.tensor([[float(row["u"]), float(row["v"])] for row in rows])


@pytest.mark.slow
def test_a_context_by_value_from_a_file_and_from_python(runs):
    x = torch.tensor(
        [[float(row["u"]), float(row["v"])] for row in sampled("context", f"sampler.context={CONTEXTS}", "n=2")]
    )
    assert not torch.allclose(x[0], gencli.load("context").sample(1, y=CONTEXTS[1:])[0])  # it matters
    Path("new.csv").write_text("load,other,temp\n0.5,a,10050\n-1,b,9900\n")  # by name, in any order
    np.save("new.npy", np.array(CONTEXTS))
    np.savez("new.npz", samples=np.zeros((2, 3)), labels=np.array(CONTEXTS))
    for file in ("new.csv", "new.npy", "new.npz"):
        rows = sampled("context", f"context={file}")  # as many as the file has rows
        assert [[float(row["temp"]), float(row["load"])] for row in rows] == CONTEXTS
        assert torch.equal(points(rows), x)
    run = gencli.load("context")
    for y in (CONTEXTS, np.array(CONTEXTS), torch.tensor(CONTEXTS)):
        assert torch.equal(run.sample(2, y=y), x)


def test_contexts_are_dealt_in_turn(runs):
    rows = sampled("context", f"sampler.context={CONTEXTS}", "n=5")
    assert [float(row["temp"]) for row in rows] == [10050, 9900, 10050, 9900, 10050]
    assert {float(row["load"]) for row in sampled("context", "sampler.context=[10050,0.5]", "n=3")} == {0.5}


def test_contexts_that_nobody_chose_are_those_of_held_out_rows(runs, capsys):
    rows = sampled("context", "n=12")
    held_out = gencli.load("context").parts.dataset.split("val").gather(torch.arange(9)).y
    assert [float(row["temp"]) for row in rows] == pytest.approx([*held_out[:, 0].tolist(), *held_out[:3, 0].tolist()])
    assert "drawn for the contexts of the first rows of split=val" in capsys.readouterr().out
    assert np.load(Path("context/samples/direct.npz"))["labels"].shape == (4, 2)  # at the end of training, too


@pytest.mark.slow
def test_classes_go_by_number_and_by_name(runs):
    assert [row["pet"] for row in sampled("pets", "sampler.classes=[dog,2]", "n=3")] == ["dog", "zebra", "dog"]
    assert [row["pet"] for row in sampled("numbers", "sampler.classes=[10,1]", "n=2")] == ["10", "1"]
    Path("new.csv").write_text("pet\nzebra\ncat\n")
    assert [row["pet"] for row in sampled("pets", "context=new.csv")] == ["zebra", "cat"]
    run = gencli.load("pets")
    assert torch.equal(run.sample(2, y=["zebra", "cat"]), run.sample(2, y=[2, 0]))
    assert torch.equal(run.sample(2, y="zebra"), run.sample(2, y=[2, 2]))  # one class is that of all
    assert sampled("pets", "n=4") == sampled("pets", "sampler.classes=[cat,dog,zebra]", "n=4")


@pytest.mark.parametrize(
    ("run", "asked", "says"),
    [
        ("context", {"context": [1]}, "sampler.context=[1]: 2 numbers (temp, load) are needed"),
        ("context", {"context": [[1, 2], [3]]}, "2 numbers (temp, load) are needed"),
        ("context", {"context": [[1, 2], 3]}, "2 numbers (temp, load) are needed"),
        ("context", {"context": [1, float("inf")]}, "sampler.context: y holds a value that is not finite"),
        ("context", {"classes": [1]}, "this model is told sampler.context, not classes"),
        ("context", "no.csv", "context=no.csv: there is no such file"),
        ("context", "pets.csv", "context=pets.csv has no column 'temp'"),
        ("context", "wide.npy", "context=wide.npy: y has shape (2, 3)"),
        ("context", "config.npy", "context=config.npy is no array"),
        ("pets", {"classes": ["zebr"]}, "this model has classes cat, dog, zebra. Did you mean 'zebra'?"),
        ("pets", {"classes": [3]}, "sampler.classes=3: this model has classes cat, dog, zebra"),
        ("pets", {"context": [1]}, "this model is told sampler.classes, not context"),
        ("pets", "new.csv", "context=cow: this model has classes cat, dog, zebra"),
        ("numbers", {"classes": [0]}, "sampler.classes=0: this model has classes 1, 2, 10"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(run, asked, says, trained, opened):
    shutil.copy(trained / "pets.csv", "pets.csv")
    np.save("wide.npy", np.zeros((2, 3)))
    Path("config.npy").write_text("a: 1")
    Path("new.csv").write_text("pet\ncow\n")
    parts, find = opened[run], conditioning.chosen
    if isinstance(asked, str):
        find = partial(conditioning.from_file, asked)
    else:
        parts = replace(parts, sampler=replace(parts.sampler, **asked))
    with pytest.raises(UsageError) as refused:
        find(parts)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("word", ["sampler.context=[a,b]", "sampler.context=[]", "context=no.csv"])
def test_a_refusal_writes_nothing(word, trained, capsys):
    before = sorted((trained / "context/samples").iterdir())
    assert main(["sample", f"run={trained}/context", word]) == 2
    assert capsys.readouterr().err.startswith(f"error: {word[:16]}")
    assert sorted((trained / "context/samples").iterdir()) == before


def test_a_model_without_a_condition_takes_none(tiny_run, capsys):
    Path("new.csv").write_text("y\n1\n")
    for word in ("sampler.classes=[0]", "sampler.context=[0]", "context=new.csv"):
        assert main(["sample", f"run={tiny_run}", word]) == 2
        assert "this model is not conditional (model.conditional=true)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not conditional"):
        gencli.load(tiny_run).sample(2, y=[0, 1])
