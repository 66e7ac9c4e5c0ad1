"""Transitions of Markov chains: what they leave as it is, what they learn, and that they change nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from energies import exact_samples, law, noise, normal, quadratic, spec
from scipy.stats import kstest
from torch import Tensor

from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.noise import Noise, RowNoise
from gencli.core.spec import Support
from gencli.kernels.adaptation import DualAveraging
from gencli.kernels.base import Energy, Kernel, State, require_moves, slope
from gencli.kernels.diagnostics import effective_draws, split_r_hat
from gencli.kernels.hmc import HMC, Point, hmc, leapfrog
from gencli.kernels.langevin import Langevin, ShortRun
from gencli.kernels.tempering import Tempering, exchanges
from gencli.methods.chains import energy_of
from gencli.models.energy.exponential import Quadratic

EXACT = {
    "mala": HMC(leaps=1, step_size=0.8, jitter=0.0),
    "hmc": HMC(leaps=5, step_size=0.5),
    "tempering": Tempering(replicas=3, hot=4.0, leaps=2, step_size=0.5),
}
KERNELS = EXACT | {
    "langevin": Langevin(step_size=0.05),
    "annealed": Langevin(step_size=0.05, hot=3.0, cooling=4),
    "sgld": ShortRun(step_size=0.05, sigma=0.3),
}


def walk(kernel: Kernel, energy: Energy, x: Tensor, source: Noise, steps: int) -> State:
    state = kernel.init(energy, x)
    for _ in range(steps):
        state, _ = kernel.step(energy, state, source)
    return state


@pytest.mark.parametrize("name", EXACT)
def test_an_accepted_kernel_leaves_the_law_as_it_is(name):
    """Exact draws, whitened, stay standard normal: Kolmogorov-Smirnov in each direction, p above 1e-3.

    Replicas of a chain start at one point, which is a draw of all their laws only where these are alike.
    """
    model, kernel = quadratic(), EXACT[name]
    x, (mean, covariance) = exact_samples(model, 4000), law(model)
    if name == "tempering":
        kernel = replace(kernel, hot=1 + 1e-6)
    ends = walk(kernel, Energy(model.energy), x, noise(1), 8).x
    assert float((ends != x).any(1).double().mean()) > 0.9
    white = torch.linalg.solve(torch.linalg.cholesky(covariance), (ends - mean).T)
    assert min(kstest(row.numpy(), "norm").pvalue for row in white) > 1e-3


@pytest.mark.parametrize(("name", "temperature"), [("langevin", 0.7), ("sgld", 0.7), ("langevin", 1.0)])
def test_an_unadjusted_kernel_has_the_law_of_its_step_size(name, temperature):
    """On E = a x^2 / 2 the variance T / (a (1 - step a / 2)) stays as it is, within four standard errors."""
    model, step, n = Quadratic(spec(1)).double(), 0.5, 40_000
    kernel = {
        "langevin": Langevin(step_size=step, temperature=temperature),
        "sgld": ShortRun(step_size=step, sigma=math.sqrt(2 * step * temperature)),
    }[name]
    variance = temperature / (1 - step / 2)
    ends = walk(kernel, Energy(model.energy), variance**0.5 * normal(n, 1), noise(), 5).x
    assert float(ends.var()) == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / n))


def test_langevin_cools_geometrically():
    kernel = Langevin(temperature=0.25, hot=4.0, cooling=4)
    assert [kernel.heat(i) for i in range(6)] == pytest.approx([4, 2, 1, 0.5, 0.25, 0.25])
    assert Langevin(temperature=0.25, hot=4.0).heat(0) == 0.25
    for hot, temperature in ((0.5, 1.0), (2.0, 0.0)):
        with pytest.raises(ValueError, match=r"^hot="):
            Langevin(hot=hot, temperature=temperature, cooling=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("step_size", [0.03, 4.0])
def test_a_warm_up_reaches_its_target(name, step_size):
    """From a step far too small and one far too large, over 100 chains in 20 dimensions after 200 steps."""
    model, source = Quadratic(spec(20)), noise()
    kernel = replace(EXACT[name], step_size=step_size)
    state = kernel.init(Energy(model.energy), normal(100, 20).float())
    for _ in range(200):
        state, info = kernel.step(Energy(model.energy), state, source)
        state = kernel.adapt(state, info)
    state, rates = kernel.settle(state), []
    for _ in range(40):
        state, info = kernel.step(Energy(model.energy), state, source)
        rates.append(float(info.rates["acceptance"].mean()))
    assert sum(rates) / len(rates) == pytest.approx(kernel.target, abs=0.06)


def tensors(part: object) -> list[Tensor]:
    """All that a state or an info holds, copied."""
    if isinstance(part, Tensor):
        return [part.clone()]
    values = [getattr(part, f.name) for f in fields(part)] if is_dataclass(part) else []
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_changes_nothing_that_it_is_given(name):
    model = quadratic()
    kernel, x = KERNELS[name], exact_samples(model, 5)
    start = x.clone()
    state = kernel.init(Energy(model.energy), x)
    before = tensors(state)
    after, info = kernel.step(Energy(model.energy), state, noise())
    again, _ = kernel.step(Energy(model.energy), state, noise())
    assert all(map(torch.equal, tensors(after), tensors(again)))
    of_after, of_info = tensors(after), tensors(info)
    adapted = kernel.adapt(after, info)
    kernel.settle(adapted)
    kernel.summary(adapted)
    assert torch.equal(x, start)
    for part, kept in ((state, before), (after, of_after), (info, of_info)):
        assert all(map(torch.equal, tensors(part), kept))
    assert torch.equal(adapted.x, after.x)
    assert not torch.equal(after.x, x)
    assert torch.allclose(info.energy, slope(model.energy, info.x)[0])


@pytest.mark.parametrize("name", KERNELS)
def test_a_chain_does_not_depend_on_the_others(name):
    model = quadratic()
    x = exact_samples(model, 6)
    whole = walk(KERNELS[name], Energy(model.energy), x, RowNoise(5, torch.arange(6)), 4).x
    part = walk(KERNELS[name], Energy(model.energy), x[3:5], RowNoise(5, torch.tensor([3, 4])), 4).x
    assert torch.allclose(whole[3:5], part)


def test_replicas_of_a_chain_have_its_context():
    y, seen = torch.tensor([3, 5]), []

    class Seeing(Quadratic):
        def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            seen.append(y)
            return x.square().sum(1)

    of = energy_of(Seeing(spec(1)), y, 2)
    of(torch.zeros(2, 1))
    of(torch.zeros(6, 1))
    assert [at.tolist() for at in seen] == [[3, 5], [3, 3, 3, 5, 5, 5]]


def test_exchanges_leave_every_temperature_as_it_is():
    """Replicas drawn exactly at their temperatures and exchanged round by round stay at them."""
    model, n = Quadratic(spec(2)), 4000
    beta = torch.exp(-torch.linspace(0, math.log(9.0), 4))
    betas = beta.repeat(n)
    x = normal(n * 4, 2).float() / betas.sqrt()[:, None]
    point = Point.at(lambda at: betas * model.energy(at), x)
    for turn in range(3):
        before = point
        index, ratio, share = exchanges(point.energy, beta, noise(turn), turn % 2)
        point = point.exchanged(index, ratio)
        assert 0.2 < float(share) < 0.95
        assert float((point.x != before.x).any(1).float().mean()) > 0.1
    energy, gradient = slope(lambda at: betas * model.energy(at), point.x)
    assert torch.allclose(point.energy, energy, atol=1e-4)
    assert torch.allclose(point.gradient, gradient, atol=1e-5)
    for k in range(4):
        white = point.x[k::4] * beta[k].sqrt()
        assert min(kstest(column.numpy(), "norm").pvalue for column in white.T) > 1e-3


def test_leapfrog_is_of_order_two_and_reversible():
    def quartic(x: Tensor) -> Tensor:
        return (0.25 * x**4 + 0.5 * x**2).sum(1)

    start, momentum = Point.at(quartic, normal(20, 2)), normal(20, 2, 1)

    def drift(leaps: int) -> float:
        end, p = leapfrog(quartic, start, momentum, torch.full((20,), 1.0 / leaps, dtype=torch.float64), leaps)
        before = start.energy + 0.5 * momentum.square().sum(1)
        return float((end.energy + 0.5 * p.square().sum(1) - before).abs().mean())

    errors = [drift(leaps) for leaps in (32, 64, 128)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes == pytest.approx([2, 2], abs=0.05)
    step = torch.full((20,), 0.1, dtype=torch.float64)
    end, p = leapfrog(quartic, start, momentum, step, 10)
    back, q = leapfrog(quartic, end, -p, step, 10)
    assert (back.x - start.x).abs().max() < 1e-10
    assert (q + momentum).abs().max() < 1e-10


def test_dual_averaging_adapts_each_chain():
    model, n = Quadratic(spec(3)), 200
    first = torch.full((n,), 0.01)
    first[::2] = 5.0
    sizes, point, source = DualAveraging.start(first), Point.at(model.energy, normal(n, 3).float()), noise()
    for _ in range(150):
        point, accept = hmc(model.energy, point, source, step=sizes.step, leaps=3)
        sizes = sizes.update(accept, 0.8)
    ends = sizes.average
    assert float(ends[::2].mean()) == pytest.approx(float(ends[1::2].mean()), rel=0.1)


def test_diagnostics_of_traces():
    """White noise has an R-hat of 1 and all its draws; an AR(1) of coefficient r keeps (1 - r) / (1 + r) of them."""
    white = normal(50, 400)
    assert split_r_hat(white) == pytest.approx(1, abs=0.01)
    assert effective_draws(white) == pytest.approx(50 * 400, rel=0.1)
    series = [white[:, 0]]
    for t in range(1, 400):
        series.append(0.8 * series[-1] + 0.6 * white[:, t])
    assert effective_draws(torch.stack(series, 1)) == pytest.approx(50 * 400 / 9, rel=0.15)
    assert split_r_hat(white + torch.arange(50)[:, None] % 2 * 3.0) > 1.5


@pytest.mark.parametrize("text", ["binary", "levels:4", "categorical:3", "unit"])
def test_what_a_kernel_moves_is_asked_of_the_support(text):
    require_moves(EXACT["hmc"], Support("real"), "sampler: HMC")
    with pytest.raises(ValueError, match=f"^sampler: HMC moves x that is real; this model's x is {text}"):
        require_moves(EXACT["hmc"], Support.parse(text), "sampler: HMC")


@pytest.mark.parametrize(
    ("owner", "key", "value"),
    [
        (HMC, "leaps", 0),
        (HMC, "step_size", 0.0),
        (HMC, "target", 1.0),
        (HMC, "jitter", 1.0),
        (Langevin, "step_size", -1),
        (Langevin, "temperature", -1),
        (ShortRun, "sigma", -0.1),
        (Tempering, "replicas", 1),
        (Tempering, "hot", 1.0),
    ],
)
def test_refusals(owner, key, value):
    with pytest.raises(UsageError, match=rf"^sampler\.kernel\.{key}="):
        options.check({key: value}, options.of_class(owner), "sampler.kernel", owner.__name__)
