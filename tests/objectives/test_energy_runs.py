"""Runs of energies: what their chains resume, how they fail, and what they learn of modes that lie apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from energies import normal, two_modes
from torch import Tensor

import gencli
from benchmarks.energies import left_weight
from gencli.cli.main import main
from gencli.core.errors import RunFailed, UsageError
from gencli.run.sampling import draw

RUN = ["data=moons", "data.train=500", "data.val=50", "data.test=50", "model=ebm", "model.net.vector.hidden=[16]"]
CHEAP = ["estimator=importance", "estimator.samples=100", "estimator.proposal.kind=gaussian"]
RUN += [
    "trainer.eval_every=6",
    "trainer.log_every=6",
    "trainer.batch_size=16",
    "logger=none",
]
RUN += ["optimizer.schedule=constant", "optimizer.warmup_steps=0", "n=0", "device=cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [["objective=pcd", "objective.buffer=50"], ["objective=mcmc_mle"]])
def test_chains_resume_to_the_bit(options, tmp_path):
    from gencli.run import checkpoint

    whole = gencli.train([*RUN, *CHEAP, *options, "trainer.max_steps=12", f"run_dir={tmp_path / 'whole'}"])
    gencli.train([*RUN, *CHEAP, *options, "trainer.max_steps=6", f"run_dir={tmp_path / 'part'}"])
    part = gencli.train([f"resume={tmp_path / 'part'}", "trainer.max_steps=12"])
    a, b = (checkpoint.read(run.path / "checkpoints" / "last.safetensors")[0] for run in (whole, part))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(name.startswith("objective/") for name in a)


def test_a_diverging_training_names_the_step(tmp_path):
    with pytest.raises(RunFailed, match=r"objective\.step=1e\+?20, 10 steps, largest norm (inf|nan)"):
        gencli.train(
            [*RUN, *CHEAP, "objective=cd", "objective.step=1e20", "trainer.max_steps=6", f"run_dir={tmp_path / 'x'}"]
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "advice"),
    [
        ("cd", r"objective\.step=0\.01, 10 steps, largest norm"),
        ("pcd", r"objective\.step=0\.01, 10 steps, largest norm"),
        ("mcmc_mle", "HMC with a step size of .*, largest norm of a chain"),
        ("energy_discrepancy", "smaller optimizer.lr"),
        ("score_matching", "smaller optimizer.lr"),
    ],
)
def test_a_diverging_energy_names_rate_and_norm_and_keeps_the_checkpoint(objective, advice, tmp_path):
    run = [*RUN, *CHEAP, f"objective={objective}", "trainer.max_steps=6", f"run_dir={tmp_path / 'x'}"]
    last = gencli.train(run).path / "checkpoints" / "last.safetensors"
    before = last.read_bytes()
    with pytest.raises(RunFailed, match=r"learning rate of 1e\+30 and parameters of norm .*" + advice):
        gencli.train([f"resume={tmp_path / 'x'}", "trainer.max_steps=30", "optimizer.lr=1e30"])
    assert last.read_bytes() == before
    again = gencli.load(tmp_path / "x")
    assert again.model.energy(normal(5, 2).float()).isfinite().all()


@pytest.mark.slow
def test_a_run_of_an_energy_end_to_end(tmp_path):
    run = gencli.train(
        [
            *RUN,
            "trainer.max_steps=12",
            "estimator=ais",
            "estimator.betas=20",
            "estimator.chains=16",
            "estimator.refresh=5",
            "sampler=hmc",
            "sampler.steps=4",
            "sampler.warmup=4",
            "n=8",
            f"run_dir={tmp_path / 'x'}",
        ]
    )
    record = run.results[0]
    assert record["bound"] == "lower"
    assert record["se_estimator"] == pytest.approx(record["diagnostics"]["log_z_se"])
    assert {"log_z", "ess", "log_z_reverse", "log_z_gap", "acceptance"} <= record["diagnostics"].keys()
    exact = run.nll("test", estimator="quadrature")
    assert exact["bound"] == "exact"
    assert exact["value"] == pytest.approx(record["value"], abs=4 * record["se_estimator"] + 2e-3)
    assert run.sample(5).shape == (5, 2)
    assert {"acceptance", "r_hat"} <= draw(run.parts, 5, 0).diagnostics.keys()
    assert (run.path / "samples" / "hmc.png").exists()
    assert main(["sample", f"run={run.path}", "picture=chains", "n=6", "sampler=mala", "sampler.steps=8"]) == 0
    (picture,) = (run.path / "samples").glob("chains-sampler=mala-*seed0.png")
    assert picture.stat().st_size > 10_000
    assert main(["sample", f"run={run.path}", "picture=chains", "sampler=direct"]) == 2


def test_the_weight_of_a_mode():
    """The half-plane that benchmarks/energies.py looks at, of mixtures whose weights are known."""
    model = two_modes()
    with torch.no_grad():
        model.normals.mean[:, 0] -= 4
    assert left_weight(model) == pytest.approx(0.2, abs=1e-4)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.7, 0.3]).log())
    assert left_weight(model) == pytest.approx(0.7, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["two_gaussians_ebm", "two_gaussians_nce"])
def test_far_modes_get_their_weights(recipe, tmp_path):
    run = gencli.train(
        [
            f"experiment={recipe}",
            "data.train=20000",
            "data.val=200",
            "data.test=100",
            "estimator=null",
            "trainer.max_steps=400",
            "trainer.eval_every=400",
            "logger=none",
            "n=0",
            f"run_dir={tmp_path / 'x'}",
        ]
    )
    assert left_weight(run.model) == pytest.approx(0.2, abs=0.02)


@pytest.mark.slow
def test_a_flow_is_tilted_and_log_z_is_zero_at_the_start(tiny_run):
    """The run's own density is the base of an energy, the noise of NCE and the start of AIS."""
    own = ["model.base=run", f"model.run={tiny_run}", "objective=nce", "objective.noise.kind=run"]
    own += [f"objective.noise.run={tiny_run}", "estimator=ais", "estimator.base.kind=run", "estimator.betas=5"]
    own += [f"estimator.base.run={tiny_run}", "estimator.chains=16", "estimator.refresh=2"]
    run = gencli.train([*RUN, *own, "trainer.max_steps=1", "optimizer.lr=0.0", "run_dir=tilted"])
    flow = gencli.load(tiny_run)
    assert run.results[0]["diagnostics"]["log_z"] == pytest.approx(0, abs=1e-5)  # f is 0: all weights are 1
    assert run.results[0]["value"] == pytest.approx(float(-flow.log_prob(flow_test(run)).mean()), abs=1e-4)
    again = gencli.load("tilted")
    assert Path(again.config["model"]["run"]).is_absolute()
    assert not any(p.requires_grad for p in again.model.base.parameters())
    with pytest.raises(UsageError, match=r"model\.run=FOLDER is needed"):
        gencli.train([*RUN, "model.base=run"])
    with pytest.raises(UsageError, match=r"data\.transform=standardize: the run .* has none"):
        gencli.train([*RUN, "model.base=run", f"model.run={tiny_run}", "data.transform=standardize"])
    with pytest.raises(UsageError, match="no such run folder"):
        gencli.train([*RUN, "model.base=run", "model.run=nowhere"])


def flow_test(run) -> Tensor:
    split = run.parts.dataset.split("test")
    return split.gather(torch.arange(len(split))).x
