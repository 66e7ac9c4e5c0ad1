"""Examples that the weights were trained on are counted where they are measured, and said; ordinary ones are not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import gencli
from gencli.cli import main as cli
from gencli.data.split import TensorSplit
from gencli.report.compare import compare
from gencli.run.seen import Seen
from tests.conftest import TINY

GMM = ["model=gmm", "model.components=4", "optimizer.lr=0.02", "logger=none", "n=0", "device=cpu"]
AGAIN = ["trainer.max_steps=1", "optimizer.lr=1e-9"]
RNG = np.random.default_rng(0)


def table(path, x):
    np.savetxt(path, x, delimiter=",", header="a,b", comments="", fmt="%.6f")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on 60 rows, and one that began with it on the same rows, dealt by another seed."""
    place = tmp_path_factory.mktemp("seen")
    x = np.random.default_rng(1).normal(size=(60, 2))
    table(place / "t.csv", x)
    table(place / "t2.csv", np.concatenate([x, np.random.default_rng(2).normal(size=(20, 2))]))
    data = ["data=csv", f"data.path={place}/t.csv", "data.test=0.3"]
    gencli.train([*GMM, *data, "trainer.max_steps=20", f"run_dir={place}/A"])
    gencli.train([f"init_from={place}/A", "data.seed=1", *AGAIN, f"run_dir={place}/B"])
    return place


@pytest.fixture
def place(made):
    """The same, to be changed; paths in the runs are still those of the original."""
    shutil.copytree(made, "here")
    return Path("here").absolute()


def rows(file, seed):
    """Rows of the training and test split that a seed deals of a file."""
    x = np.loadtxt(file, delimiter=",", skiprows=1)
    order = np.random.RandomState(seed).permutation(len(x))
    test, val = round(0.3 * len(x)), round(0.1 * len(x))
    return {*map(tuple, x[order[: len(x) - test - val]])}, [*map(tuple, x[order[len(x) - test :]])]


def record(run, name="test-exact"):
    return json.loads((run / "eval" / f"{name}.json").read_text())


def test_a_run_that_began_with_another_says_which_test_rows_that_was_trained_on(made):
    trained, _ = rows(made / "t.csv", 0)
    _, tested = rows(made / "t.csv", 1)
    count = sum(row in trained for row in tested)
    assert 0 < count < 18
    found = record(made / "B")
    assert found["n_seen"] == count
    assert found["flags"] == [f"the weights were trained on {count} of 18 examples"]
    assert json.loads((made / "B/run.json").read_text())["init_from"]["seen"]["test"] == {"count": count, "total": 18}
    log = (made / "B/train.log").read_text()
    assert f"{count} of 18 test examples are equal to examples that the weights of init_from=" in log
    assert "n_seen" not in record(made / "A")
    (only,) = compare([made / "B"]).groups
    assert only[0].rank is None
    assert only[0].notes == found["flags"]
    assert compare([made / "A"]).groups[0][0].rank == 1


def test_it_is_said_whenever_such_a_run_is_measured_though_the_other_is_gone(place, capsys):
    gencli.train([f"init_from={place}/A", "data.seed=1", *AGAIN, "run_dir=late"])
    shutil.rmtree(place / "A")
    capsys.readouterr()
    assert cli.main(["eval", "run=late"]) == 0
    assert record(Path("late"))["n_seen"] == record(place / "B")["n_seen"]
    assert "test examples are equal to examples that the weights were trained on" in capsys.readouterr().out


def test_a_run_that_began_with_that_one_knows_of_both(made):
    gencli.train([f"init_from={made}/B", *AGAIN, "run_dir=C"])
    assert record(Path("C"))["n_seen"] == record(made / "B")["n_seen"]


def test_a_file_that_has_grown_is_dealt_anew_which_is_said(place, capsys):
    trained, _ = rows(place / "t.csv", 0)
    _, tested = rows(place / "t2.csv", 0)
    count = sum(row in trained for row in tested)
    assert cli.main(["eval", f"run={place}/A", f"data.path={place}/t2.csv"]) == 0
    told = capsys.readouterr()
    assert f"warning: {count} of 24 test examples are equal to examples that the weights were trained on" in told.out
    (file,) = (place / "A/eval").glob("test-exact-t2-*.json")
    assert json.loads(file.read_text())["n_seen"] == count
    assert gencli.load(place / "A").nll("all")["n_seen"] == len(trained)


def test_where_the_training_rows_are_gone_it_is_not_known(made, capsys):
    shutil.copy(made / "t.csv", "mine.csv")
    data = ["data=csv", "data.path=mine.csv", "data.test=0.3"]
    gencli.train([*GMM, *data, "trainer.max_steps=1", "run_dir=old"])
    shutil.copy(made / "t2.csv", "mine.csv")  # the same name, other rows
    unknown = "not known whether the weights were trained on some of these examples"
    assert cli.main(["eval", "run=old"]) == 0
    assert "what the weights were trained on is not there any more" in capsys.readouterr().out
    (file,) = Path("old/eval").glob("test-exact-mine-*.json")
    assert json.loads(file.read_text())["flags"] == [unknown]
    gencli.train(["init_from=old", *AGAIN, "run_dir=new"])
    assert record(Path("new"))["flags"] == [unknown]
    assert compare([Path("new")]).groups[0][0].rank == 1


def test_of_ordinary_data_nothing_is_said(made, capsys):
    shutil.copy(made / "t.csv", "moved.csv")
    table("fresh.csv", RNG.normal(size=(40, 2)))
    gencli.train([f"init_from={made}/A", "data.path=moved.csv", *AGAIN, "run_dir=same"])
    gencli.train([f"init_from={made}/A", "data.path=fresh.csv", *AGAIN, "run_dir=fresh"])
    for run in ("same", "fresh"):
        assert "flags" not in record(Path(run))
    for words in (["data.path=moved.csv"], ["data.path=fresh.csv", "split=all"], ["split=train"], []):
        assert cli.main(["eval", "run=same", *words]) == 0
    assert "trained on" not in capsys.readouterr().out


def test_of_synthetic_data_nothing_is_said(tiny_run, capsys):
    gencli.train([f"init_from={tiny_run}", *AGAIN, "run_dir=same"])
    gencli.train([f"init_from={tiny_run}", *AGAIN, "data=checkerboard", *TINY[2:5], "run_dir=other"])
    for run in ("same", "other"):
        assert "flags" not in record(Path(run))
    assert cli.main(["eval", "run=other"]) == 0
    assert "trained on" not in capsys.readouterr().out


def test_what_repeats_anyway_is_no_sign():
    x = torch.randint(0, 2, (400, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    training, test = TensorSplit(x[:300]), TensorSplit(x[300:])
    assert Seen.of(test, [training]) == Seen(0, 100)
    wide = torch.randint(0, 2, (400, 11), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    training, test = TensorSplit(wide[:300]), TensorSplit(wide[300:])
    assert Seen.of(test, [training]) == Seen(0, 100)  # about one in seven is equal to another
    assert Seen.of(TensorSplit(wide[250:350]), [training]).count >= 50


def test_rows_are_told_apart_by_context_too_and_known_in_either_precision():
    x = torch.from_numpy(RNG.normal(size=(50, 2)))
    labels = torch.arange(50) % 3
    training = TensorSplit(x, labels)
    assert Seen.of(TensorSplit(x[:10], labels[:10]), [training]) == Seen(10, 10)
    assert Seen.of(TensorSplit(x[:10], labels[:10] + 1), [training]) == Seen(0, 10)
    assert Seen.of(TensorSplit(x[:10]), [training]) == Seen(10, 10)
    assert Seen.of(TensorSplit(x[:10].float(), labels[:10]), [training]) == Seen(10, 10)
    near = TensorSplit(x[:10] + 1e-12, labels[:10])
    assert Seen.of(near, [training]) == Seen(0, 10)
    assert Seen.of(near, [training, None]) == Seen(None, 10)
    missing = x.masked_fill(x > 1, torch.nan)
    assert Seen.of(TensorSplit(missing[:10]), [TensorSplit(missing)]) == Seen(10, 10)


@pytest.mark.parametrize("common", [0, 20])
def test_rows_that_the_users_own_splits_share_are_counted(common, capsys):
    """Of an array the splits are the user's: 20 of 50 test rows are training rows, or none is."""
    x = np.random.default_rng(3).normal(size=(150, 2))
    np.savez("split.npz", train=x[:100], test=np.concatenate([x[:common], x[100 : 150 - common]]))
    (found,) = gencli.train(
        [*GMM, "data=array", "data.path=split.npz", "trainer.max_steps=5", "run_dir=shared"]
    ).results[:1]
    assert found.get("n_seen") == (common or None)
    assert ("20 of 50 test examples are equal to examples" in capsys.readouterr().out) == bool(common)
