"""Tables: the published ones, arrays and the users' own, and every refusal's text."""

import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from data_sets import RNG, Payload, refused, save

from gencli.core.errors import UsageError
from gencli.data.sets.array import Array
from gencli.data.sets.csv import CSV
from gencli.data.sets.tabular import BSDS300, Gas, Hepmass, Miniboone, Power, read_frame


@pytest.mark.parametrize("cls", [Power, Gas, Hepmass, Miniboone, BSDS300])
def test_tables_say_where_they_come_from(cls, tmp_path):
    with refused(
        f"{tmp_path / cls.file} is missing: fetch data.tar.gz from https://zenodo.org/records/1161203 by hand and put "
        f"its file {cls.file} there (data.root or GENCLI_DATA says where data lie)"
    ):
        cls(root=str(tmp_path)).split("train")


def test_miniboone_protocol(tmp_path):
    x = np.random.RandomState(0).randn(1000, 43) * 5 + 3
    (tmp_path / "miniboone").mkdir()
    np.save(tmp_path / "miniboone" / "data.npy", x)
    data = Miniboone(root=str(tmp_path))
    train, val, test = (data.split(n).x for n in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (810, 90, 100)
    seen = torch.cat([train, val])
    torch.testing.assert_close(seen.mean(0), torch.zeros(43), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(43), rtol=0, atol=1e-5)
    assert torch.equal(test, torch.from_numpy((x[-100:] - x[:900].mean(0)) / x[:900].std(0)).float())


def test_another_file_is_not_miniboone(tmp_path):
    (tmp_path / "miniboone").mkdir()
    np.save(tmp_path / "miniboone" / "data.npy", np.random.RandomState(0).randn(100, 4))
    with pytest.raises(UsageError, match=r"gives 4 columns instead of 43: another file\?"):
        Miniboone(root=str(tmp_path)).split("train")


def test_power_protocol(tmp_path):
    (tmp_path / "power").mkdir()
    np.save(tmp_path / "power" / "data.npy", np.random.RandomState(0).randn(2000, 8))
    data = Power(root=str(tmp_path))
    assert [tuple(data.split(n).x.shape) for n in ("train", "val", "test")] == [(1620, 6), (180, 6), (200, 6)]


def test_hepmass_protocol(tmp_path):
    rng = np.random.RandomState(0)
    (tmp_path / "hepmass").mkdir()
    for part, extra in (("train", 0), ("test", 1)):
        table = rng.randn(400, 1 + 23 + extra)
        table[:, 0] = np.arange(400) % 2
        table[:, [3, 9]] = rng.randint(0, 3, (400, 2))  # columns with many equal values are dropped
        pd.DataFrame(table).to_csv(tmp_path / "hepmass" / f"1000_{part}.csv", index=False)
    data = Hepmass(root=str(tmp_path))
    assert [tuple(data.split(n).x.shape) for n in ("train", "val", "test")] == [(180, 21), (20, 21), (200, 21)]


def test_gas_protocol(tmp_path):
    rng = np.random.RandomState(0)
    table = pd.DataFrame(rng.randn(500, 8), columns=[f"s{i}" for i in range(8)])
    for i in range(3):
        table[f"copy{i}"] = table[f"s{i}"] + 0.01 * rng.randn(500)
    for name in ("Meth", "Eth", "Time"):
        table[name] = rng.randn(500)
    table.columns = pd.Index(table.columns, dtype=object)  # as older versions of pandas wrote names
    (tmp_path / "gas").mkdir()
    table.to_pickle(tmp_path / "gas" / "ethylene_CO.pickle")
    data = Gas(root=str(tmp_path))
    assert [tuple(data.split(n).x.shape) for n in ("train", "val", "test")] == [(405, 8), (45, 8), (50, 8)]


def test_a_pickle_that_is_no_table_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "t.pickle"
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UsageError, match=r"names (posix|nt)\.system, which is no part of a table: it is not loaded"):
        read_frame(path)
    assert not (tmp_path / "stolen").exists()


def opened(path, **options):
    data = Array(path, **options)
    for name in ("train", "val", "test"):
        data.split(name)
    return data


def test_array_with_a_key_a_split(tmp_path):
    x = np.random.RandomState(0).randint(0, 256, (40, 3, 5, 4)).astype(np.uint8)
    y = np.arange(40) % 4
    path = save(tmp_path / "a.npz", train=x[:30], train_labels=y[:30], test=x[30:], test_labels=y[30:])
    data = Array(path)
    assert (data.name, data.spec.shape, str(data.spec.support), data.spec.classes) == ("a", (3, 5, 4), "levels:256", 4)
    assert data.split("val") is None
    assert (data.split("test").x.numpy() == x[30:]).all()
    assert data.split("test").y.tolist() == y[30:].tolist()
    assert data.to_image(data.split("test").x).shape == (10, 3, 5, 4)


@pytest.mark.parametrize(
    ("array", "shape", "support"),
    [
        (RNG.normal(size=50), (1,), "real"),
        (RNG.normal(size=(50, 7)), (7,), "real"),
        (np.zeros((50, 4, 4), np.uint8), (1, 4, 4), "levels:256"),
        (RNG.normal(size=(50, 2, 4, 4)).astype(np.float32), (2, 4, 4), "real"),
        (np.ones((50, 3), bool), (3,), "binary"),
    ],
)
def test_one_array_is_split(array, shape, support, tmp_path):
    np.save(tmp_path / "a.npy", array)
    data = Array(str(tmp_path / "a.npy"))
    assert (data.spec.shape, str(data.spec.support)) == (shape, support)
    splits = [data.split(n) for n in ("train", "val", "test")]
    assert [len(s) for s in splits] == [40, 5, 5]
    joined = torch.cat([s.x for s in splits]).flatten(1)
    assert sorted(map(tuple, joined.tolist())) == sorted(
        map(tuple, torch.tensor(array).to(joined).view(50, -1).tolist())
    )


def test_array_options(tmp_path):
    path = save(tmp_path / "a.npz", x=np.arange(60).reshape(20, 3) % 5, labels=RNG.normal(size=(20, 2)))
    data = Array(path, support="levels:5", val=0.25, test=0.0)
    assert (data.spec.context, data.spec.classes) == ((2,), None)
    assert len(data.split("val")) == 5
    assert data.split("test") is None
    assert data.split("train").x.dtype == torch.uint8
    assert Array(path, support="real").split("train").x.dtype == torch.float32
    assert Array(path, support="categorical:500").split("train").x.dtype == torch.int64


class Object:
    pass


ARRAYS = [
    ({"train": np.array([[0.5, np.nan]])}, None, "train holds 1 values that are not finite (NaN or infinite)"),
    (
        {"train": np.array([[0.0, 2.0]])},
        "unit",
        "train does not fit data.support=unit: it needs values from 0 to 1; found 0 to 2",
    ),
    (
        {"train": np.array([[0.0, 0.5]])},
        "levels:4",
        "train does not fit data.support=levels:4: it needs integers from 0 to 3; found 0 to 0.5",
    ),
    (
        {"train": np.array([[0, 7]])},
        "binary",
        "train does not fit data.support=binary: it needs integers from 0 to 1; found 0 to 7",
    ),
    ({"train": np.zeros((0, 3))}, None, "the training split is empty"),
    (
        {"a": np.zeros((3, 3)), "b": np.zeros((3, 3))},
        None,
        "key 'train' is needed, or one array (its labels are 'labels'); found a, b",
    ),
    (
        {"train": np.zeros((3, 3)), "train_labels": np.zeros(4, int)},
        None,
        "train has 3 examples, but train_labels 4 rows",
    ),
]


@pytest.mark.parametrize(("arrays", "support", "text"), ARRAYS)
def test_arrays_that_do_not_fit(arrays, support, text, tmp_path):
    path = save(tmp_path / "a.npz", **arrays)
    with refused(f"data.path={path}: {text}"):
        opened(path, support=support)


def test_array_refusals(tmp_path):
    with refused("data.path is needed: an .npz or .npy file"):
        Array()
    with refused(f"data.path={tmp_path}/no.npz: there is no such file or folder; an .npz or .npy file is expected"):
        opened(f"{tmp_path}/no.npz")
    integers = save(tmp_path / "i.npz", train=np.arange(6).reshape(2, 3))
    with refused(
        f"data.path={integers} holds whole numbers from 0 to 5: say data.support=levels:6, categorical:6 or real"
    ):
        opened(integers)
    with pytest.raises(ValueError, match=r"^data.support: 'levels' is no support: real, unit"):
        opened(integers, support="levels")
    text = tmp_path / "t.npy"
    text.write_text("no array")
    with pytest.raises(UsageError, match=r"is no .npz or .npy file of numbers: it begins as neither does$"):
        opened(str(text))
    shapes = save(tmp_path / "s.npz", train=np.zeros((5, 3)), test=np.zeros((5, 4)))
    with refused(f"data.path={shapes}: test has examples of shape (4,), train of (3,)"):
        opened(shapes).split("test")
    labels = save(tmp_path / "l.npz", train=np.zeros((5, 3)), test=np.zeros((5, 3)), test_labels=np.zeros(5, int))
    with refused(f"data.path={labels}: labels for all splits or for none; found test_labels, but no train_labels"):
        opened(labels)


def test_arrays_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "o.npz", train=np.array([Object()], dtype=object))
    with pytest.raises(UsageError, match="key 'train' cannot be read"):
        opened(str(tmp_path / "o.npz"))
    np.save(tmp_path / "o.npy", np.array([Object()], dtype=object))
    with pytest.raises(UsageError, match="of numbers"):
        opened(str(tmp_path / "o.npy"))


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return str(tmp_path / "t.csv")


def test_csv_columns_labels_and_split(tmp_path):
    path = table(tmp_path, "a,b,kind,part\n1,2.5,x,train\n3,-4,y,train\n5,6,x,test\n")
    data = CSV(path, label="kind", split="part")
    assert (data.spec.shape, data.spec.classes, data.name) == ((2,), 2, "t")
    assert data.split("train").x.tolist() == [[1, 2.5], [3, -4]]
    assert data.split("test").y.tolist() == [0]
    assert data.split("val") is None
    other = CSV(path, columns=["b"], context=["a"], val=0.0, test=0.0)
    assert sorted(other.split("train").y.flatten().tolist()) == [1, 3, 5]
    assert other.spec.context == (1,)


def test_csv_without_header_and_compressed(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write("\n".join(f"{i};{i % 3}" for i in range(100)))
    data = CSV(str(tmp_path / "t.csv.gz"), header=False, separator=";", columns=[1], support="levels:3")
    assert [len(data.split(n)) for n in ("train", "val", "test")] == [80, 10, 10]
    assert data.split("train").x.unique().tolist() == [0, 1, 2]


def test_csv_refusals(tmp_path):
    path = table(tmp_path, "a,b,part\n1,2,train\n3,oops,train\n5,,dev\n")
    number = "(data.columns chooses columns, or says what they are: {b: categorical, ...})"
    with refused(f"data.path={path}: column 'b', line 3 is 'oops', not a number {number}"):
        CSV(path, columns=["a", "b"]).split("train")
    with refused(f"data.path={path} has no column 'aa'. Did you mean 'a'?"):
        CSV(path, columns=["aa"]).split("train")
    with refused(
        f"data.path={path}: column 'part', line 2 is 'train', not a number (data.split=part reads the splits)"
    ):
        CSV(path, columns=["part"]).split("train")
    with refused(
        f"data.path={path}: column 'part', line 4 is 'dev': data.split needs train, val or test. There is: test, "
        "train, val."
    ):
        CSV(path, columns=["a"], split="part").split("train")
    with pytest.raises(ValueError, match=r"^data\.columns names b twice$"):
        CSV(path, columns=["b", "a", "b"])
    with pytest.raises(ValueError, match=r"^data\.context names 1 twice$"):
        CSV(path, columns=[0], context=["1", 1], header=False)
    with refused(f"data.path={path}: column 'b', line 4 has no class: leave out the row, or name one"):
        CSV(path, columns=["a"], label="b").split("train")
    with refused(f"data.path={path} does not fit data.support=binary: it needs integers from 0 to 1; found 1 to 5"):
        CSV(path, columns=["a"], support="binary").split("train")
    missing = table(tmp_path, "a\n1\nNaN\n")
    with refused(
        f"data.path={missing}: column 'a', line 3 is missing ('NaN'): leave out the row, or the column by data.columns"
    ):
        CSV(missing).split("train")
    with refused(f"data.path={missing} is no table: it is empty"):
        _ = CSV(table(tmp_path, "")).spec
    with refused("data.path is needed: a table (.csv, .tsv, .parquet, .npz)"):
        _ = CSV().spec
    with pytest.raises(ValueError, match="leave something for training"):
        CSV(path, val=0.5, test=0.5)
    with pytest.raises(ValueError, match=r"^data.columns: column 'a' is named by data.label, data.context or"):
        CSV(path, columns=["a", "b"], context=["a"])
