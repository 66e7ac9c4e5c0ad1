"""How many examples a step sees: by the data and the device, unless it is said."""

import dataclasses

import numpy as np
import pytest
import torch

from gencli.config import sections
from gencli.config.compose import compose
from gencli.core.distributed import World
from gencli.core.errors import UsageError
from gencli.run.assembly import assemble
from gencli.training.batches import FEWEST, PLACES, ROWS, SCORED, SYMBOLS, settled

TEXT = ["model=made", "data=hmm", "data.train=400", "data.val=80", "data.test=80", "device=cpu"]


def parts_of(words, device="cpu"):
    cfg = compose("train", words)
    return cfg["trainer"], dataclasses.replace(assemble(cfg), device=torch.device(device))


def test_a_step_takes_a_number_of_symbols_of_a_text():
    section, parts = parts_of([*TEXT, "data.window=64"])
    assert section["batch_size"] == "auto"
    assert settled(section, parts, World()) == {**section, "batch_size": SYMBOLS["cpu"] // 64}
    assert settled(section, dataclasses.replace(parts, device=torch.device("meta")), World())["batch_size"] == ROWS
    assert settled({**section, "batch_size": 7}, parts, World())["batch_size"] == 7


def test_one_window_is_longer_than_a_step_and_short_ones_are_no_more_than_rows():
    section, parts = parts_of([*TEXT, "data.window=8"])
    assert settled(section, parts, World())["batch_size"] == ROWS
    long = dataclasses.replace(parts.dataset.spec, shape=(100_000,))
    parts.dataset.spec = long
    assert settled(section, parts, World())["batch_size"] == 1


def test_a_batch_that_was_asked_for_is_refused_if_it_does_not_divide():
    with pytest.raises(UsageError, match=r"trainer\.batch_size=128 does not divide into trainer\.accumulate=3"):
        compose("train", ["trainer.batch_size=128", "trainer.accumulate=3"])


def test_other_data_have_rows_that_divide_into_micro_batches():
    section, parts = parts_of(["model=gaussian", "data=moons", "device=cpu"])
    assert settled(section, parts, World())["batch_size"] == ROWS
    assert settled({**section, "accumulate": 3}, parts, World(size=2))["batch_size"] == 126


SIDE = 28
IMAGES = np.zeros((20, 1, SIDE, SIDE), dtype=np.uint8)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("model=vae", 16),
        ("model=flow_matching net@model.net=dit", 16),
        ("model=pixelcnn", 16),
        ("model=transformer model.layers=1", FEWEST),
        ("model=made model.hidden=[8]", ROWS),
        ("model=vae data.flatten=true", ROWS),
    ],
)
def test_a_network_at_every_place_of_an_image_has_few_rows_a_step_on_a_cpu(words, rows, tmp_path):
    IMAGES[:, :, ::2] = 255
    np.savez(tmp_path / "images.npz", train=IMAGES, test=IMAGES)
    where = [f"data.path={tmp_path}/images.npz"]
    section, parts = parts_of([*words.split(), "data=array", *where, "device=cpu"])
    found = settled(section, parts, World())
    assert (found["batch_size"], found["eval_batch_size"]) == (rows, SCORED if rows < ROWS else 500)
    assert settled({**section, "eval_batch_size": 7}, parts, World())["eval_batch_size"] == 7
    assert rows * SIDE**2 <= PLACES or rows == ROWS
    assert settled(section, dataclasses.replace(parts, device=torch.device("meta")), World())["batch_size"] == ROWS


@pytest.mark.parametrize(
    ("words", "optimizer", "steps"),
    [
        (["model=ergm", "data=florentine"], "few_parameters", 200),
        (["model=ergm", "data=florentine", "optimizer=sgd", "trainer=quick"], "sgd", 300),
        (["model=generator", "data=moons"], "game", 3000),
        (["model=realnvp", "data=moons", "objective=gan", "optimizer=adam"], "adam", 3000),
        (["model=ebm", "data=moons"], "energy", 3000),
        (["experiment=two_gaussians_ebm"], "adam", 5000),
    ],
)
def test_a_model_or_an_objective_chooses_how_it_is_trained_unless_it_is_said(words, optimizer, steps):
    cfg = compose("train", words)
    assert cfg["choices"]["optimizer"] == optimizer
    assert sections.trainer(cfg["trainer"]).steps(per_epoch=10) == steps


def test_n_grams_are_of_sequences():
    with pytest.raises(UsageError, match="model=ngram is of data laid out as vector or sequence; data=digits is image"):
        assemble(compose("train", ["model=ngram", "data=digits", "device=cpu"]))
