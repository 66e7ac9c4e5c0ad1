"""A run on a table: other files for it, its schema, what it says of classes and columns."""

import gzip
import json
import shutil

import numpy as np
import pytest
from data_sets import file, refused

import gencli
from gencli.cli.main import main
from gencli.config import stored
from gencli.core.errors import UsageError
from gencli.data.sets.csv import CSV

ROWS = [[f"{np.sin(i):.3f}", f"{100 + 7 * np.cos(3 * i):.2f}", str(i % 11)] for i in range(120)]
NAMES = ["a", "b", "k"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a conditional model, whose training file is gone."""
    folder = tmp_path_factory.mktemp("csv")
    path = file(folder, "\n".join(map(",".join, [NAMES, *ROWS])))
    small = ["trainer.max_steps=5", "logger=none", "n=0", "device=cpu", "trainer.eval_every=5"]
    shape = ["model=realnvp", "model.net.vector.hidden=[8]", "model.steps=1", "model.conditional=true"]
    gencli.train(["data=csv", f"data.path={path}", "data.label=k", *shape, *small, f"run_dir={folder / 'run'}"])
    (folder / "t.csv").unlink()
    return folder / "run"


def encodings(folder):
    """The training file in other words."""
    order = [2, 1, 0]
    turned = [[row[k] for k in order] for row in [NAMES, *ROWS]]
    table = {name: [row[k] for row in ROWS] for k, name in enumerate(NAMES)}
    yield file(folder, "\n".join(map("\t".join, turned)), "u.tsv")
    commas = "\n".join(";".join(cell.replace(".", ",") for cell in row) for row in turned)
    yield file(folder, gzip.compress(commas.encode()), "u.csv.gz")
    np.savez(
        folder / "u.npz", k=np.array(table["k"], int), b=np.array(table["b"], float), a=np.array(table["a"], float)
    )
    yield str(folder / "u.npz")
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    typed = {"k": pa.array(map(float, table["k"])), "a": pa.array(map(float, table["a"])), "b": table["b"]}
    parquet.write_table(pa.table(typed), folder / "u.parquet")
    yield str(folder / "u.parquet")


def opened(run, path):
    config = json.loads(json.dumps(gencli.load(run).config["data"])) | {"path": path}
    return gencli.load(run, overrides={"data": config})


@pytest.mark.slow
def test_the_training_file_in_other_words_has_the_same_nats(run, tmp_path):
    kept = json.loads((run / "eval" / "test-exact.json").read_text())
    for path in encodings(tmp_path):
        record = opened(run, path).nll("test")
        assert (record["value"], record["split_sha256"]) == (kept["value"], kept["split_sha256"]), path


def test_what_does_not_fit_the_run_is_refused(run, tmp_path):
    def evaluate(text):
        opened(run, path := file(tmp_path, text)).parts.dataset.whole()
        raise AssertionError(path)

    where = f"data.path={tmp_path}/t.csv"
    with refused(
        f"{where}: column 'k', line 3 is 'x', no class of this run. There is: 0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9."
    ):
        evaluate("a,b,k\n1,2,0\n1,2,x\n")
    with refused(f"{where} has no column 'a'. Did you mean 'A'?"):
        evaluate("A,b,k\n1,2,0\n")
    with refused(
        f"{where}: column 'b', line 2 is 'x', not a number (data.columns chooses columns, or "
        "says what they are: {b: categorical, ...})"
    ):
        evaluate("a,b,k\n1,x,0\n")
    with pytest.raises(UsageError, match=r"has no column 'a'"):
        evaluate("1,2,3\n4,5,6\n")  # the run's file had names


def test_columns_that_a_run_has_not_are_named(run, tmp_path, capsys):
    path = file(tmp_path, "z;k;b;a;id\n9;1.0;1,234;1;5\n")
    data = opened(run, path).parts.dataset
    with pytest.raises(UsageError, match=r"'1,234', not a number \(data.decimal=comma reads decimal commas"):
        data.whole()  # the run's own file has points
    assert main(["eval", f"run={run}", f"data.path={path}", "data.decimal=comma", "split=all"]) == 0
    assert "t: columns that the run has not are not read: z, id" in capsys.readouterr().out


def test_a_run_samples_without_its_file(run, capsys):
    assert main(["sample", f"run={run}", "n=3"]) == 0
    said = capsys.readouterr().out
    assert "classes 0 to 10 are 0, 1, 2" in said
    assert "no picture: the data beside which samples are drawn cannot be read (data.path=)" in said
    assert np.load(run / "samples" / "direct-seed0.npz")["classes"].tolist() == [str(k) for k in range(11)]


def test_a_run_of_before_reads_as_then_and_says_so(run, tmp_path):
    shutil.copytree(run, tmp_path / "old")
    (tmp_path / "old" / "data.json").unlink()
    path = file(tmp_path, "\n".join(map(",".join, [NAMES, *ROWS])))
    data = opened(tmp_path / "old", path).parts.dataset
    assert data.class_names() == sorted(str(k) for k in range(11))  # by text: 10 comes before 2
    assert "this run keeps no data.json" in data.understood()[0]


@pytest.mark.parametrize(
    "change",
    [{"columns": []}, {"columns": ["a", "a"]}, {"columns": None}, {"classes": [1]}, {"classes": []}, {"header": 1}],
)
def test_a_damaged_schema_is_refused(change, run):
    schema = json.loads((run / "data.json").read_text()) | change
    with pytest.raises(UsageError, match=r"^data.json is damaged: "):
        CSV("t.csv", label="k").apply(schema)


@pytest.mark.slow
def test_a_run_may_keep_the_names_of_many_columns(tmp_path):
    names = [f"c{k}" for k in range(100_000)]
    (tmp_path / "data.json").write_text(json.dumps({"columns": names}))
    assert stored.schema(tmp_path)["columns"] == names
    (tmp_path / "data.json").write_text(json.dumps({"columns": names * 13}))
    with pytest.raises(UsageError, match=r"data.json is damaged: it is larger than any of its kind"):
        stored.schema(tmp_path)


def test_a_record_of_a_conditional_model_names_the_classes(run):
    assert json.loads((run / "eval" / "test-exact.json").read_text())["classes"] == [str(k) for k in range(11)]
