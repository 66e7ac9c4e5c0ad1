"""Options of MADE, of its sampler and of its estimator; runs of ensembles."""

from __future__ import annotations

import json
import re

import pytest
import torch
from estimates import NOTHING
from masks import discrete, noise, real, states
from refusals import built

import gencli
from gencli.cli import main as cli
from gencli.core.errors import UsageError
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.exact import Exact
from gencli.models.autoregressive.made import MADE
from gencli.models.base import Ensemble
from gencli.models.classical.gaussian import Gaussian
from gencli.models.trained import Learned
from gencli.samplers.ancestral import Ancestral

BAD = [
    ("binary", {"masks": 0}, "model.masks=0: an integer of at least 1"),
    ("binary", {"orderings": "reversed"}, "model.orderings=reversed: one of natural, random"),
    ("levels:4", {"conditionals": "normal"}, "model.conditionals=normal: one of softmax, logistic or null"),
    ("levels:4", {"encoding": "bits"}, "model.encoding=bits: one of onehot, thermometer, value or null"),
    ("binary", {"activation": "step"}, "model.activation=step: one of relu, elu, silu, softplus, tanh"),
    ("binary", {"hidden": []}, "model.hidden=[]: a list"),
    ("binary", {"hidden": [8, 0]}, "model.hidden=[8, 0]: a list"),
    ("binary", {"dropout": 1.0}, "model.dropout=1.0: a number of at least 0 and below 1"),
    ("binary", {"conditionals": "logistic"}, "model.conditionals=logistic needs ordered levels; this data is binary"),
    ("categorical:3", {"conditionals": "logistic"}, "model.conditionals=logistic needs ordered levels"),
    ("real", {"conditionals": "softmax"}, "model.conditionals=softmax is for levels and categories; this data is real"),
    ("levels:4", {"components": 0}, "model.components=0: an integer of at least 1 or null"),
    (
        "levels:4",
        {"conditionals": "softmax", "components": 3},
        "model.components=3 is for reals and for model.conditionals=logistic",
    ),
    ("real", {"encoding": "value"}, "model.encoding=value is for levels and categories; this data is real"),
    ("categorical:3", {"encoding": "thermometer"}, "model.encoding=thermometer needs ordered levels"),
    ("binary", {"conditional": True}, "model.conditional=true needs data with labels"),
]
RUN = ["model=made", "trainer.max_steps=40", "trainer.eval_every=20", "logger=none", "n=16", "device=cpu"]


@pytest.mark.parametrize(("support", "options", "message"), BAD)
def test_wrong_options_of_the_model(support, options, message):
    with pytest.raises((UsageError, ValueError), match="^" + re.escape(message)):
        built("model", MADE, Spec((4,), Support.parse(support)), **options)


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_k": 0}, {"top_k": 1.5}, {"top_p": 0.0}, {"top_p": 1.2}, {"classes": []}]
)
def test_wrong_options_of_the_sampler(options):
    ((key, value),) = options.items()
    with pytest.raises((UsageError, ValueError), match="^" + re.escape(f"sampler.{key}={value}: ")):
        built("sampler", Ancestral, **options)


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.9}])
def test_truncation_needs_discrete_data(options):
    (key,) = options
    with pytest.raises(ValueError, match=rf"^sampler\.{key}=.* needs discrete data; this model's is real$"):
        Ancestral(**options).check(real("normal"), Learned())
    Ancestral(**options).check(discrete("levels"), Learned())


def test_masks_of_the_estimator():
    model = discrete("bits-random")
    batch = Batch(states(model)[::37])
    assert isinstance(model, Ensemble)
    with torch.no_grad():
        found = {k: Exact(masks=k).nll(model, batch, noise(1), NOTHING).nll for k in (1, 2, 4, None)}
        assert torch.equal(found[4], found[None])
        assert torch.allclose(found[1], -model.log_conditionals_of(0, batch.x).sum(1))
        assert torch.equal(found[2], -model.log_prob_of(2, batch.x))
    Exact(masks=4).check(model, Learned())
    with pytest.raises(ValueError, match=r"^estimator.masks=5: this model has 4 \(model.masks\)$"):
        Exact(masks=5).check(model, Learned())
    with pytest.raises(ValueError, match=r"^estimator.masks=2 needs a model that is an ensemble"):
        Exact(masks=2).check(Gaussian(Spec((2,), Support("real"))), Learned())
    with pytest.raises((UsageError, ValueError), match=r"^estimator.masks=0: "):
        built("estimator", Exact, masks=0)


@pytest.mark.slow
def test_a_run_of_an_ensemble(tmp_path):
    options = ["data=digits", "model.hidden=[16]", "model.direct=false", "model.masks=3", "model.orderings=random"]
    folder = tmp_path / "run"
    run = gencli.train([*RUN, *options, "model.conditional=true", "sampler.top_p=0.9", f"run_dir={folder}"])
    whole = json.loads((folder / "eval" / "test-exact.json").read_text())
    assert (whole["bound"], whole["estimator"], whole["settings"]["masks"]) == ("exact", "exact", None)
    assert (whole["protocol"]["support"], whole["protocol"]["context"]) == ("levels:17", "labels")
    assert cli.main(["eval", f"run={folder}", "split=test", "estimator.masks=1"]) == 0
    first = json.loads((folder / "eval" / "test-exact-masks1.json").read_text())
    assert (first["settings"]["masks"], first["se_estimator"]) == (1, 0)
    assert first["value"] > whole["value"]
    assert cli.main(["eval", f"run={folder}", "estimator.masks=4"]) == 2
    x = run.sample(4)
    assert x.shape == (4, 1, 8, 8)
    assert x.max() <= 16


def test_other_models_refuse_masks_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"^estimator.masks=2 needs a model that is an ensemble"):
        gencli.train(["data=moons", "model=gaussian", "estimator.masks=2", f"run_dir={tmp_path}/run"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"^sampler.top_k=3 needs discrete data"):
        gencli.train(["data=moons", "model=made", "sampler.top_k=3", f"run_dir={tmp_path}/run"])


@pytest.mark.slow
def test_python_passes_the_same_gates_as_the_command_line(tmp_path):
    run = gencli.train([*RUN, "data=digits", "model.hidden=[8]", f"run_dir={tmp_path}/run"])
    with pytest.raises(UsageError, match=r"^estimator: Quadrature moves x continuously; this model's x is levels:17"):
        run.nll(estimator="quadrature")
    assert [record["estimator"] for record in run.results] == ["exact", "exact"]  # test, val
