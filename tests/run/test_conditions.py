"""``Run.condition``, contexts that are images, and columns of x among the contexts."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.data.leaks import copied, determined
from gencli.data.sets.array import Array
from gencli.data.sets.csv import CSV
from tests.conftest import TINY

WORDS = [word for word in TINY if not word.startswith(("data", "model"))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A flow of two named contexts, one of classes with names, a VAE of images given images."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    c, e = rng.uniform(-1, 1, (90, 2)), rng.normal(size=(90, 2))
    lines = [
        f"{c[k, 0] + 0.1 * e[k, 0]},{e[k, 1]},{100 * c[k, 0]},{c[k, 1]},{('cat', 'dog')[k % 2]}" for k in range(90)
    ]
    (folder / "table.csv").write_text("\n".join(["u,v,temp,load,pet", *lines]))
    y = rng.normal(size=(60, 7, 5, 2))
    np.savez(folder / "images.npz", x=y.mean(3)[:, None] + 0.3 * rng.normal(size=(60, 1, 7, 5)), labels=y)
    table = ["data=csv", f"data.path={folder}/table.csv", "data.columns=[u,v]", "data.transform=standardize"]
    flow = ["model=maf", "model.transforms=1", "model.hidden=[8]", "model.conditional=true"]
    gencli.train(
        [*WORDS, *table, *flow, "data.context=[temp,load]", "net@model.context=mlp", f"run_dir={folder}/context"]
    )
    gencli.train([*WORDS, *table, *flow, "data.label=pet", f"run_dir={folder}/pets"])
    images = ["data=array", f"data.path={folder}/images.npz", "model=vae", "model.conditional=true", "estimator.k=5"]
    small = ["model.net.vector.hidden=[8]", "model.latent=2"]
    gencli.train([*WORDS, *images, *small, "net@model.context=pyramid", f"run_dir={folder}/images"])
    return folder


@pytest.fixture(scope="module")
def opened(runs):
    return {name: gencli.load(runs / name, device="cpu") for name in ("context", "pets", "images")}


@pytest.mark.slow
def test_a_density_at_one_context_is_that_of_the_run(opened):
    run, x = opened["context"], torch.tensor([[0.2, 0.1], [0.5, -1.0], [-0.3, 0.4]])
    y = [30.0, -0.5]
    density = run.condition(y)
    assert torch.equal(density.log_prob(x), run.log_prob(x, y=[y] * 3))
    assert torch.equal(density.sample(5, seed=3), run.sample(5, seed=3, y=[y] * 5))
    found = density.nll(x)
    assert found.bound == "exact"
    assert torch.allclose(found.values, -density.log_prob(x).to(found.values), atol=1e-5)
    assert repr(density) == "p(x given y) at y [30.0, -0.5], x of shape (2,)"
    for same in (np.array(y), torch.tensor(y), {"load": -0.5, "temp": 30.0}):
        assert torch.equal(run.condition(same).log_prob(x), density.log_prob(x))


def test_a_density_at_one_context_integrates_to_one(opened):
    density = opened["context"].condition([30.0, -0.5])
    u, v = torch.linspace(-6, 6, 121), torch.linspace(-10, 10, 121)
    p = density.log_prob(torch.cartesian_prod(u, v)).exp().sum() * (u[1] - u[0]) * (v[1] - v[0])
    assert float(p) == pytest.approx(1, abs=0.01)


def test_a_class_by_name_or_number(opened):
    run, x = opened["pets"], torch.zeros(1, 2)
    assert torch.equal(run.condition("dog").log_prob(x), run.log_prob(x, y=[1]))
    assert torch.equal(run.condition(1).log_prob(x), run.condition("dog").log_prob(x))
    assert not torch.equal(run.condition("cat").log_prob(x), run.condition("dog").log_prob(x))


@pytest.mark.parametrize(
    ("name", "y", "text"),
    [
        ("pets", "dgo", r"this model has classes cat, dog\. Did you mean 'dog'\?"),
        ("pets", 2, "the classes 0 to 1"),
        ("pets", ["dog", "cat"], "one class, by name or number, is needed"),
        ("context", [1.0], r"y has shape \(1, 1\); contexts of 1 rows have \(1, 2\)"),
        ("context", {"tmp": 1.0, "load": 2.0}, r"'tmp' is no column of the context\. Did you mean 'temp'\?"),
        ("context", {"temp": 1.0}, "a value of 'load' is lacking"),
        ("context", [float("nan"), 0.0], "not finite"),
        ("images", np.zeros((1, 7, 5)), r"contexts of 1 rows have \(1, 2, 7, 5\)"),
        ("images", {"a": 1}, "has no names"),
    ],
)
def test_a_condition_that_is_none_is_refused(opened, name, y, text):
    with pytest.raises(UsageError, match=text) as error:
        opened[name].condition(y)
    assert "\n" not in str(error.value)


def test_a_model_without_a_likelihood_says_its_bound(opened):
    run = opened["images"]
    density = run.condition(np.zeros((2, 7, 5)))
    with pytest.raises(UsageError, match=r"no exact likelihood: nll\(x\)"):
        density.log_prob(torch.zeros(1, 1, 7, 5))
    found = density.nll(torch.zeros(2, 1, 7, 5))
    assert found.bound == "upper"
    assert torch.isfinite(found.values).all()
    assert density.sample(2).shape == (2, 1, 7, 5)
    assert repr(density).startswith("p(x given y) at y of shape (2, 7, 5)")


# --- contexts that are images ----------------------------------------------------------------------------------------


def test_a_context_keeps_its_shape_and_its_rows_are_scored(opened, runs, capsys):
    run = opened["images"]
    assert run.parts.dataset.spec.context == (2, 7, 5)  # of (N, 7, 5, 2)
    record = next(record for record in run.results if record["split"] == "test")
    assert record["protocol"]["context"] == "image"
    kept = np.load(runs / "images.npz")["labels"].transpose(0, 3, 1, 2)
    batch = run.parts.dataset.whole().gather(torch.arange(3))
    assert np.allclose(batch.y.numpy(), kept[:3])
    told = run.parts.preprocess.context(batch.y)
    assert told.shape == (3, 2, 7, 5)
    nll = [run.condition(y).nll(x[None]).values[0] for x, y in zip(batch.x[:2], batch.y[:2], strict=True)]
    swapped = run.condition(batch.y[1]).nll(batch.x[:1]).values[0]
    assert swapped != nll[0]  # y matters


@pytest.mark.slow
def test_a_context_from_a_file_has_its_shape(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "images", "run")
    y = np.random.default_rng(1).normal(size=(3, 2, 7, 5))
    np.save("y.npy", y)
    assert main(["sample", "run=run", "context=y.npy", "format=npz", "name=new"]) == 0
    drawn = np.load("run/samples/new.npz")
    assert drawn["samples"].shape == (3, 1, 7, 5)
    assert np.allclose(drawn["labels"], y)
    assert main(["sample", "run=run", "n=2", "name=picture"]) == 0  # for the contexts of the first rows
    Path("y.csv").write_text("a,b\n1,2\n")
    np.save("flat.npy", y.reshape(3, -1))
    capsys.readouterr()
    for word, text in (
        ("sampler.context=[0,1]", "sampler.context: this context has the shape (2, 7, 5): context=FILE"),
        ("context=y.csv", "is a table; this context has the shape (2, 7, 5)"),
        ("context=flat.npy", "contexts of 3 rows have (3, 2, 7, 5)"),
    ):
        assert main(["sample", "run=run", word]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1


def test_a_schema_of_before_shapes_opens(runs, tmp_path):
    """Contexts of older runs are vectors, images too."""
    shutil.copytree(runs / "images", tmp_path / "run")
    file = tmp_path / "run" / "data.json"
    schema = json.loads(file.read_text())
    assert schema["context"] == [2, 7, 5]
    dataset = Array(str(runs / "images.npz"))
    dataset.apply({**schema, "context": 70})
    assert dataset.spec.context == (70,)
    assert dataset.split("test").gather(torch.arange(2)).y.shape == (2, 70)
    for damaged in ([2, -7, 5], [2, "7", 5], -1, "70"):
        with pytest.raises(UsageError, match=r"data\.json does not fit"):
            Array(str(runs / "images.npz")).apply({**schema, "context": damaged})


# --- columns of x among the contexts ---------------------------------------------------------------------------------


def rows(n=200, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()


def test_a_copy_of_a_coordinate_is_found_whatever_its_scale():
    x, y = rows(), rows(seed=1)
    assert copied(x, y) is None
    for copy in (x[:, 1], -3 * x[:, 1] + 7, (1e-5 * x[:, 1] + 1).float().double() * 0 + x[:, 1] * 1e6):
        assert copied(x, torch.cat([y, copy[:, None]], 1)) == (1, 3)
    near = x[:, 1] + 0.02 * rows(seed=2)[:, 0]  # well known, but not given away
    assert copied(x, near[:, None]) is None
    far = torch.cat([x[:, :1], torch.full((200, 1), 5.0)], 1)
    far[0], y[0] = 1e8, 1e8  # a mark of missing values in both makes them correlated and no copies
    assert copied(far, y) is None
    assert copied(x[:5], x[:5]) is None  # few rows say nothing
    missing = x.clone()
    missing[::3, 2] = float("nan")
    assert copied(missing, x[:, 2:]) == (2, 0)
    assert copied((x > 0).long(), (x[:, :1] > 0).double()) == (0, 0)


def test_a_weighted_sum_is_found_and_little_noise_is_none():
    x, y = rows(), rows(seed=1)
    assert determined(x, y) is None
    x[:, 2] = y @ torch.tensor([3.0, -1.0, 1e-3]).double() + 7
    assert determined(x, y) == determined(x.float(), y) == 2
    assert determined(x, torch.cat([y, y[:, :1] * 2], 1)) == 2  # whatever else is in y
    x[:, 2] += 1e-4 * rows(seed=2)[:, 0]
    assert determined(x, y) is None
    x[:, 2] = 5.0  # which is constant, and so told elsewhere
    assert determined(x, y) is None
    assert determined(rows()[:20], rows()[:20]) is None  # few rows say nothing


def test_a_sum_of_contexts_is_refused_by_name(tmp_path):
    x = rows().numpy()
    np.savetxt(
        tmp_path / "t.csv", np.c_[x, x[:, 1] - 2 * x[:, 2]], delimiter=",", header="a,b,c,sum", comments="", fmt="%.8f"
    )
    with pytest.raises(UsageError, match="the context gives column 'sum' of x away"):
        CSV(str(tmp_path / "t.csv"), columns=["a", "sum"], context=["b", "c"]).split("train")
    assert CSV(str(tmp_path / "t.csv"), columns=["a", "sum"], context=["b"]).split("train") is not None
    np.savez(tmp_path / "t.npz", train=np.c_[x[:, :1], x[:, 1] - 2 * x[:, 2]], train_labels=x[:, 1:])
    with pytest.raises(UsageError, match=r"the context gives coordinate 1 of x away \(a weighted sum of it\)"):
        Array(str(tmp_path / "t.npz")).split("train")


def test_a_leaking_column_is_refused_by_name(tmp_path):
    x = rows().numpy()
    table = np.concatenate([x, 9 / 5 * x[:, :1] + 32], 1)
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header="celsius,a,b,fahrenheit", comments="", fmt="%.8f")
    columns, path = ["celsius", "a"], str(tmp_path / "t.csv")
    with pytest.raises(UsageError, match="column 'fahrenheit' gives column 'celsius' of x away") as error:
        CSV(path, columns=columns, context=["b", "fahrenheit"]).split("train")
    assert "\n" not in str(error.value)
    assert CSV(path, columns=columns, context=["b"]).split("train") is not None
    np.savez(tmp_path / "a.npz", x=x[:, :2], labels=x[:, 1:])
    with pytest.raises(UsageError, match=re.escape("coordinate 0 of labels gives coordinate 1 of x away")):
        Array(str(tmp_path / "a.npz")).split("train")
