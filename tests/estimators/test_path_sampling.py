"""Path sampling: log Z of graphs that can be enumerated, errors that are true, what it says of parameters."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise, wavy
from graphs import ergm, every
from torch import nn

from gencli.core.spec import Batch, Graph, Spec, Support
from gencli.data.sets.florentine import Florentine
from gencli.estimators.partition import Importance
from gencli.estimators.path_sampling import PathSampling, likelihood
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.graphs import TieNoTie
from gencli.kernels.hmc import HMC
from gencli.models.base import Unnormalized
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.ngram import NGram
from gencli.models.energy.ergm import ERGM
from gencli.models.trained import Learned

SIX = {"edges": -1.0, "triangles": 0.5, "kstar_2": -0.1}
LOG_Z = 4.48604316


def measured(model, seed=0, **options):
    nothing = Batch(torch.zeros(1, *model.spec.shape))
    return PathSampling(**options).prepare(model, nothing, noise(seed))


@pytest.mark.parametrize("kernel", [Gibbs(), pytest.param(TieNoTie(toggles=8), marks=pytest.mark.slow)])
def test_log_z_of_six_nodes(kernel):
    """From the uniform distribution, within 4 of its own errors, which are small."""
    found = measured(ergm(Graph(6), **SIX), kernel=kernel, base="uniform", bridges=6, burn=3, steps=3)
    se = found.diagnostics["log_z_se"]
    assert 0.005 < se < 0.05
    assert abs(found.state - LOG_Z) < 4 * se
    assert not found.collapsed
    assert found.bound == "estimate"


def test_a_normalised_model_without_parameters_has_z_of_one():
    model = NGram(Spec((3,), Support("categorical", 2)), order=1)
    model.initialize(torch.tensor([[0, 0, 1]]))
    found = measured(model, kernel=Gibbs(), base="uniform", bridges=6, burn=3, steps=3)
    assert abs(found.state) < 4 * found.diagnostics["log_z_se"] < 0.2


def test_the_ratio_of_bernoulli_graphs_is_known():
    """An empty directed network of 50 nodes: the log-likelihood ratio of theta = -1 to theta = 0 is 930.7195."""
    model = ergm(Graph(50, directed=True), edges=-1.0)
    found = measured(model, kernel=Gibbs(), base="uniform", chains=30, bridges=6, burn=0, steps=2)
    ratio, se = 2450 * math.log(2) - found.state, found.diagnostics["log_z_se"]
    assert se < 2
    assert abs(ratio - 930.7195) < 4 * se


@pytest.mark.slow
def test_stated_errors_are_true():
    """Of 40 measurements the deviations in units of their errors have a mean square of 1, within 4 errors of that."""
    model = ergm(Graph(4), edges=-0.5, triangles=0.8)
    exact = float((-model.double().energy(every(Graph(4)))).logsumexp(0).detach())
    model.float()
    z = []
    for seed in range(40):
        found = measured(model, seed, kernel=Gibbs(), base="uniform", chains=20, bridges=4, burn=2, steps=1)
        z.append((found.state - exact) / found.diagnostics["log_z_se"])
    z = torch.tensor(z)
    assert abs(float(z.mean())) < 4 / 40**0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / 40) ** 0.5


def test_parameters_of_a_bernoulli_graph_are_exact():
    """theta, its error 1 / sqrt(D p (1 - p)), log-likelihood, AIC and BIC of flomarriage ~ edges."""
    data = Florentine()
    model = ERGM(data.spec, terms=["edges"])
    model.initialize(data.split("train").x.float())
    found = measured(model, kernel=Gibbs(), chains=200, bridges=1, burn=0, steps=3).diagnostics
    p = 20 / 120
    log_likelihood = 20 * math.log(p) + 100 * math.log(1 - p)
    assert found["theta.edges"] == pytest.approx(math.log(0.2), abs=1e-5)
    assert found["theta_se.edges"] == pytest.approx((120 * p * (1 - p)) ** -0.5, rel=0.12)  # 600 draws: 4 errors
    assert abs(found["theta_gap.edges"]) < 4 * found["theta_gap_se.edges"]
    assert found["log_likelihood"] == pytest.approx(log_likelihood, abs=1e-3)
    assert found["aic"] == pytest.approx(2 - 2 * log_likelihood, abs=1e-3)
    assert found["bic"] == pytest.approx(math.log(120) - 2 * log_likelihood, abs=1e-3)


def test_a_newton_step_leads_to_the_maximum():
    """From parameters that are a little off, by exact draws of a graph of four nodes."""
    of = Graph(4)
    model, x = ergm(of, edges=-0.5, triangles=0.3).double(), every(of)
    with torch.no_grad():
        s, p = model.statistics(x), (-model.energy(x)).softmax(0)
    mle = torch.tensor([-0.45, 0.25]).double()
    q = (s @ mle).softmax(0)
    model.mean.copy_(q @ s)
    model.count.fill_(7)
    draws = torch.multinomial(p, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    found = likelihood(model, s[draws].view(200, 1000, 2), 0.0, 0.0)
    for name, to, start in zip(("edges", "triangles"), mle.tolist(), (-0.5, 0.3), strict=True):
        gap = found[f"theta_gap.{name}"]
        assert abs(start + gap - to) < 4 * found[f"theta_gap_se.{name}"] + 0.01  # of second order
    covariance = (s.T * p) @ s - (p @ s).outer(p @ s)
    error = (torch.linalg.inv(covariance).diagonal() / 7).sqrt()
    assert found["theta_se.edges"] == pytest.approx(float(error[0]), rel=0.03)


def test_a_family_that_does_not_vary_has_no_errors():
    """A graph that is always empty: no inverse of a matrix of zeros, and no infinities."""
    model = ergm(Graph(4), edges=-60.0)
    model.count.fill_(1)
    found = likelihood(model, torch.zeros(3, 5, 1).double(), 0.0, 0.0)
    assert "theta_se.edges" not in found
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.slow
def test_energies_of_reals_have_paths_too():
    """A small network that tilts a normal, against importance sampling."""
    model = wavy()
    nothing = Batch(torch.zeros(1, 2))
    exact = Importance(samples=50_000).prepare(model, nothing, noise(1))
    found = measured(model, kernel=HMC(leaps=3, step_size=0.5), chains=64, bridges=4, burn=4, steps=4)
    error = math.hypot(found.diagnostics["log_z_se"], exact.diagnostics["log_z_se"])
    assert abs(found.state - exact.state) < 4 * error + 1e-3


class Narrow(Unnormalized):
    """A normal of two columns, N(s, s^2 / 4), whose reference is N(0, s^2)."""

    def __init__(self, s):
        super().__init__(Spec((2,), Support("real")))
        self.s, self.q = nn.Parameter(torch.tensor(s)), Gaussian(self.spec)
        self.q.initialize(s * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]))

    def reference(self):
        return self.q

    def energy(self, x, y=None):
        return 2 * (x / self.s - 1).square().sum(1)


@pytest.mark.slow
@pytest.mark.parametrize("s", [0.03, 1.0, 1000.0])
def test_chains_find_their_step_whatever_the_scale(s):
    """The first step size fits one of these scales; the mean of 5 errors is zero within four standard errors."""
    found = [measured(Narrow(s), seed, bridges=8, chains=100) for seed in range(5)]
    away = [each.state - math.log(0.5 * math.pi * s * s) for each in found]
    stated = math.sqrt(sum(each.variance for each in found)) / 5
    assert abs(sum(away) / 5) < 4 * stated < 0.1
    assert not any(each.collapsed for each in found)
    assert all(each.diagnostics["acceptance"] > 0.5 for each in found)


def test_chains_that_stand_still_agree_on_nothing():
    """Both directions see the same, so that there is no gap: the error is told as a lower limit none the less."""
    found = measured(Narrow(1.0), kernel=HMC(step_size=1e6, target=1e-9), bridges=3, chains=20)
    assert found.diagnostics["acceptance"] < 0.02
    assert found.collapsed


def test_options_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^estimator.base=uniform: this model's x is real"):
        PathSampling(kernel=HMC(), base="uniform").check(wavy(), Learned())
    with pytest.raises(ValueError, match=r"^estimator.base=reference: this model has none"):
        PathSampling(kernel=HMC()).check(wavy("none"), Learned())
    with pytest.raises(ValueError, match=r"^estimator.kernel: HMC moves x that is real"):
        PathSampling(kernel=HMC()).check(ergm(Graph(4), edges=0.0), Learned())
