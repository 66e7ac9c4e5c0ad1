"""Lattices from end to end: runs with exact log Z in their records, and couplings that are found again."""

import json
import math

import pytest
import torch
from energies import noise
from lattices import ising
from torch import Tensor

import gencli
from gencli.cli.main import main
from gencli.core.ising import torus
from gencli.core.spec import Batch
from gencli.data.sets.ising import IsingLattices
from gencli.kernels.clusters import SwendsenWang
from gencli.methods.elimination import log_partition
from gencli.objectives.energy.contrastive_divergence import PersistentContrastiveDivergence
from gencli.pictures.magnetisation import Magnetisation

RUN = ["data=ising", "data.size=3", "data.K=0.2", "data.train=400", "data.val=60", "data.test=100", "device=cpu"]
RUN += ["objective.buffer=200", "objective.steps=1", "trainer.batch_size=200", "trainer.eval_every=20", "logger=none"]


@pytest.mark.slow
def test_a_run_end_to_end(tmp_path, capsys):
    """Trained, measured by two exact estimators that agree, drawn from by clusters, pictured; a torus is not planar."""
    words = ["model=ising", "estimator=transfer_matrix", "trainer.max_steps=20", "n=4", f"run_dir={tmp_path / 'run'}"]
    run = gencli.train([*RUN, *words])
    (path,) = (run.path / "eval").glob("test-transfer_matrix.json")
    first = json.loads(path.read_text())
    K = float(run.model.J.detach())
    assert first["bound"] == "exact"
    assert first["diagnostics"]["log_z"] == pytest.approx(torus(K, 3, 3)[0], abs=1e-9)
    assert first["diagnostics"]["entropy"] == pytest.approx(IsingLattices(size=3, K=0.2).entropy)
    assert main(["eval", f"run={run.path}", "estimator=kaufman"]) == 0
    second = json.loads((run.path / "eval" / "test-kaufman.json").read_text())
    assert second["value"] == pytest.approx(first["value"], abs=1e-9)
    assert second["diagnostics"]["coupling"] == pytest.approx(K)
    chain = [f"run={run.path}", "sampler=chain", "sampler.steps=4", "sampler.warmup=2", "n=4"]
    assert main(["sample", *chain, "kernel@sampler.kernel=wolff"]) == 0
    picture = ["picture=magnetisation", "picture.points=3", "kernel@sampler.kernel=swendsen_wang"]
    assert main(["sample", *chain, *picture]) == 0
    drawn = {path.name.partition("-seed0")[2] for path in (run.path / "samples").glob("magnetisation-points=3-*")}
    assert drawn >= {".png", "-lattices.png"}
    assert float(run.model.J.detach()) == K
    capsys.readouterr()
    assert main(["eval", f"run={run.path}", "estimator=kac_ward"]) == 2
    assert "planar graphs" in capsys.readouterr().err


def test_a_picture_needs_a_range():
    with pytest.raises(ValueError, match=r"picture\.low=0\.9 is not below picture\.high=0\.7"):
        Magnetisation(low=0.9)


def learned(model, x: Tensor, steps: int, rate: float, **options) -> Tensor:
    """Parameters that PCD finds: Adam with all rows in every batch, the mean of the second half of its steps."""
    objective = PersistentContrastiveDivergence(model.spec, buffer=len(x), reinit=0.0, steps=1, **options)
    objective.bind(model)
    objective.start(model, Batch(x[:100]))
    (turn,) = objective.turns(model)
    optimizer, found = torch.optim.Adam(turn.parameters, lr=rate), []
    for step in range(steps):
        optimizer.zero_grad()
        turn.loss(Batch(x), noise(step)).value.backward()
        optimizer.step()
        found.append(torch.cat([p.detach().flatten() for p in turn.parameters]))
    return torch.stack(found[steps // 2 :]).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [None, SwendsenWang()], ids=["gibbs", "swendsen_wang"])
def test_pcd_finds_the_coupling(kernel):
    """K of a 4 x 4 torus from 2,000 exact draws: within 3 standard errors of the exact maximum-likelihood estimate."""
    x = IsingLattices(size=4, K=0.35, train=2_000).split("train").x.float()
    s = 2 * x[:, 0].double() - 1
    bonds = float(((s * s.roll(1, 1)).sum((1, 2)) + (s * s.roll(1, 2)).sum((1, 2))).mean())
    low, high = 0.0, 1.0
    for _ in range(40):
        K = (low + high) / 2
        low, high = (K, high) if -16 * torus(K, 4, 4)[1] < bonds else (low, K)
    error = K / math.sqrt(2_000 * 16 * torus(K, 4, 4)[2])
    found = learned(ising((1, 4, 4), None).float(), x, 120, 0.01, kernel=kernel)
    assert abs(float(found) - K) < 3 * error
    assert abs(K - 0.35) < 3 * error


@pytest.mark.slow
def test_pcd_finds_every_coupling():
    """All 32 of a 4 x 4 torus, from 2,000 draws: each within 3 standard errors of the exact estimate."""
    x = IsingLattices(size=4, K=0.3, train=2_000).split("train").x.float()
    exact = ising((1, 4, 4), None, couplings="edges")

    def loss() -> Tensor:
        return exact.energy(x).mean() + log_partition(exact.pairwise())

    optimizer = torch.optim.LBFGS(exact.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    (slope,) = torch.autograd.grad(loss(), exact.J, create_graph=True)
    H = torch.stack([torch.autograd.grad(part, exact.J, retain_graph=True)[0] for part in slope])
    assert float(slope.detach().abs().max()) < 1e-4
    error = torch.linalg.inv(H).diagonal().div(len(x)).sqrt()
    found = learned(ising((1, 4, 4), None, couplings="edges").float(), x, 300, 0.01)
    assert float(((found - exact.J.detach()) / error).abs().max()) < 3
