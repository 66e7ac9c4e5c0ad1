"""Runs of a VAE whose prior is an energy: what the record says of it, how it is drawn and resumed, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from runs import same, tensors

import gencli
from gencli.cli.main import main
from gencli.core.errors import RunFailed
from gencli.objectives import latent

RUN = ["data=moons", "data.train=300", "data.val=40", "data.test=40", "model=vae", "model.net.vector.hidden=[8]"]
RUN += ["model.prior=energy", "model.energy.hidden=[8]", "model.energy.steps=10", "objective.prior_steps=3"]
RUN += ["estimator.k=20", "estimator.chains=8", "estimator.betas=5", "logger=none", "n=0", "device=cpu", "threads=1"]
RUN += ["trainer.batch_size=16", "trainer.eval_every=4", "trainer.log_every=4"]
RUN += ["optimizer.schedule=constant", "optimizer.warmup_steps=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "three"
    gencli.train([*RUN, "model.latent=3", "trainer.max_steps=8", f"run_dir={folder}"])
    return folder


def record(folder, estimator="iwae"):
    (file,) = (folder / "eval").glob(f"test-{estimator}*.json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_the_record_of_many_codes_is_no_bound(run, capsys):
    found = record(run)
    assert found["bound"] == "estimate"
    assert found["settings"] == {"k": 20, "rows": 2000, "chains": 8, "betas": 5}
    assert found["se_shared"] == pytest.approx(found["diagnostics"]["log_z_se"])
    assert {"log_z_forward", "log_z_reverse", "log_z_gap"} <= found["diagnostics"].keys()
    assert main(["eval", f"run={run}", "estimator=elbo", "estimator.chains=8", "estimator.betas=5"]) == 0
    assert "test NLL ~ " in capsys.readouterr().out
    assert record(run, "elbo")["bound"] == "estimate"


@pytest.mark.slow
def test_the_chain_of_codes_is_told(run, capsys):
    assert main(["sample", f"run={run}", "n=5"]) == 0
    said = capsys.readouterr().out
    assert "latent chain steps 10\n" in said
    assert "latent acceptance 0." in said or "latent acceptance 1\n" in said


@pytest.mark.slow
@pytest.mark.parametrize("options", [["objective.prior=energy_discrepancy"], ["objective=iwae", "objective.k=3"]])
def test_it_resumes_to_the_bit_and_the_record_of_two_codes_is_a_bound(options, tmp_path):
    common = [*RUN, "model.latent=2", *options]
    gencli.train([*common, "trainer.max_steps=8", f"run_dir={tmp_path / 'whole'}"])
    gencli.train([*common, "trainer.max_steps=4", f"run_dir={tmp_path / 'part'}"])
    gencli.train([f"resume={tmp_path / 'part'}", "trainer.max_steps=8"])
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "part")) == []
    found = record(tmp_path / "part")
    assert found["bound"] == "upper"
    assert "chains" not in found["settings"]


def test_what_does_not_fit_is_refused_in_a_line(capsys, tmp_path):
    for words, said in (
        (["model.prior=vamp"], "objective.prior=short_run: it is for model.prior=energy"),
        (["objective.free_bits=0.1"], "objective.free_bits=0.1: "),
        (["model.energy.steps=0"], "model.energy.steps=0: an integer of at least 1"),
        (["objective.prior=short"], "objective.prior=short: "),
    ):
        given = [*RUN, "objective.prior=short_run", *words, f"run_dir={tmp_path / 'none'}"]
        assert main(["train", *given]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith(f"error: {said}")
        assert "\n" not in error
        assert not (tmp_path / "none").exists()


def test_an_estimate_that_cannot_be_ends_the_training(monkeypatch, tmp_path):
    """Else the checkpoint whose log Z is underestimated most would be the best."""
    monkeypatch.setattr(latent, "annealed", lambda energy, rows, noise: torch.tensor(-1e6))
    bits = [word for word in RUN if not word.startswith(("data", "model.net"))] + ["data=digits", "data.binarize=7"]
    told = r"nll_estimate is -\S+ nats .* no NLL of integers is negative.* objective.prior_lr_fraction"
    with pytest.raises(RunFailed, match=told):
        gencli.train([*bits, "model.latent=3", "trainer.max_steps=4", f"run_dir={tmp_path / 'run'}"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
