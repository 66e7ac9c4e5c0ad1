"""Annealed estimates of Z over bits, levels and categories, against sums over all states."""

from __future__ import annotations

import math

import pytest
import torch
from energies import noise, spec
from spins import Drawn, Ring, discrete, exact, states

from gencli.core.spec import Batch
from gencli.core.tensors import log_mean_exp
from gencli.estimators.ais import AIS
from gencli.estimators.annealed import systematic
from gencli.estimators.bridge import Bridge
from gencli.estimators.smc import SMC
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.hmc import HMC
from gencli.kernels.informed import DiscreteMALA, GibbsWithGradients
from gencli.kernels.langevin import Langevin
from gencli.kernels.tempering import Tempering
from gencli.methods.annealing import GeometricPath, OwnPath
from gencli.models.autoregressive.made import MADE
from gencli.models.classical.gmm import GMM
from gencli.models.classical.independent import Independent
from gencli.models.energy.reference import Reference
from gencli.models.structure import Annealable
from gencli.models.trained import Learned

SUPPORTS = {"binary": 8, "categorical:3": 4, "levels:4": 4}
KERNELS = {
    "gibbs": None,
    "gibbs_with_gradients": GibbsWithGradients(informed="changes"),
    "dmala": DiscreteMALA(step_size=0.5),
}


def few(make):
    """Fewer transitions before reverse chains start."""
    return {} if make is SMC else {"refresh": 10}


def base(widen: float = 1.2):
    return lambda s: Reference(s, widen=widen)


@pytest.mark.parametrize("support", SUPPORTS)
def test_summing_a_block_out_is_the_sum_over_its_states(support):
    """log sum over x_A of exp(-E_beta(x)), at every x of the others; what is left is the same whatever x_A is."""
    model = Ring(discrete(support, SUPPORTS[support])).double()
    x = exact(model, 50)
    q = Reference(model.spec).double()
    q.initialize(x)
    path = GeometricPath(model, q, collapse=True)
    every, others = states(model.spec), [i for i in range(model.spec.dim) if i not in path.summed.tolist()]
    rest = (every[:, others] * model.spec.support.size ** torch.arange(len(others))).sum(1).long()
    kinds = int(rest.max()) + 1
    with torch.no_grad():
        log_p = [torch.stack([(-path.at(b)(every)[rest == r]).logsumexp(0) for r in range(kinds)]) for b in (0.3, 0.8)]
        assert torch.allclose(path.rise(every, 0.3, 0.8), (log_p[0] - log_p[1])[rest], atol=1e-5)
        plain = GeometricPath(model, q).rise(every, 0.3, 0.8)
    assert float((plain - path.rise(every, 0.3, 0.8)).detach().std()) > 0.1
    assert GeometricPath(Ring(model.spec, blocks=False), q, collapse=True).summed is None


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("support", SUPPORTS)
def test_weights_of_both_directions_are_those_of_one_trajectory(support, kernel):
    """A rough path: they average to Z and 1 / Z, their logarithms lie below and above log Z, and Crooks' relation

    holds for a bounded function, E_F[w / (w + Z)] = E_R[Z / (v + Z)], which it does only for a kernel's reversal.
    """
    collapse = support != "binary"
    model = Drawn(discrete(support, SUPPORTS[support]), blocks=collapse)
    truth, n = model.log_partition(), 3000
    ais = AIS(base=base(2.0), chains=n, betas=3, kernel=KERNELS[kernel], collapse=collapse)
    ais.check(model, Learned())
    annealing = ais.annealing(model, exact(model, 300), noise())
    assert (annealing.path.summed is not None) == collapse
    _, log_w, _ = ais.forward(annealing, noise(1))
    start, ancestors = ais.starts(model, annealing, log_w, log_w, 0, noise(2))
    assert ancestors is None
    log_v = -ais.backward(annealing, start, noise(3))
    for weights, sign in ((log_w, 1), (-log_v, -1)):
        mean, variance = log_mean_exp(weights - sign * truth)
        assert abs(float(mean)) < 4 * math.sqrt(float(variance))
        assert float((weights - sign * truth).mean()) < -5 * float(weights.std()) / math.sqrt(n)
    f, g = (log_w - truth).sigmoid(), (truth - log_v).sigmoid()
    assert abs(float(f.mean() - g.mean())) < 4 * math.sqrt(float(f.var() + g.var()) / n)


def test_reverse_chains_do_not_all_begin_at_the_one_chain_that_holds_the_weight():
    model = Ring(discrete("binary", SUPPORTS["binary"]), seed=2)
    ais = AIS(base=base(), chains=400, betas=2, adapt=False)
    annealing = ais.annealing(model, exact(model, 100), noise())
    ends = annealing.path.sample(ais.chains, noise(1))
    even = 0.5 * torch.randn(ais.chains, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for log_w, fewest, most in ((even, 200, 400), (30 * even, 15, 200)):
        _, came = ais.starts(model, annealing, ends, log_w, 0, noise(2))
        assert fewest < len(came.unique()) < most
    _, came = ais.starts(model, annealing, ends, even, 0, noise(2))
    assert torch.equal(came, systematic(even, noise(2)))


@pytest.mark.parametrize("make", [AIS, SMC, Bridge])
def test_steps_that_nobody_named_are_fewer_where_time_is_short(make):
    model = Ring(discrete("binary", SUPPORTS["binary"]), seed=2)
    rows, usual = Batch(exact(model, 300)), make.USUAL
    short = make(base=base(), chains=256).within(1e-6).prepare(model, rows, noise())
    chains = 16 if make is SMC else 20  # of whole populations
    assert short.settled == {"betas": 10, "chains": chains}
    assert short.flags == (f"10 of {usual} betas", f"{chains} of 256 chains")
    assert abs(short.state - model.log_partition()) < 4 * math.sqrt(short.variance)
    for estimator, steps in ((make(base=base(), chains=16), usual), (make(base=base(), chains=16, betas=12), 12)):
        assert estimator.within(1e-6 if steps == 12 else 1e6).annealing(model, rows.x, noise()).steps == steps
    free = make(base=base(), chains=16, betas=12).within(1e-6).prepare(model, rows, noise())
    assert (free.settled, free.flags) == ({}, ())


@pytest.mark.parametrize("make", [AIS, SMC, Bridge])
@pytest.mark.parametrize("support", SUPPORTS)
def test_log_z_is_that_of_the_sum_within_its_own_error(support, make):
    model = Ring(discrete(support, SUPPORTS[support]), seed=2)
    estimator = make(base=base(), chains=256, betas=20, **few(make))
    estimator.check(model, Learned())
    shared = estimator.prepare(model, Batch(exact(model, 300)), noise())
    assert abs(shared.state - model.log_partition()) < 3.5 * math.sqrt(shared.variance)
    assert 1e-4 < math.sqrt(shared.variance) < 0.1
    assert shared.bound == ("estimate" if make is Bridge else "lower")


@pytest.mark.parametrize("make", [AIS, SMC, Bridge])
@pytest.mark.parametrize("kind", ["made", "independent", "gmm"])
def test_log_z_of_a_density_is_zero(kind, make):
    torch.manual_seed(1)
    if kind == "gmm":
        model = GMM(spec(2), components=2, covariance="isotropic").eval()
        with torch.no_grad():
            model.normals.mean[1, 0] = 2.0
    elif kind == "made":
        model = MADE(discrete("binary", 6), hidden=[16]).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.5 * torch.randn_like(parameter)
    else:
        model = Independent(discrete("categorical:3", 5))
        with torch.no_grad():
            model.marginals.normal_()
    x = model.sample(200, noise=noise(9)).detach()
    estimator = make(base=base(1.5), chains=128, betas=10, **few(make))
    shared = estimator.prepare(model, Batch(x), noise(4))
    assert abs(shared.state) < 3.5 * math.sqrt(shared.variance) + 1e-5
    assert math.sqrt(shared.variance) < 0.1


class Growing(Ring, Annealable):
    """A ring whose tables grow from none: a path of its own from uniform x."""

    def at(self, beta):
        if beta <= 0:
            return Independent(self.spec).requires_grad_(False)
        part = Ring(self.spec)
        part.u, part.t = beta * self.u, beta * self.t
        return part


@pytest.mark.parametrize("make", [AIS, SMC, Bridge])
def test_a_model_with_a_path_of_its_own_takes_it(make):
    model = Growing(discrete("binary", 8), seed=3)
    estimator = make(chains=256, betas=20, **few(make))
    estimator.check(model, Learned())  # without a base
    assert isinstance(AIS(chains=4, betas=2).annealing(model, exact(model, 10), noise()).path, OwnPath)
    shared = estimator.prepare(model, Batch(exact(model, 10)), noise())
    assert abs(shared.state - model.log_partition()) < 3.5 * math.sqrt(shared.variance)
    assert AIS(path="geometric").follows(model) == "geometric"


@pytest.mark.parametrize(
    ("given", "of", "message"),
    [
        ({"path": "model"}, "binary", r"^estimator\.path=model: this model has no path of its own"),
        ({"path": "moments", "base": Reference}, "binary", r"^estimator\.path=moments is for reals, .* is binary"),
        ({}, "binary", r"^estimator\.base=null: this model has no base of its own"),
        ({"base": Reference, "kernel": HMC()}, "binary", r"^estimator\.kernel: HMC moves x that is real; .* binary"),
        ({"base": Reference, "kernel": Gibbs()}, "real", r"^estimator\.kernel: Gibbs moves x that is binary"),
        ({"base": Reference, "kernel": Langevin()}, "real", r"^estimator\.kernel: Langevin leaves exp\(-E\)"),
        ({"base": Reference, "kernel": Tempering()}, "binary", r"^estimator\.kernel: Tempering leaves exp\(-E\)"),
        ({"base": Reference, "kernel": DiscreteMALA(metropolis=False)}, "binary", r"^estimator\.kernel: DiscreteMALA"),
        ({"base": Reference, "kernel": HMC(), "leaps": 5}, "real", r"^estimator\.leaps=5: estimator\.kernel says this"),
    ],
)
def test_refusals_name_the_key(given, of, message):
    model = Ring(discrete("binary", 4)) if of == "binary" else GMM(spec(2), components=2)
    for make in (AIS, SMC, Bridge):
        with pytest.raises(ValueError, match=message):
            make(**given).check(model, Learned())
