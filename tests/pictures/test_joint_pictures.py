"""Classes and pictures of runs: a joint energy, a model of p(x given y), an RBM, each trained for a few steps."""

import json

import numpy as np
import pytest

import gencli
from gencli.cli import main as cli
from gencli.config.compose import compose
from gencli.core.errors import UsageError

FEW = ["trainer.max_steps=4", "trainer.eval_every=4", "trainer.log_every=2", "logger=none", "n=0", "device=cpu"]
DIGITS = ["data=digits", "data.flatten=true", "model.net.vector.hidden=[8]", "estimator=null"]


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "run"
    gencli.train(["model=joint_ebm", "model.covariance=diagonal", *DIGITS, *FEW, f"run_dir={folder}"])
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A flow of two labelled normals, read from arrays; its likelihoods are exact."""
    folder = tmp_path_factory.mktemp("conditional")
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 200), ("val", 40), ("test", 60)):
        y = (np.arange(n) % 4 == 0).astype(int)
        arrays |= {split: rng.normal(size=(n, 2)) + 2 * y[:, None], f"{split}_labels": y}
    np.savez(folder / "data.npz", **arrays)
    words = ["model=realnvp", "model.conditional=true", "data=array", f"data.path={folder / 'data.npz'}"]
    gencli.train([*words, "model.net.vector.hidden=[8]", "estimator=exact", *FEW, f"run_dir={folder / 'run'}"])
    return folder / "run", arrays


def record(run, name):
    return json.loads(next((run / "eval").glob(f"test-{name}*.json")).read_text())


@pytest.mark.slow
def test_a_joint_run_logs_both_parts_and_is_classified(joint, capsys):
    lines = [json.loads(line) for line in (joint / "metrics.jsonl").read_text().splitlines()]
    assert {"nll_y", "accuracy", "loss"} <= {key for line in lines for key in line if line["split"] == "train"}
    assert "loss+labels" in lines[-1]
    assert cli.main(["eval", f"run={joint}", "metrics=[classification]", "device=cpu"]) == 0
    assert "higher is better; 300 examples" in capsys.readouterr().out
    found = record(joint, "classification")
    assert 0 <= found["value"] <= 1
    assert found["settings"]["says"] == "by its own p(y | x)"


@pytest.mark.slow
def test_a_conditional_run_is_a_classifier_by_its_own_likelihoods(conditional):
    run, arrays = conditional
    opened = gencli.load(run)
    x, y = arrays["test"], arrays["test_labels"]
    log_p = np.stack([opened.log_prob(x, y=[k] * len(x)) for k in (0, 1)], 1) + np.log([0.75, 0.25])
    log_p -= np.logaddexp(log_p[:, :1], log_p[:, 1:])
    assert cli.main(["eval", f"run={run}", "metrics=[classification]", "device=cpu"]) == 0
    found = record(run, "classification")
    assert found["diagnostics"]["nll_y"] == pytest.approx(-log_p[np.arange(60), y].mean(), abs=1e-4)
    assert found["value"] == pytest.approx((log_p.argmax(1) == y).mean())
    assert found["settings"]["says"] == "by Bayes' rule from NLLs (exact)"


@pytest.mark.slow
@pytest.mark.parametrize("words", ["interpretation", "generation", "generation picture.by=minimum picture.steps=3"])
def test_pictures_of_a_joint_energy(joint, words, capsys):
    name, *options = words.split()
    options += ["picture.each=2"] if name == "generation" else []
    few = ["sampler.steps=2", "sampler.warmup=2", "n=4", "device=cpu"]
    assert cli.main(["sample", f"run={joint}", f"picture={name}", *options, *few]) == 0, capsys.readouterr().err
    told = "".join(f"-{option.removeprefix('picture.')}" for option in sorted(options))  # no other takes its place
    assert (joint / "samples" / f"{name}{told}-steps=2-warmup=2-seed0.png").stat().st_size > 1000


@pytest.mark.slow
def test_pictures_of_a_conditional_flow_and_of_hidden_units(conditional, tmp_path):
    run, _ = conditional
    for name in ("interpretation", "generation"):
        assert cli.main(["sample", f"run={run}", f"picture={name}", "n=4", "device=cpu"]) == 0
    rbm = ["model=rbm", "model.hidden=6", "data=digits", "data.binarize=7", "objective.buffer=32", "objective.steps=1"]
    gencli.train([*rbm, "estimator=null", *FEW, f"run_dir={tmp_path / 'rbm'}"])
    for words in (["picture=interpretation"], ["picture=generation"], ["picture=generation", "picture.by=minimum"]):
        assert cli.main(["sample", f"run={tmp_path / 'rbm'}", *words, "n=4", "device=cpu"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["metrics=[ood]"], "metrics=[ood] needs another data set: metrics.ood.against=NAME"),
        (["metrics=[ood]", "metrics.ood.against=moons"], "against=moons: its examples are real of shape (2,)"),
        (["metrics=[ood]", "metrics.ood.against=fashion_mnst"], "fashion_mnist"),
        (["metrics=[classification]", "metrics.classification.prior=uniform"], "p(y given x) of its own"),
    ],
)
def test_refusals_are_one_line(joint, words, message, capsys):
    assert cli.main(["eval", f"run={joint}", *words, "device=cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert len(said) == 1


def test_training_refuses_what_has_no_labels():
    with pytest.raises(UsageError, match="no labels"):
        gencli.train(["model=joint_ebm", "data=twentyfive_gaussians", *FEW])
    with pytest.raises(UsageError, match="cross_entropy cannot train model=ebm"):
        compose("train", ["model=ebm", "data=digits", "objective=cross_entropy"])
