"""Files that a run keeps of itself: another measurement never takes the place of the run's own."""

import json

import numpy as np
import pytest

import gencli
from gencli.cli.main import main
from gencli.run.naming import LONGEST, changed, joined

QUICK = ["device=cpu", "logger=none", "n=0", "trainer.max_steps=3", "trainer.eval_every=1"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file of reals, another of the same columns, and a run of the first with 2 draws."""
    folder = tmp_path_factory.mktemp("naming")
    rng = np.random.default_rng(0)
    for name in ("ours", "theirs"):
        np.savetxt(folder / f"{name}.csv", rng.normal(size=(60, 2)), delimiter=",", header="a,b", comments="")
    words = ["model=gaussian", "data=csv", f"data.path={folder}/ours.csv", "estimator.draws=2"]
    gencli.train([*QUICK, *words, f"run_dir={folder}/run"])
    return folder


def evaluated(table, capsys, *words):
    """The name of the file that a measurement is kept in."""
    assert main(["eval", f"run={table}/run", "device=cpu", *words]) == 0
    return capsys.readouterr().out.split()[-1].rpartition("/")[2]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "test-exact.json"),
        ("estimator.draws=2 batch_size=7", "test-exact.json"),
        ("split=val", "val-exact.json"),
        ("examples=4", "test-exact-examples=4.json"),
        ("examples=1000", "test-exact.json"),
        ("weights=raw", "test-exact-raw.json"),
        ("checkpoint=last seed=1", "test-exact-last-seed=1.json"),
        ("estimator.draws=3 weights=raw", "test-exact-draws=3-raw.json"),
    ],
)
def test_what_is_not_the_runs_own_stands_in_the_name(table, capsys, words, name):
    own = table / "run" / "eval" / "test-exact.npz"
    before = own.read_bytes()
    assert evaluated(table, capsys, *words.split()) == name
    assert own.read_bytes() == before
    with np.load((table / "run" / "eval" / name).with_suffix(".npz")) as kept:
        assert len(kept["nll"]) == json.loads((table / "run" / "eval" / name).read_text())["n_examples"]


def test_other_data_have_a_name_of_their_own(table, capsys):
    moved = table / "elsewhere" / "ours.csv"
    moved.parent.mkdir()
    moved.write_bytes((table / "ours.csv").read_bytes())
    assert evaluated(table, capsys, f"data.path={moved}") == "test-exact.json"  # the same examples elsewhere
    name = evaluated(table, capsys, f"data.path={table}/theirs.csv")
    sha256 = json.loads((table / "run" / "eval" / name).read_text())["split_sha256"]
    assert name == f"test-exact-theirs-{sha256[:8]}.json"
    first = evaluated(table, capsys, f"data.path={table}/theirs.csv", "split=train")
    assert first.startswith("train-exact-theirs-")  # though there is no record of ours yet


def test_compare_ranks_the_runs_own_number(table, capsys):
    evaluated(table, capsys, "weights=raw")
    evaluated(table, capsys, f"data.path={table}/theirs.csv")
    assert main(["compare", f"{table}/run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["rank"] for group in found["groups"] for row in group["rows"]] == [1]
    assert found["further"] >= 2
    assert main(["compare", f"{table}/run", "--json", "--all"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert {row["notes"]: row["rank"] for row in groups[0]["rows"]}.items() >= {"": 1, "raw": None}.items()
    alone = next(group["rows"] for group in groups if group["rows"][0]["notes"].startswith("theirs-"))
    assert alone[0]["rank"] == 1  # among numbers on those data


@pytest.mark.slow
def test_samples_are_named_by_what_drew_them(tmp_path, capsys):
    words = ["model=ebm", "data=moons", "data.train=50", "data.val=20", "data.test=20", "estimator=null"]
    gencli.train([*QUICK, *words, f"run_dir={tmp_path}/run"])
    chain = ["sampler=chain", "sampler.steps=2", "sampler.warmup=1"]
    for more in (["kernel@sampler.kernel=mala"], ["kernel@sampler.kernel=hmc", "sampler.kernel.leaps=3"]):
        assert main(["sample", f"run={tmp_path}/run", "device=cpu", "n=4", *chain, *more]) == 0
    assert {path.stem for path in (tmp_path / "run" / "samples").glob("*.npz")} == {
        "chain-kernel=mala-steps=2-warmup=1-seed0",
        "chain-kernel=hmc-steps=2-warmup=1-kernel.leaps=3-seed0",
    }


def test_names_are_short_and_of_plain_characters():
    assert changed({"k": 5, "base": {"run": None, "_target_": "a.B"}, "on": True}, {"k": 5, "on": False}) == ["on=true"]
    assert joined("a", differing=["classes=[1, 2]", "prompt=to be/or"]) == "a-classes=_1,_2_-prompt=to_be_or"
    long = joined("a", differing=["x" * (LONGEST + 1)])
    assert len(long) == len("a-") + 8
    assert long != joined("a", differing=["x" * (LONGEST + 2)])
