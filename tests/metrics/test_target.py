"""metrics=[target]: bounds on log Z from both sides, what was missed, and flows that were fitted to a run's energy."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from energies import quadratic, spec
from fields import Known

import gencli
from gencli.cli import main as cli
from gencli.core.noise import RowNoise
from gencli.data.base import Modes
from gencli.data.preprocess import Preprocess
from gencli.data.sets.toys import Toy
from gencli.metrics.target import Target
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.subject import Subject
from gencli.models.trained import Learned

FEW = ["trainer.max_steps=4", "trainer.eval_every=4", "trainer.log_every=2", "logger=none", "n=0", "device=cpu"]
SMALL = ["data.train=300", "data.val=50", "data.test=200"]
FLOW = ["model=realnvp", "model.net.vector.hidden=[8]", "objective=reverse_kl"]


@dataclass(frozen=True, kw_only=True)
class AtHand(Subject):
    """A model beside its data, without a run."""

    bound = "exact"

    def nll(self, batch):
        raise NotImplementedError

    def draw(self, n, y=None, number=0):
        raise NotImplementedError

    def noise(self, rows, number=0):
        return RowNoise(number, rows)

    def data(self, name):
        raise NotImplementedError


def subject(model, dataset, learned=None):
    way = Preprocess(dataset.spec, ("real",), ("vector",))
    way.fit(dataset.split("train"))
    return AtHand(
        model=model, learned=learned or Learned(), dataset=dataset, preprocess=way, split=dataset.split("test"),
        device=torch.device("cpu"), seed=0, batch_size=1000,
    )  # fmt: skip


def two_gaussians():
    """Modes at -4 and 4 with weights 0.2 and 0.8, which the data say here."""
    dataset = Toy("two_gaussians", train=500, val=10, test=2000)
    dataset.modes = Modes(torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), 1.0)
    return dataset


def mixture(weights):
    model = GMM(spec(2), components=2, covariance="isotropic")
    with torch.no_grad():
        model.logits.copy_(torch.tensor(weights).log())
        model.normals.mean[:, 0] = torch.tensor([-4.0, 4.0])
    return model.eval()


@torch.no_grad()
def test_a_mode_that_is_missing_is_told():
    one = Gaussian(spec(2), covariance="isotropic").eval()
    one.normal.mean[0, 0] = 4.0
    found = Target().measure(subject(one, two_gaussians()))
    told = found.diagnostics
    assert found.value == pytest.approx(math.log(0.8), abs=0.01)  # the bound says no more than that
    assert told["log_z"] == pytest.approx(math.log(0.8), abs=0.01)  # nor does their mean
    assert told["ess_share"] > 0.95
    assert told["log_z_exact"] == 0
    assert told["missed"] == pytest.approx(0.2, abs=0.03)
    assert (told["modes_missed"], told["of"]) == (1, 2)
    assert told["log_z_upper"] > 5
    assert found.facts["says"].startswith("lower bound on log Z, log_z not to be believed, ")  # by the tail
    assert "of held-out rows missed" in found.facts["says"]


@torch.no_grad()
def test_a_fit_that_misses_nothing():
    found = Target().measure(subject(mixture([0.2, 0.8]), two_gaussians()))
    told = found.diagnostics
    assert max(abs(found.value), abs(told["log_z"]), abs(told["log_z_upper"])) < 1e-4
    assert (told["missed"], told["modes_missed"]) == (0, 0)
    assert found.facts["says"] == "lower bound on log Z"
    off = Target().measure(subject(mixture([0.5, 0.5]), two_gaussians()))
    kl = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)  # KL(q || p) of modes that do not overlap
    assert off.value == pytest.approx(-kl, abs=3 * off.se)
    other = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    assert off.diagnostics["log_z_upper"] == pytest.approx(other, abs=3 * off.diagnostics["log_z_upper_se"])
    assert off.diagnostics["log_z"] == pytest.approx(0, abs=3 * off.diagnostics["log_z_se"])


@pytest.mark.slow
@torch.no_grad()
def test_log_z_of_an_energy_lies_between_and_is_found_by_quadrature():
    energy = quadratic().float().eval()
    dataset = two_gaussians()
    wide = Gaussian(spec(2)).eval()
    wide.normal.log_diagonal.fill_(0.5)
    found = Target(run=Known(energy), samples=4000).measure(subject(wide, dataset))
    exact = float(energy.log_partition())
    told = found.diagnostics
    assert told["log_z_exact"] == pytest.approx(exact, abs=1e-3)
    assert found.value + 3 * found.se < exact
    assert told["log_z"] == pytest.approx(exact, abs=4 * told["log_z_se"])
    learned = Learned(target=Known(energy))
    assert Target(samples=4000).measure(subject(wide, dataset, learned)).value == found.value


def test_what_cannot_be_held_against_a_target():
    pinwheel = Toy("pinwheel", train=500, val=10, test=200)
    with pytest.raises(ValueError, match=r"^metrics\.target\.run=null: .* name the run"):
        Target().measure(subject(mixture([0.2, 0.8]), pinwheel))
    with pytest.raises(ValueError, match=r"^metrics=\[target\] needs a model with a likelihood"):
        Target().check(pinwheel, quadratic())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of an energy, that of a flow which was fitted to it, and one of standardised data."""
    folder = tmp_path_factory.mktemp("fitted")
    energy, flow = f"{folder}/energy", f"{folder}/flow"
    gencli.train(["model=quadratic", "data=gaussian", "sampler.steps=2", "sampler.warmup=2", "estimator=quadrature",
                  "estimator.points=256", *SMALL, *FEW, f"run_dir={energy}"])  # fmt: skip
    gencli.train([*FLOW, "data=gaussian", f"objective.target={energy}", "objective.anneal=0.5", *SMALL, *FEW,
                  f"run_dir={flow}"])  # fmt: skip
    scaled = f"{folder}/scaled"
    gencli.train(["model=gaussian", "data=gaussian", "data.transform=standardize", *SMALL, *FEW, f"run_dir={scaled}"])
    return energy, flow, scaled


@pytest.mark.slow
def test_a_flow_is_fitted_to_the_energy_of_a_run(runs, capsys):
    energy, flow, _ = runs
    lines = [json.loads(line) for line in Path(flow, "metrics.jsonl").read_text().splitlines()]
    assert any("minus_log_z_lower" in line for line in lines)
    assert any("temperature" in line for line in lines)
    assert cli.main(["eval", f"run={flow}", "metrics=[target]", "metrics.target.samples=500", "estimator=null"]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "lower bound on log Z" in said
    assert "log_z_exact" in said
    gencli.train([f"resume={flow}", "trainer.max_steps=6"])
    words = ["estimator=ais", "estimator.chains=16", "estimator.betas=4", "estimator.refresh=2"]
    assert cli.main(["eval", f"run={energy}", *words, "estimator.base.kind=run", f"estimator.base.run={flow}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=digits"], "objective.target=data: the density of these data is not known; name a run"),
        (["data=gaussian", "objective.target=nowhere"], "^error: objective.target=nowhere: no such run folder"),
        (["data=gaussian", "data.dim=3", "objective.target=ENERGY"], "objective.target: .* is not of the shape"),
        (["data=gaussian", "data.transform=standardize", "objective.target=ENERGY"], "transform=standardize: the run"),
        (["data=gaussian", "model=gmm"], "Reparameterized"),
        (["data=two_gaussians", "data.transform=standardize", "objective.target=SCALED"], "by another mean and"),
        (["data=gaussian", "objective.gradient=pathh"], "one of path, total is needed. Did you mean 'path'"),
    ],
)  # fmt: skip
def test_refusals_name_the_key(runs, capsys, words, said):
    words = [word.replace("ENERGY", runs[0]).replace("SCALED", runs[2]) for word in words]
    model = [] if any(word.startswith("model=") for word in words) else ["model=realnvp"]
    assert cli.main(["train", *model, *words, *FEW, "objective=reverse_kl", "run_dir=none"]) == 2
    err = capsys.readouterr().err
    assert re.search(said, err), err
    assert len(err.strip().splitlines()) <= 3
