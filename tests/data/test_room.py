"""Tables beyond memory: their numbers lie in a file, and their examples are those of the same table in memory."""

import errno
import gzip
import os
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from gencli.core.errors import UsageError
from gencli.data import dialect, plain, room
from gencli.data.mapped import MappedSplit
from gencli.data.sets.csv import CSV
from gencli.data.split import TensorSplit
from gencli.data.table_files import read
from gencli.data.tables import Table

N = 400


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """So that small tables count as large ones, of several blocks, and the cache is the test's own."""
    monkeypatch.setattr(dialect, "SAMPLE", 5)
    monkeypatch.setattr(plain, "LARGE", 900)
    monkeypatch.setattr(plain, "BLOCK", 500)
    monkeypatch.setattr(room, "PART", 70)
    monkeypatch.setattr(room, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr("gencli.data.sets.csv.user_cache", lambda: tmp_path / "cache")


def table(away=0.0):
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": away + random.standard_normal(N),
            "k": random.integers(0, 5, N),
            "b": random.standard_normal(N),
            "kind": random.choice(["x", "y"], N),
            "part": np.resize(["train", "train", "val", "test"], N),
        }
    )


def save(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=150)
    elif path.suffix == ".npz":
        np.savez(path, **{name: frame[name].to_numpy(dtype=None if name in "abk" else str) for name in frame})
    else:
        frame.to_csv(path, index=False)
    return str(path)


OPTIONS = {
    "all": {},
    "chosen": {"columns": ["b", "a"]},
    "classes": {"columns": ["a", "b"], "label": "k"},
    "words": {"columns": ["a", "b"], "label": "kind", "split": "part"},
    "context": {"columns": ["b"], "context": ["k", "a"]},
    "levels": {"columns": ["k"], "support": "levels:5"},
    "kinds": {"columns": {"a": "real", "k": "levels", "kind": "categorical"}},
}


@pytest.mark.parametrize("away", [0.0, 1e7], ids=["float32", "float64"])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz"])
@pytest.mark.parametrize("asked", OPTIONS)
def test_a_large_table_has_the_examples_of_a_small_one(asked, ending, away, tmp_path):
    frame = table(away)
    if asked == "all":
        frame = frame[["a", "k", "b"]]
    path = save(frame, tmp_path / f"t{ending}")
    small, large = (CSV(path, memory=memory, **OPTIONS[asked]) for memory in (4, 0))
    assert small.schema() == large.schema()
    for name in ("train", "val", "test", "whole"):
        there, mapped = ((data.whole() if name == "whole" else data.split(name)) for data in (small, large))
        assert isinstance(there, TensorSplit)
        assert isinstance(mapped, MappedSplit)
        assert isinstance(mapped.x, np.memmap)
        index = torch.randperm(len(there))
        one_batch, other_batch = there.gather(index), mapped.gather(index)
        for one, other in ((one_batch.x, other_batch.x), (one_batch.y, other_batch.y)):
            assert (one is None) == (other is None)
            assert one is None or (one.dtype == other.dtype and torch.equal(one, other))
        assert there.sha256 == mapped.sha256
    said, more = small.understood(), large.understood()
    assert more[:-1] == said
    assert "of numbers, more than data.memory=0, are read from a file in" in more[-1]
    assert os.listdir(tmp_path / "cache") == []  # the file has no name


def test_a_compressed_table_is_mapped_as_a_plain_one(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(table()[["a", "b"]].to_csv(index=False).encode()))
    assert CSV(str(path), memory=0).split("test").sha256 == CSV(str(path)).split("test").sha256


def test_a_large_table_is_refused_as_a_small_one(tmp_path):
    frame = table()[["a", "b"]]
    frame.loc[333, "b"] = np.inf
    for ending in (".csv", ".parquet"):
        path = save(frame, tmp_path / f"t{ending}")
        told = []
        for memory in (4, 0):
            with pytest.raises(UsageError, match=r"column 'b', (line 335|row 334) is 'inf'") as refused:
                CSV(path, memory=memory).split("train")
            told.append(str(refused.value))
        assert told[0] == told[1]
    path = save(table(), tmp_path / "l.csv")
    with pytest.raises(UsageError, match=r"does not fit data.support=levels:3: .*found 0 to 4"):
        CSV(path, columns=["k"], support="levels:3", memory=0).split("train")


def test_a_value_beyond_float32_of_a_new_table_is_refused_in_a_line(tmp_path):
    frame = table()[["a", "b"]]
    trained = CSV(save(frame, tmp_path / "t.csv"))
    trained.split("train")
    frame.loc[7, "a"] = 1e200
    for memory in (4, 0):
        new = CSV(save(frame, tmp_path / "new.csv"), memory=memory)
        new.apply(trained.schema())
        new.keep_float64(False, False)
        with pytest.raises(UsageError, match="a value is beyond float32"):
            new.whole()


def test_a_full_disk_is_named_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    path = save(table()[["a", "b"]], tmp_path / "t.csv")
    with pytest.raises(UsageError, match=r"data.memory=0: a file of .* GB is needed in .*No space left on device"):
        CSV(path, memory=0).split("train")


@pytest.mark.parametrize("name", ["PK_ID", "PAR1", "BZh9"])
def test_a_first_column_may_be_called_as_another_kind_of_file_begins(name, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{name},b\n" + "".join(f"{i},{i / 2}\n" for i in range(9)))
    assert read(path).numbers(name).tolist() == list(range(9))


def test_numbers_of_parquet_are_those_of_its_columns(tmp_path):
    frame = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "wide": [1, 2**53 + 1, 3],
            "rare": pd.array([1, None, 3], dtype="Int64"),
            "half": np.array([0.5, 1.5, 2.5], dtype="f4"),
            "yes": [True, False, True],
            "word": [" a", None, "c"],
            "few": pd.Categorical(["u", "v ", "u"]),
        }
    )
    found = read(_parquet(frame, tmp_path))
    assert [*found.places] == ["whole", "half"]
    assert found.first_row() == {
        "whole": "1",
        "wide": "1",
        "rare": "1",
        "half": "0.5",
        "yes": "True",
        "word": "a",
        "few": "u",
    }
    assert found.matrix(["half", "yes", "whole"]).tolist() == [[0.5, 1, 1], [1.5, 0, 2], [2.5, 1, 3]]
    assert (found.texts("whole"), found.texts("word")) == (["1", "2", "3"], ["a", "", "c"])
    assert found.texts("few") == ["u", "v", "u"]
    assert found.missing("rare").tolist() == found.missing("word").tolist() == [False, True, False]
    with pytest.raises(UsageError, match="column 'wide', row 2 is 9007199254740993, an integer that float64 would"):
        found.numbers("wide")
    with pytest.raises(UsageError, match="column 'rare', row 2 is missing"):
        found.numbers("rare")


def test_parquet_of_more_or_fewer_rows_than_it_says_is_refused(tmp_path):
    def found(content):
        path.write_bytes(content)
        try:
            return str(len(read(path)))
        except UsageError as error:
            return str(error)

    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": np.arange(50.0), "b": np.arange(50.0)}).to_parquet(path, compression="none")
    whole, told = path.read_bytes(), set()
    for said in (b"\x16\x78", b"\x16\x50"):  # 60 and 40 in each place that may say 50
        places = [k for k in range(len(whole)) if whole[k : k + 2] == b"\x16\x64"]
        told |= {found(whole[:at] + said + whole[at + 2 :]) for at in places}
    assert any("it has 50 rows and says 60" in text for text in told)
    assert all(text == "50" or "is no table" in text for text in told)


def test_a_column_of_parquet_is_taken_by_its_place(tmp_path):
    path = tmp_path / "t.parquet"
    numbers = pa.array([1.5, 2.5, 4.5]), pa.array([0, 1, 2]), pa.array([2**53 + 1, 5, 9])
    parquet.write_table(pa.Table.from_arrays(list(numbers), names=["a", "", ""]), path)
    found = read(path)
    assert (found.unnamed, found.notes) == ((3,), ("column 2 has no name and counts the rows: it is left out",))


def test_a_large_npz_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500)
    np.savez(tmp_path / "z.npz", a=np.arange(200.0), b=np.arange(200.0))
    monkeypatch.undo()
    assert read(tmp_path / "z.npz").numbers("b").tolist() == list(range(200))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PAR1\x15\x04\x15garbage", "footer"), (b"PK\x03\x04garbage", "not a zip file"), (b"\x1f\x8bno", "no table")],
)
def test_a_damaged_file_is_named_by_what_it_was(content, message, tmp_path):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "t")


def test_a_new_table_of_bits_needs_no_training_rows(tmp_path):
    frame = pd.DataFrame({"a": [0, 1, 1, 0] * 5, "s": ["train"] * 20})
    trained = CSV(save(frame, tmp_path / "t.csv"), support="binary", split="s")
    frame["s"] = "test"
    new = CSV(save(frame, tmp_path / "new.csv"), support="binary", split="s")
    new.apply(trained.schema())
    assert len(new.split("test")) == len(new.whole()) == 20


def test_columns_of_several_kinds_do_not_come_into_memory_at_once(tmp_path, monkeypatch):
    taken = []
    rows = Table.rows
    monkeypatch.setattr(Table, "rows", lambda self, index, names: taken.append(len(names)) or rows(self, index, names))
    path = save(table()[["a", "k", "b"]], tmp_path / "t.parquet")
    CSV(path, columns={"a": "real", "b": "real"}, memory=0).split("train")
    assert taken == [1, 1]


def _parquet(frame, folder):
    frame.to_parquet(folder / "t.parquet", row_group_size=1)
    return folder / "t.parquet"
