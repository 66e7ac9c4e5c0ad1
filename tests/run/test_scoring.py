"""One way to score: what Python is told of an example is what its record keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch

import gencli
from gencli.cli.main import main
from gencli.core.errors import UsageError

IMAGES = Path(__file__).resolve().parents[1] / "golden" / "images.npz"
QUICK = [
    "logger=none",
    "device=cpu",
    "n=0",
    "trainer.max_steps=2",
    "trainer.eval_every=2",
    "trainer.eval_batch_size=17",
]
MOONS = ["data.train=500", "data.test=100"]
RUNS = {
    "integers": ["model=gaussian", "data=digits", "model.covariance=diagonal", "data.transform=logit"],
    "bytes": ["model=gaussian", "model.covariance=diagonal", "data=array", f"data.path={IMAGES}", "estimator.draws=3"],
    "classes": ["model=glow", "model.conditional=true", "data=digits", "model.steps=1", "model.net.image.width=4"],
    "levels": ["model=made", "data=digits", "model.hidden=[8]"],
    "reals": ["model=gmm", "data=moons", *MOONS, "data.transform=standardize"],
    "text": ["model=ngram", "data=hmm", "data.train=400", "data.val=80", "data.test=80", "data.window=8"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_log_prob_of_an_example_is_what_its_record_keeps(name, tmp_path):
    run = gencli.train([*QUICK, *RUNS[name], f"run_dir={tmp_path}/run"])
    kept = torch.from_numpy(np.load(tmp_path / "run" / "eval" / "test-exact.npz")["nll"])
    run = gencli.load(tmp_path / "run")  # as anyone opens it
    split = run.parts.dataset.split("test")
    batch = split.gather(torch.arange(len(split)))
    y = batch.y if run.model.conditional else None
    assert torch.equal(-run.log_prob(batch.x, y, given=batch.given), kept)

    some = torch.tensor([7, 3, 5])
    few = [None if part is None else part[some] for part in (batch.x, y, batch.given)]
    assert torch.allclose(-run.log_prob(few[0], few[1], given=few[2], ids=some), kept[some], atol=1e-4)
    elsewhere = torch.allclose(-run.log_prob(few[0], few[1], given=few[2]), kept[some], atol=1e-4)
    assert elsewhere is not run.parts.preprocess.stochastic  # noise goes by position
    if run.parts.preprocess.stochastic:
        assert not torch.allclose(-run.log_prob(batch.x, y, seed=1), kept, atol=1e-4)


@pytest.mark.slow
def test_another_measurement_changes_no_log_prob(tiny_run):
    run = gencli.load(tiny_run)
    x = run.sample(5)
    before = run.log_prob(x)
    own = run.parts.estimator
    run.nll("val", estimator="quadrature", examples=10)
    assert run.parts.estimator is own
    assert torch.equal(run.log_prob(x), before)


@pytest.mark.slow
def test_samples_of_a_seed_are_scored_under_it_as_under_another(tmp_path):
    run = gencli.train([*QUICK, *RUNS["integers"], f"run_dir={tmp_path}/run"])
    x = run.sample(3000)
    between = run.log_prob(x) - run.log_prob(x, seed=1)  # noise that a sample was made by would fit it too well
    assert abs(float(between.mean())) < 4 * float(between.std()) / len(x) ** 0.5


def test_samples_of_256_levels_are_in_data_units(tmp_path):
    run = gencli.train([*QUICK, *RUNS["bytes"], f"run_dir={tmp_path}/run"])
    x = run.sample(3)
    assert x.dtype == torch.uint8
    assert torch.equal(run.log_prob(x), run.log_prob(x.long()))
    assert torch.equal(run.log_prob(x), run.log_prob(x.float()))
    for wrong in (x.long() + 256, x.float() + 0.5, x.long() - 256, x.float() * torch.nan):
        with pytest.raises(UsageError, match=r"x is not in data units: integers 0\.\.255"):
            run.log_prob(wrong)
    with pytest.raises(UsageError, match=r"ids=\.\.\.\): 2 ids for 3 rows"):
        run.log_prob(x, ids=torch.arange(2))


@pytest.mark.slow
def test_validation_is_scored_as_the_record_is(tmp_path):
    """The same examples, model and ledger; on real data there is no noise that could differ."""
    run = gencli.train([*QUICK, *RUNS["reals"], "trainer.ema_decay=0", f"run_dir={tmp_path}/run"])
    best = min(line["nll"] for line in run.metrics if line["split"] == "val")  # of the checkpoint that is opened
    assert run.nll("val")["value"] == best


@pytest.mark.slow
def test_a_run_without_an_estimator_says_so(tmp_path, capsys):
    """Whether the section was removed or set to null."""
    for name, how in (("removed", "~estimator"), ("null", "estimator=null")):
        folder = tmp_path / name
        gencli.train([*QUICK, *RUNS["reals"], how, f"run_dir={folder}"])
        run = gencli.load(folder)
        assert run.config["estimator"] is None
        assert run.results == []
        with pytest.raises(UsageError, match=r"this run has no NLL estimator"):
            run.nll()
        assert len(run.log_prob(run.sample(2))) == 2
        assert main(["eval", f"run={folder}", "estimator=exact"]) == 0
        assert "test NLL = " in capsys.readouterr().out
