"""The question ``posterior``: of models that know the truth, and by command of runs that have hardly been trained."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from simulators import exact

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError
from gencli.data.sets.toys import Toy
from gencli.methods.posteriors import task_of
from gencli.samplers.posterior import Posterior


@pytest.mark.parametrize("target", ["parameters", "observations"])
def test_an_answer_is_of_the_observation_that_was_asked_about(target):
    subject = exact("gaussian_linear", target, test=5)
    found = Posterior(observed=3).answer(subject, 400)
    theta, x = (values[3] for values in subject.dataset.observations)
    assert torch.equal(found.arrays["truth"], theta)
    assert torch.equal(found.arrays["observed"], x)
    error = (0.05 / (100 if target == "observations" else 400)) ** 0.5
    assert (found.arrays["posterior"].mean(0) - x / 2).abs().max() < 4 * error
    assert found.arrays["reference"].shape == (400, 10)
    assert len(found.notes) == 10


def test_an_observation_of_a_file(tmp_path):
    subject = exact("gaussian_mixture", test=5)
    np.save(tmp_path / "x.npy", np.array([1.5, -2.0]))
    (tmp_path / "x.csv").write_text("x_1,x_2\n1.5,-2.0\n")
    for file in ("x.npy", "x.csv"):
        found = Posterior(observed=str(tmp_path / file)).answer(subject, 200)
        assert found.arrays["observed"].tolist() == [1.5, -2.0]
        assert "truth" not in found.arrays
    np.save(tmp_path / "wrong.npy", np.zeros(3))
    np.save(tmp_path / "large.npy", np.array([1, 2**53 + 1]))
    with pytest.raises(
        UsageError, match=r"sampler\.observed=.*holds the integer 9007199254740993, which float64 would"
    ):
        Posterior(observed=str(tmp_path / "large.npy")).answer(subject, 10)
    for observed, wanted in (("wrong.npy", "holds 3 numbers"), ("none.npy", "there is no such file"), (10, "0 to 9")):
        asked = observed if isinstance(observed, int) else str(tmp_path / observed)
        with pytest.raises(ValueError, match=rf"sampler\.observed=.*{wanted}"):
            Posterior(observed=asked).answer(subject, 10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A posterior estimator and a likelihood estimator, of a few steps each."""
    folder = tmp_path_factory.mktemp("runs")
    data = ["data=simulator", "data.task=gaussian_mixture", "data.simulations=60", "data.test=40"]
    model = ["model=maf", "model.conditional=true", "model.transforms=1", "trainer=quick", "trainer.max_steps=3"]
    for name, target in (("npe", "parameters"), ("nle", "observations")):
        words = [*data, *model, f"data.target={target}", f"run_dir={folder / name}", "threads=1"]
        assert main(["train", *words]) == 0
    return folder


@pytest.mark.slow
def test_a_run_is_asked_by_command(runs, capsys):
    assert main(["sample", f"run={runs / 'npe'}", "sampler=posterior", "sampler.observed=2", "n=60"]) == 0
    said = capsys.readouterr().out
    assert "leakage 0" in said
    arrays = np.load(runs / "npe" / "samples" / "posterior-observed=2-seed0.npz")
    assert arrays["posterior"].shape == (60, 2)
    assert np.abs(arrays["posterior"]).max() < 10  # inside of the prior
    assert (runs / "npe" / "samples" / "posterior-observed=2-seed0.png").is_file()
    answer = gencli.load(runs / "nle").ask("posterior", n=60, observed=2, steps=10)
    assert answer.diagnostics.keys() == {"acceptance", "r_hat", "ess", "levels"}


@pytest.mark.slow
def test_metrics_and_pictures_of_a_posterior(runs):
    words = ["metrics=[sbc,excess_nll]", "metrics.sbc.examples=20", "metrics.sbc.draws=19", "metrics.sbc.bins=4"]
    assert main(["eval", f"run={runs / 'npe'}", *words]) == 0
    found = {file.name: json.loads(file.read_text()) for file in (runs / "npe" / "eval").glob("test-*.json")}
    excess = next(record for name, record in found.items() if name.startswith("test-excess_nll"))
    assert excess["value"] > 0.3  # three steps
    assert excess["n_reference"] == 40
    asked = ["picture=ranks", "picture.examples=20", "picture.draws=19", "picture.bins=4"]
    assert main(["sample", f"run={runs / 'npe'}", *asked]) == 0
    assert (runs / "npe" / "samples" / "ranks-examples=20-draws=19-bins=4-seed0.png").is_file()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["sampler=posterior", "sampler.observed=11"], "sampler.observed=11: 0 to 9"),
        (["picture=corner"], "sampler=posterior asks the question"),
        (["sampler=posterior", "sampler.observe=1"], "sampler.observe"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(runs, capsys, words, wanted):
    assert main(["sample", f"run={runs / 'npe'}", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert wanted in said
    assert "\n" not in said


def test_training_refuses_a_question(tmp_path, capsys):
    words = [
        "data=simulator",
        "model=maf",
        "model.conditional=true",
        "sampler=posterior",
        f"run_dir={tmp_path / 'run'}",
    ]
    assert main(["train", *words]) == 2
    assert not (tmp_path / "run").exists()


def test_data_without_a_prior_have_no_posterior():
    with pytest.raises(ValueError, match=r"data=moons has no prior and no simulator"):
        task_of(SimpleNamespace(dataset=Toy("moons"), model=None))
