"""Curves, pairs of columns, and runs side by side."""

import shutil

import numpy as np
import pytest
import torch
from hostile.base import unseal
from PIL import Image

from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.data.preprocess import Preprocess
from gencli.data.sets.synthetic_tabular import SyntheticTabular
from gencli.models.classical.independent import Independent
from gencli.pictures import style
from gencli.pictures.compare import Compare
from gencli.pictures.curves import Curves, curve_of, keys_of
from gencli.pictures.pairs import Pairs
from gencli.pictures.several import numbers_of
from gencli.pictures.tables import columns
from gencli.pictures.training import Training
from gencli.run.assembly import Parts
from gencli.run.run import load
from gencli.samplers.direct import Direct


def line(step, split, **values):
    return {"step": step, "split": split, "seconds": step / 10, "weights": "raw", **values}


def test_curves_are_of_the_score_and_the_losses():
    lines = [
        line(5, "train", loss=2.0, lr=0.1),
        line(10, "train", loss=float("nan")),
        line(10, "val", nll=1.5, ess=3.0),
    ]
    other = [line(5, "train", loss_critic=1.0, loss_generator=3.0), line(5, "val", loss=0.3, active=1.0)]
    assert keys_of([lines, other], "train") == ["loss", "loss_critic", "loss_generator"]
    assert keys_of([lines, other], "val") == ["nll", "loss"]  # panels of their own
    found = curve_of(lines, "train", "loss")
    assert (found.step.tolist(), found.seconds.tolist(), found.value.tolist()) == ([5], [0.5], [2.0])
    assert curve_of(other, "val", "nll") is None


def test_long_curves_are_averaged():
    found = curve_of([line(k, "train", loss=float(k)) for k in range(5000)], "train", "loss")
    assert len(found.value) <= 2000
    assert np.allclose(found.step, found.value)


RECORD = {
    "bound": "exact",
    "value": 2.5,
    "unit": "nats",
    "split": "test",
    "split_sha256": "a",
    "protocol": {"data": "moons"},
}


def test_numbers_of_other_examples_are_said_not_to_compare():
    upper = {**RECORD, "bound": "upper", "value": 2.25, "diagnostics": {"nll_minus_entropy": 0.125}}
    said = numbers_of([RECORD, upper, {**upper, "split_sha256": "b"}, None])
    assert said == [
        "NLL = 2.500 nats\nexact",
        "NLL ≤ 2.250 nats\nupper bound\nNLL - H = 0.1250",
        "NLL ≤ 2.250 nats\nupper bound\nNLL - H = 0.1250\nnot comparable with the first",
        "no NLL",
    ]


def test_runs_stand_side_by_side(tiny_run):
    shutil.copytree(tiny_run, "other")
    parts = load(tiny_run, device="cpu").parts
    with style.applied():
        figure = Compare(runs=["other"], side=12).make(parts, 20, 0).figures[""]
    titles = [axis.get_title() for axis in figure.axes[:3]]
    assert titles == ["training examples", f"realnvp, {tiny_run.name}", "realnvp, other"]
    assert figure.axes[4].get_xlabel() == figure.axes[5].get_xlabel()  # the same run twice
    assert "NLL = " in figure.axes[4].get_xlabel()
    clouds = [axis.collections[0].get_offsets().data for axis in figure.axes[1:3]]
    assert np.array_equal(*clouds)
    colours = {axis.images[0].get_clim() for axis in figure.axes[3:6]}
    assert len(colours) == 1


def test_curves_of_other_data_are_named_by_them_and_have_no_entropy(tiny_run, tmp_path):
    shutil.copytree(tiny_run, "other")
    unseal(tmp_path / "other")
    config = tmp_path / "other" / "config.yaml"
    config.write_text(config.read_text().replace("data: moons", "data: rings"))
    with style.applied():
        figure = Curves(runs=["other"]).make(load(tiny_run, device="cpu").parts, 0, 0).figures[""]
    assert figure.get_suptitle() == "training"
    for axis in figure.axes[1::2]:
        assert axis.get_legend_handles_labels()[1] == ["realnvp on moons", "realnvp on rings"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["picture=compare", "picture.runs=[nowhere]"], "picture.runs: nowhere: no such run folder"),
        (["picture=curves", "picture.runs=3"], "picture.runs=3"),
        (["picture=pairs", "picture.columns=[x0]"], "Did you mean 'x[0]'?"),
        (["picture=pairs", "picture.columns=['x[1]']"], "2 to 12 columns"),
        (["picture=samples", "picture.means=true"], "picture.means=true needs a model with latent variables"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(words, says, tiny_run, capsys):
    before = sorted((tiny_run / "samples").iterdir())
    assert main(["sample", f"run={tiny_run}", "device=cpu", *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert sorted((tiny_run / "samples").iterdir()) == before


def test_a_stranger_among_the_runs_is_opened_like_any_run(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run, "foreign")
    unseal(tmp_path / "foreign")
    config = tmp_path / "foreign" / "config.yaml"
    config.write_text(config.read_text().replace("gencli.models.flows.coupling", "evil.coupling"))
    assert main(["sample", f"run={tiny_run}", "picture=compare", "picture.runs=[foreign]", "device=cpu"]) == 2
    assert "evil" in capsys.readouterr().err


def table():
    dataset = SyntheticTabular(train=300, val=10, test=10)
    preprocess = Preprocess(dataset.spec, Independent.supports, Independent.shapes)
    model = Independent(preprocess.model_spec)
    return Parts(torch.device("cpu"), dataset, preprocess, model, None, Direct(), None)


def test_columns_have_the_names_and_the_values_of_the_table():
    parts = table()
    x = parts.dataset.split("train").x
    found = columns(parts, x[:50], x[50:90])
    assert [column.name for column in found] == list(parts.dataset.to_rows(x[:1]))
    for k, column in enumerate(found):
        assert (len(column.data), len(column.samples)) == (50, 40)
        if not column.values:
            assert np.allclose(column.data, x[:50, k].double())


def test_pairs_have_data_below_and_samples_above_the_diagonal():
    parts = table()
    names = list(parts.dataset.to_rows(parts.dataset.split("train").x[:1]))
    with style.applied():
        figure = Pairs(columns=[names[1], names[0]], points=100).make(parts, 4, 0).figures[""]
    above, below = figure.axes[1], figure.axes[2]
    assert [axis.get_ylabel() for axis in (figure.axes[0], below)] == [names[1], names[0]]
    assert below.get_xlabel() == names[1]
    assert below.collections[0].get_facecolor()[0, 2] > above.collections[0].get_facecolor()[0, 2]  # data are blue
    with pytest.raises(UsageError, match="there is no column 'nix'"):
        Pairs(columns=["nix", names[0]]).make(parts, 4, 0)


def test_a_film_of_what_training_kept(tiny_run):
    shutil.copytree(tiny_run, "run")
    parts = load("run", device="cpu").parts
    with pytest.raises(UsageError, match=r"trainer\.sample_every=100; this run has none$"):
        Training().make(parts, 4, 0)
    samples = parts.run / "samples"
    for step, colour in ((5, "red"), (10, "blue"), (20, "lime")):
        Image.new("RGB", (90, 60), colour).save(samples / f"step-{step:07d}.png")
    Image.new("RGB", (50, 50), "red").save(samples / "step-best.png")  # no step
    with style.applied():
        film = Training().show(parts, 4, 0)
    assert (film.n_frames, film.size) == (3, (90, 96))
    seen = []
    for k in range(3):
        film.seek(k)
        seen.append(film.convert("RGB").getpixel((45, 90)))
    assert seen == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    (samples / "step-0000030.png").symlink_to(samples / "step-0000005.png")
    with pytest.raises(UsageError, match=r"step-0000030\.png cannot be read"):
        Training().make(parts, 4, 0)
