"""Samples as other programs read them: the same numbers, the data's own names, whole files or none."""

import csv
import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gencli.cli.main import main
from gencli.core.errors import RunFailed
from gencli.core.files import write_folder
from gencli.core.spec import Spec, Support
from gencli.data.sets.digits import Digits
from gencli.data.sets.toys import Toy
from gencli.pictures.export import export


class Pets(Toy):
    """Two reals, a class of three with names; a name that a table must quote, and a column of integers and gaps."""

    def to_rows(self, x):
        return {"height, cm": x[:, 0].tolist(), "kind": ["a\nb", 'c"', "=1"], "n": [1, None, 3]}

    def class_names(self):
        return ["cat", "dog", "zèbre"]

    def context_names(self):
        return ["pet"]


def written(folder, dataset, asked, x, y=None):
    (folder / "samples").mkdir(exist_ok=True)
    return export(SimpleNamespace(dataset=dataset), folder, "s", asked, x, y)


def test_a_table_comes_back_as_it_was(tmp_path):
    import pyarrow.parquet

    x, y = torch.tensor([[0.1, 1.0], [1e-8, 2.0], [-3.0, 1 / 3]]), torch.tensor([2, 0, 1])
    paths = written(tmp_path, Pets(which="moons"), ["csv", "parquet"], x, y)
    assert [path.name for path in paths] == ["s.csv", "s.parquet"]
    rows = list(csv.reader(io.StringIO(paths[0].read_text(encoding="utf-8"))))
    assert rows == [
        ["height, cm", "kind", "n", "pet"],
        ["0.1", "a\nb", "1", "zèbre"],
        ["1e-08", 'c"', "", "cat"],
        ["-3.0", "=1", "3", "dog"],
    ]
    found = pyarrow.parquet.read_table(paths[1])
    assert [str(kind) for kind in found.schema.types] == ["double", "string", "int64", "string"]
    assert found.to_pydict()["n"] == [1, None, 3]
    assert found.to_pydict()["height, cm"] == x[:, 0].tolist()


def test_columns_without_names_and_their_context(tmp_path):
    x, y = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 2)
    (path,) = written(tmp_path, Toy(which="moons"), ["csv"], x, y)
    rows = list(csv.reader(io.StringIO(path.read_text())))
    assert rows[0] == ["x0", "x1", "y0", "y1"]
    assert np.array_equal(np.array(rows[1:], dtype=float)[:, :2], x.numpy())  # all digits of fp64
    assert np.array_equal(np.array(rows[1:], dtype=np.float32)[:, 2:], y.numpy())
    (path,) = written(tmp_path, Toy(which="moons"), ["npz"], x, y)
    assert np.array_equal(np.load(path)["labels"], y.numpy())


def test_images_are_pixels_of_their_own(tmp_path):
    dataset = Digits()
    batch = dataset.split("test").gather(torch.arange(12))
    (folder,) = written(tmp_path, dataset, ["png"], batch.x, batch.y)
    files = sorted(path.name for path in folder.iterdir())
    assert files == [f"{i:02d}-{batch.y[i]}.png" for i in range(12)]
    image = Image.open(folder / files[7])
    assert (image.mode, image.size) == ("L", (8, 8))
    assert np.array_equal(np.asarray(image), np.round(batch.x[7, 0].numpy() * (255 / 16)).astype(np.uint8))
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"s"}


def test_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(self, data):
        if self.name == "b":
            raise KeyboardInterrupt
        return len(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "images", {"a": b"1", "b": b"2"})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_folder(tmp_path / "images", {"a": b"1"})
    with pytest.raises(RunFailed, match="images cannot be written"):
        write_folder(tmp_path / "images", {"a": b"2"})
    assert (tmp_path / "images" / "a").read_bytes() == b"1"
    assert len(list(tmp_path.iterdir())) == 1


def test_pictures_of_other_shapes_are_arrays_only():
    from gencli.pictures.export import _fitting

    toy = Toy(which="moons")
    toy.spec = Spec((2, 8, 8), Support("real"))
    assert _fitting(toy) == ["npz"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["format=png"], "format=png: data=moons can be written as npz, csv, parquet"),
        (["format=[npz,txt]"], "format=txt: data=moons can be"),
        (["format=cvs"], "Did you mean 'csv'?"),
        (["format=3"], "format=3: there is no such format"),
        (["format=[]"], "at least one of npz, csv"),
        (["format=csv", "picture=neighbours"], "not for picture=neighbours"),
        (["format=csv", "n=0"], "n=0: at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(words, says, tiny_run, capsys):
    before = sorted((tiny_run / "samples").iterdir())
    assert main(["sample", f"run={tiny_run}", *words]) == 2
    assert says in capsys.readouterr().err
    assert sorted((tiny_run / "samples").iterdir()) == before


def test_only_what_was_asked_for_is_written(tiny_run, capsys):
    shutil.copytree(tiny_run, "run")
    assert main(["sample", "run=run", "n=5", "format=[csv,npz,csv]", "name=five"]) == 0
    files = sorted(path.name for path in Path("run/samples").glob("five*"))
    assert files == ["five.csv", "five.npz"]
    rows = list(csv.reader(io.StringIO(Path("run/samples/five.csv").read_text())))
    assert np.array_equal(np.array(rows[1:], dtype=np.float32), np.load("run/samples/five.npz")["samples"])


def test_a_grid_of_classes_in_turn_has_their_names(monkeypatch):
    from gencli.pictures import canvas
    from gencli.pictures.samples import of_samples

    class Named(Digits):
        def class_names(self):
            return [f"digit {k}" for k in range(10)]

    said = []
    monkeypatch.setattr(canvas, "blocks", lambda shown, title: said.append([(b.columns, b.heads) for b in shown]))
    sampler = SimpleNamespace(given=None, classes=[3, 8])
    parts = SimpleNamespace(dataset=Named(), sampler=sampler, model=SimpleNamespace(conditional=True), run=None)
    parts.checkpoint = None
    x = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    of_samples(parts, x, torch.tensor([3, 8, 3, 8, 3]))
    assert said.pop() == 2 * [(2, ["digit 3", "digit 8"])]  # training examples of the same classes, and samples
    of_samples(parts, x, torch.tensor([3, 8, 8, 8, 3]))
    assert said.pop() == 2 * [(2, [])]  # not in turn: no column has a name


def test_all_training_examples_stand_beside_more_samples(monkeypatch):
    from gencli.pictures import canvas
    from gencli.pictures.samples import of_samples

    said = []
    monkeypatch.setattr(canvas, "blocks", lambda shown, title: said.append([len(b.images) for b in shown]))
    parts = SimpleNamespace(dataset=Digits(), sampler=None, model=SimpleNamespace(conditional=False), run=None)
    parts.checkpoint = None
    of_samples(parts, torch.zeros(1500, 1, 8, 8, dtype=torch.uint8))
    assert said == [[1297, 1500]]
