"""Posteriors of parameters by the exchange algorithm, against a grid of them with Z by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from energies import noise
from graphs import ergm, random_networks
from torch import Tensor

import gencli
from gencli.cli.main import main
from gencli.core.noise import Noise
from gencli.core.spec import Graph, Spec, Support
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.hmc import HMC
from gencli.methods.exchange import Parameters, exchange
from gencli.models.base import DirectSampling
from gencli.models.energy.exponential import Quadratic
from gencli.models.energy.ising import Ising

SPEC = Spec((1, 2, 3), Support.parse("binary"))
STATES = torch.tensor([*itertools.product([0.0, 1.0], repeat=6)]).view(-1, 1, 2, 3)
PRIOR = 2.0


class Perfect(Ising, DirectSampling):
    """Spins that are few enough to be drawn by a look at all of their states."""

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        total = (-self.energy(STATES).double()).softmax(0).cumsum(0)
        return STATES[torch.searchsorted(total, noise.rand(n, 1)[:, 0].double() * total[-1], right=True)]


def model(kind: type[Ising] = Ising) -> Ising:
    found = kind(SPEC, boundary="free", fields="shared", K=0.3)
    with torch.no_grad():
        found.h.fill_(0.15)
    return found


def data(n: int) -> Tensor:
    return model(Perfect).sample(n, noise=noise(3)).detach()


def on_a_grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (J, h) given x: sums over 161 x 161 values."""
    grids = torch.linspace(-0.9, 1.5, 161).double(), torch.linspace(-1.0, 1.3, 161).double()
    theta = torch.cartesian_prod(*grids)
    one = model()
    sufficient = []
    for J, h in ((1.0, 0.0), (0.0, 1.0)):
        Parameters(one).put(torch.tensor([J, h]).double())
        sufficient.append(-torch.stack([one.energy(STATES).detach(), one.energy(x).detach().sum().expand(64)], 1))
    s, own = (torch.stack([part[:, i] for part in sufficient], 1).double() for i in (0, 1))
    log_z = (theta @ s.T).logsumexp(1)
    log_p = theta @ own[0] - len(x) * log_z - 0.5 * theta.square().sum(1) / PRIOR**2
    p = log_p.softmax(0)
    edge = p.view(161, 161)
    assert max(float(e.max()) for e in (edge[0], edge[-1], edge[:, 0], edge[:, -1])) < 1e-3 * float(p.max())
    mean = p @ theta
    return mean, (p @ (theta - mean).square()).sqrt()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "draws"), [(Perfect, 400), (Ising, 300)])
def test_the_posterior_is_that_of_enumeration(kind, draws):
    """Means within four Monte Carlo errors, deviations within four of theirs; by exact draws, and by chains."""
    x = data(40)
    mean, sd = on_a_grid(x)
    one = model(kind)
    before = Parameters(one).get()
    options = {"kernel": Gibbs(), "steps": 4, "draws": draws, "warmup": 80, "prior": PRIOR}
    found = exchange(one, x, [noise(seed) for seed in (1, 2)], **options)
    assert found.names == ["J", "h"]
    assert found.exact == (kind is Perfect)
    assert found.draws.shape == (2, draws, 2)
    assert 0.1 < found.acceptance < 0.5
    flat, ess = found.draws.flatten(0, 1), torch.tensor(found.ess())
    assert ess.min() > 30
    assert max(found.r_hat()) < 1.2
    assert ((flat.mean(0) - mean).abs() < 4 * sd / ess.sqrt()).all()
    assert ((flat.std(0) / sd - 1).abs() < 4 / (2 * ess).sqrt()).all()
    assert torch.equal(Parameters(one).get(), before)


@pytest.mark.slow
def test_auxiliary_chains_find_their_step_whatever_the_scale():
    """N(0, 1 / p) of 50 rows with a deviation of 0.03, where a step of 0.1 is always refused: ln p / 2 +- 0.1."""
    x = 0.03 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    x = 0.03 * (x - x.mean()) / x.std(correction=0)
    normal = Quadratic(Spec((1,), Support("real")))
    with torch.no_grad():
        normal.log_diagonal.fill_(-math.log(0.03))
    found = exchange(normal, x, [noise(1), noise(2)], kernel=HMC(), steps=6, draws=60, warmup=50, prior=10.0)
    scale = found.draws[..., found.names.index("log_diagonal")]
    assert found.moved > 0.6
    assert abs(float(scale.mean()) + math.log(0.03)) < 0.1
    assert 0.05 < float(scale.std()) < 0.2


@pytest.mark.slow
def test_the_posterior_of_a_family_is_that_of_theta():
    """Ties of 40 networks that are trained as theta = 0.5 + 3 phi: draws, names and prior are of theta."""
    one = ergm(Graph(4), edges=0.5)
    one.scale.fill_(3.0)
    y = random_networks(Graph(4), 40)
    grid = torch.linspace(-2, 1, 3001).double()
    p = (y.sum() * grid - y.numel() * grid.exp().log1p() - 0.5 * (grid / 0.3).square()).softmax(0)
    mean = float(p @ grid)
    sd = float((p @ (grid - mean).square()).sqrt())
    options = {"kernel": Gibbs(), "steps": 2, "draws": 400, "warmup": 100, "prior": 0.3}
    found = exchange(one, y, [noise(1), noise(2)], **options)
    assert found.names == ["edges"]
    flat, ess = found.draws.flatten(), found.ess()[0]
    assert abs(float(flat.mean()) - mean) < 4 * sd / math.sqrt(ess)
    assert abs(float(flat.std()) / sd - 1) < 4 / math.sqrt(2 * ess)
    assert Parameters(one).theta().tolist() == [0.5]


def test_a_chain_has_its_own_noise():
    options = {"kernel": Gibbs(), "steps": 2, "draws": 8, "warmup": 2, "prior": PRIOR}
    two = exchange(model(), data(5), [noise(1), noise(2)], **options).draws
    again = exchange(model(), data(5), [noise(1), noise(2)], **options).draws
    assert torch.equal(two, again)
    assert not torch.equal(two[0], two[1])


def test_parameters_are_one_vector():
    one = model()
    theta = Parameters(one)
    assert theta.names == ["J", "h"]
    assert theta.get().tolist() == pytest.approx([0.3, 0.15])
    theta.put(torch.tensor([0.5, -1.0]).double())
    assert float(one.J.detach()) == 0.5
    found = theta.gradients(one.energy(STATES[:3]))
    assert found.shape == (3, 2)
    spins = 2 * STATES[:3].flatten(1) - 1
    assert torch.allclose(found[:, 1], -spins.sum(1).double())
    edges = Ising(SPEC, boundary="free", couplings="edges")
    assert Parameters(edges).names[:2] == ["J[0]", "J[1]"]
    assert len(Parameters(edges).names) == 7


@pytest.mark.slow
def test_the_picture_of_a_posterior(tmp_path, capsys):
    words = ["data=ising", "data.size=3", "data.train=30", "data.val=10", "data.test=10", "model=ising"]
    words += ["objective=cd", "n=0", "trainer.max_steps=2", "trainer.eval_every=2", "estimator=null"]
    run = gencli.train([*words, "logger=none", "device=cpu", f"run_dir={tmp_path / 'x'}"])
    asked = [f"run={run.path}", "picture=posterior", "picture.draws=10", "picture.warmup=4", "picture.steps=2"]
    capsys.readouterr()
    assert main(["sample", *asked, "kernel@picture.kernel=gibbs_with_gradients"]) == 0
    said = capsys.readouterr().out
    assert "97.5%" in said
    assert "approximate" in said
    names = {file.suffix for file in (run.path / "samples").glob("posterior-*seed0.*")}
    assert names == {".png", ".npz", ".txt"}
    assert main(["sample", *asked, "kernel@picture.kernel=hmc"]) == 2
    assert "picture.kernel: HMC moves x that is real" in capsys.readouterr().err
