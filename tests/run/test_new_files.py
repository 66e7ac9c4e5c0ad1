"""A run on files of its user: evaluated on its own training file, renamed and re-encoded, it says the same nats."""

import json

import numpy as np
import pytest
from PIL import Image

import gencli
from gencli.cli import main as cli

QUICK = ["device=cpu", "logger=none", "trainer.max_steps=2", "n=0"]


pytestmark = pytest.mark.slow  # the runs that all of these share take a few seconds


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs whose training files are gone."""
    place = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 3 + 5
    np.savez(place / "rows.npz", data=x, labels=y)
    made = ["model=made", "model.hidden=[8]", "data.transform=none", *QUICK]
    gencli.train(
        [*made, "model.conditional=true", "data=array", f"data.path={place}/rows.npz", f"run_dir={place}/array"]
    )
    for kind in ("dog", "cat"):
        (place / "photos" / kind).mkdir(parents=True)
        for k in range(5):
            pixels = rng.integers(0, 256, (3, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / "photos" / kind / f"{k}.png")
    photos = ["data=image_folder", f"data.path={place}/photos", "data.size=3", "data.channels=1"]
    gencli.train([*made, *photos, f"run_dir={place}/images"])
    (place / "play.txt").write_text("to be or not to be\n" * 20)
    text = ["model=ngram", "data=text_file", f"data.path={place}/play.txt", "data.window=8", *QUICK]
    gencli.train([*text, f"run_dir={place}/text"])
    for name in ("rows.npz", "photos", "play.txt"):
        (place / name).rename(place / f"old-{name}")
    return place


def nats(runs, name, path, split="test"):
    assert cli.main(["eval", f"run={runs}/{name}", f"data.path={path}", f"split={split}"]) == 0
    written = (runs / name / "eval").glob(f"{split}-exact*.npz")
    with np.load(max(written, key=lambda file: file.stat().st_mtime_ns)) as rows:
        return rows["nll"]


def test_sampling_needs_no_training_file(runs):
    for name in ("array", "images", "text"):
        assert cli.main(["sample", f"run={runs}/{name}", "n=2", "name=again"]) == 0
        assert (runs / name / "samples" / "again.npz").exists()


def test_an_array_in_another_type_order_and_file(runs, tmp_path, capsys):
    with np.load(runs / "old-rows.npz") as kept:
        x, y = kept["data"], kept["labels"]
    first = nats(runs, "array", runs / "old-rows.npz"), nats(runs, "array", runs / "old-rows.npz", "all")
    np.savez(tmp_path / "new.npz", other=np.asfortranarray(x.astype(">f8")), labels=y.astype(str))
    np.testing.assert_array_equal(nats(runs, "array", tmp_path / "new.npz"), first[0])
    np.testing.assert_array_equal(nats(runs, "array", tmp_path / "new.npz", "all"), first[1])
    assert len(first[1]) == 30
    np.savez(tmp_path / "some.npz", test=x[12:15], test_labels=y[12:15])  # two of the three classes, in one split
    np.testing.assert_allclose(nats(runs, "array", tmp_path / "some.npz"), first[1][12:15], rtol=1e-5)

    np.save(tmp_path / "bare.npy", x)
    capsys.readouterr()
    assert cli.main(["eval", f"run={runs}/array", f"data.path={tmp_path}/bare.npy", "split=all"]) == 2
    assert "the model is conditional, but these examples have no labels" in capsys.readouterr().err


def test_images_in_another_format(runs, tmp_path):
    for file in (runs / "old-photos").rglob("*.png"):
        new = tmp_path / "new" / file.parent.name / f"{file.stem}.bmp"
        new.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(new)
    for split in ("test", "all"):
        first = nats(runs, "images", runs / "old-photos", split)
        np.testing.assert_array_equal(nats(runs, "images", tmp_path / "new", split), first)


def test_a_text_with_other_letters_is_read_by_the_run_s_alphabet(runs, tmp_path, capsys):
    text = (runs / "old-play.txt").read_text()
    first = nats(runs, "text", runs / "old-play.txt")
    (tmp_path / "new.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    np.testing.assert_array_equal(nats(runs, "text", tmp_path / "new.txt"), first)
    (tmp_path / "few.txt").write_text("to be\n" * 20)  # fewer letters: other symbols, if they were numbered anew
    assert nats(runs, "text", tmp_path / "few.txt", "all").mean() < 40
    record = json.loads(next((runs / "text" / "eval").glob("all-exact-few-*.json")).read_text())
    assert (record["n_symbols"], record["value"] < np.log(9)) == (120, True)
    (tmp_path / "more.txt").write_text(text[:30] + "Question")
    capsys.readouterr()
    assert cli.main(["eval", f"run={runs}/text", f"data.path={tmp_path}/more.txt", "split=all"]) == 2
    assert "the character 'Q' is not among the 8 of this data (line 2, column 12)" in capsys.readouterr().err
