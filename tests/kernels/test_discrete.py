"""Transitions on discrete x: as matrices by enumeration, as code that draws, and among replicas."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from energies import noise
from scipy.stats import chisquare
from torch import Tensor

from gencli.config import catalog
from gencli.core.noise import Noise, RowNoise
from gencli.core.spec import Support
from gencli.kernels.base import MOVERS, Energy, Kernel, require_moves
from gencli.kernels.energy import weighted
from gencli.kernels.gibbs import Gibbs, draw_block, inverse
from gencli.kernels.hmc import HMC
from gencli.kernels.informed import (
    DiscreteMALA,
    GibbsWithGradients,
    Site,
    acceptance,
    all_changes,
    single_changes,
)
from gencli.kernels.tempering import Tempering, exchanges


def states(support: Support, dim: int) -> Tensor:
    """All K^D values of x in order, so that x is the number of its row in base K."""
    rows = torch.tensor(list(itertools.product(range(support.size), repeat=dim)))
    return rows.double() if support.kind == "binary" else rows


def number(x: Tensor, support: Support) -> Tensor:
    powers = support.size ** torch.arange(x.shape[1] - 1, -1, -1)
    return (x.long() * powers).sum(1)


def bits() -> Energy:
    """Five bits in blocks, coupled along a chain, by a smooth energy that no gradient tells exactly."""
    source = torch.Generator().manual_seed(1)
    h, J = (1.2 * torch.randn(5, generator=source).double() for _ in range(2))

    def of(x: Tensor) -> Tensor:
        pairs = (torch.exp(0.9 * x[:, 1:]) * x[:, :-1]).to(J) @ J[1:]
        return pairs + (x.square() + 0.3 * x).to(h) @ h

    return Energy(of, Support.parse("binary"), blocks=(torch.tensor([0, 2, 4]), torch.tensor([1, 3])))


def table(text: str, dim: int) -> Energy:
    """Any energy of so many coordinates: normal values, of deviation 1.5."""
    support = Support.parse(text)
    values = 1.5 * torch.randn(support.size**dim, generator=torch.Generator().manual_seed(2)).double()
    return Energy(lambda x: values[number(x, support)], support)


def misled(energy: Energy) -> Energy:
    """The same energy, of which the first order tells something else."""
    wrong = torch.randn(1, 2, energy.support.size, generator=torch.Generator().manual_seed(3)).double()

    def taylor(x: Tensor) -> tuple[Tensor, Tensor]:
        return energy(x), energy.changes(x) + wrong - wrong.expand(len(x), -1, -1).gather(2, x[..., None])

    return replace(energy, taylor=taylor)


ENERGIES = {
    "bits": (bits(), 5),
    "categories": (table("categorical:3", 2), 2),
    "levels": (table("levels:4", 2), 2),
    "misled": (misled(table("categorical:3", 2)), 2),
}
KERNELS = {
    "gibbs": Gibbs(),
    "gibbs_with_gradients": GibbsWithGradients(),
    "gibbs_with_changes": GibbsWithGradients(informed="changes"),
    "dmala": DiscreteMALA(step_size=0.7),
}


def law(energy: Energy, dim: int) -> Tensor:
    """pi over all states."""
    return (-energy(states(energy.support, dim))).softmax(0)


def with_value(x: Tensor, w: int, k: int) -> Tensor:
    x = x.clone()
    x[:, w] = k
    return x


def matrix(kernel: Kernel, energy: Energy, dim: int) -> Tensor:
    """P (S, S) by the functions of probabilities that the kernel itself draws from."""
    support, x = energy.support, states(energy.support, dim)
    S, rows = len(x), torch.arange(len(x))
    if isinstance(kernel, Gibbs):
        P = torch.eye(S).double()
        for where in energy.blocks or torch.arange(dim).split(1):
            log_p = (-energy.changes(x, where)).log_softmax(2)
            same = [all(x[a, w] == x[b, w] for w in range(dim) if w not in where) for a in rows for b in rows]
            chosen = log_p.gather(2, x[:, where].T.long()[None].expand(S, -1, -1)).sum(1)
            P = P @ torch.where(torch.tensor(same).view(S, S), chosen.exp(), 0.0)
        return P
    P = torch.zeros(S, S).double()
    if isinstance(kernel, GibbsWithGradients):
        site = kernel.init(energy, x)
        log_q = single_changes(site)
        for w, k in itertools.product(range(dim), range(support.size)):
            to = number(with_value(x, w, k), support)
            back = log_q[to, w].gather(1, x[:, w, None].long())[:, 0]
            accept = acceptance(site, Site(x[to], site.energy[to], site.rise[to]), log_q[:, w, k], back)
            P[rows, to] += torch.where(to == rows, 0.0, log_q[:, w, k].exp() * accept)
    else:
        assert isinstance(kernel, DiscreteMALA)
        site, alpha = Site.at(energy, x), torch.full((S,), kernel.step_size).double()
        log_q = all_changes(site, alpha, support).gather(2, x.T.long()[None].expand(S, -1, -1)).sum(1)
        for to in range(S):
            proposed = Site(x[to], site.energy[to], site.rise[to])
            P[:, to] = log_q[:, to].exp() * acceptance(site, proposed, log_q[:, to], log_q[to])
    assert float((P.sum(1) - P.diagonal()).max()) <= 1 + 1e-12
    return P - P.diagonal().diag() + (1 - P.sum(1) + P.diagonal()).diag()


@pytest.mark.parametrize("target", ENERGIES)
@pytest.mark.parametrize("name", KERNELS)
def test_the_matrix_leaves_the_law_as_it_is(name, target):
    """pi P = pi to 1e-10; all but the sweep, whose order is fixed, are reversible."""
    (energy, dim), kernel = ENERGIES[target], KERNELS[name]
    pi, P = law(energy, dim), matrix(kernel, energy, dim)
    assert P.min() > -1e-12
    assert (pi @ P - pi).abs().max() < 1e-10
    assert torch.linalg.matrix_power(P, 1 << 16)[0] == pytest.approx(pi, abs=1e-6)
    flow = pi[:, None] * P
    assert ((flow - flow.T).abs().max() < 1e-12) == (name != "gibbs")


def test_without_acceptance_the_law_is_another():
    energy, dim = ENERGIES["bits"]
    x, kernel = states(energy.support, dim).repeat_interleave(500, 0), DiscreteMALA(step_size=2.0, metropolis=False)
    state, source = kernel.init(energy, x), noise(4)
    for _ in range(12):
        state, info = kernel.step(energy, state, source)
    assert info.accept is None
    assert kernel.adapt(state, info) is state
    share = torch.bincount(number(state.x, energy.support), minlength=32) / len(x)
    assert (share - law(energy, dim)).abs().sum() > 0.1


@pytest.mark.parametrize("target", ENERGIES)
@pytest.mark.parametrize("name", KERNELS)
def test_a_step_draws_from_its_matrix(name, target):
    """2,000 steps from every state, in one chi-square test of all rows; p above 1e-3."""
    (energy, dim), kernel, n = ENERGIES[target], KERNELS[name], 2000
    x, P = states(energy.support, dim), matrix(kernel, energy, dim)
    state, info = kernel.step(energy, kernel.init(energy, x.repeat_interleave(n, 0)), noise(5))
    assert torch.allclose(info.energy, energy(state.x))
    assert state.x.dtype == x.dtype
    pair = torch.arange(len(x)).repeat_interleave(n) * len(x) + number(state.x, energy.support)
    seen, expected = torch.bincount(pair, minlength=len(x) ** 2).double(), n * P.flatten()
    assert not seen[expected < 1e-9].any()
    few = expected < 5
    seen, expected = (torch.cat([v[~few], v[few].sum()[None]]).clamp(min=1e-9) for v in (seen, expected))
    assert chisquare(seen, expected * seen.sum() / expected.sum(), ddof=len(x) - 1).pvalue > 1e-3


@pytest.mark.parametrize("inner", [None, *KERNELS])
@pytest.mark.parametrize("target", ["bits", "categories"])
def test_replicas_of_discrete_x_stay_at_their_temperatures(inner, target):
    """Exact draws at three temperatures, five rounds; the law at each, by chi-square, p above 1e-3."""
    (energy, dim), n = ENERGIES[target], 3000
    kernel = Tempering(replicas=3, hot=6.0, inner=inner and KERNELS[inner])
    betas, x = torch.tensor([1, 6**-0.5, 1 / 6]).double(), states(energy.support, dim)
    laws = (-betas[:, None] * energy(x)).softmax(1)
    source = torch.Generator().manual_seed(6)
    rows = torch.multinomial(laws, n, replacement=True, generator=source).T.flatten()
    state = kernel.init(energy, x[rows[::3]])
    hot = state.kernel.init(energy.scaled(betas.repeat(n)), x[rows])
    state, uniform = replace(state, hot=hot), noise(7)
    for _ in range(5):
        state, info = kernel.step(energy, state, uniform)
    assert 0.2 < float(info.rates["swaps"]) < 0.95
    assert torch.allclose(info.energy, energy(state.x), atol=1e-5)
    for k in range(3):
        seen = torch.bincount(number(state.hot.x[k::3], energy.support), minlength=len(x))
        assert chisquare(seen, n * laws[k]).pvalue > 1e-3


def test_an_exchange_leaves_the_joint_law_as_it_is():
    """Of two replicas on all pairs of states: the flow from (a, b) to (b, a) is that back."""
    (energy, dim), beta = ENERGIES["categories"], torch.tensor([1, 0.3]).double()
    e = energy(states(energy.support, dim))
    pairs = torch.cartesian_prod(e, e)
    log_p = -(pairs * beta).sum(1)
    swaps = torch.stack([exchanges(pair * beta, beta, noise(), 0)[2] for pair in pairs])
    flow = (log_p.softmax(0) * swaps).view(len(e), len(e))
    assert (flow - flow.T).abs().max() < 1e-12


@pytest.mark.parametrize("name", [*KERNELS, "tempering"])
def test_a_chain_does_not_depend_on_the_others(name):
    energy, dim = ENERGIES["bits"]
    kernel = KERNELS.get(name, Tempering(replicas=2, inner=DiscreteMALA()))
    x = states(energy.support, dim)[3:15:2]

    def walk(x: Tensor, source: Noise) -> Tensor:
        state = kernel.init(energy, x)
        for _ in range(6):
            state, info = kernel.step(energy, state, source)
            state = kernel.adapt(state, info)
        return kernel.settle(state).x

    whole = walk(x, RowNoise(5, torch.arange(6)))
    assert torch.equal(whole[3:5], walk(x[3:5], RowNoise(5, torch.tensor([3, 4]))))
    assert not torch.equal(whole, x)


def test_a_sweep_asks_for_no_energy():
    asked = []

    def of(x: Tensor) -> Tensor:
        asked.append(len(x))
        return x.sum(1)

    energy = Energy(of, Support.parse("binary"), lambda x, where: torch.zeros(len(x), len(where), 2))
    state, info = Gibbs().step(energy, Gibbs().init(energy, torch.zeros(4, 3)), noise())
    assert asked == []
    assert torch.equal(info.energy, state.x.sum(1))
    assert info.energy is info.energy
    assert asked == [4]


@pytest.mark.slow
@pytest.mark.parametrize("step_size", [0.02, 20.0])
def test_the_step_of_dmala_adapts(step_size):
    """From a step far too small and one far too large, over 100 chains of 100 coupled bits after 200 steps."""
    J = torch.randn(100, 100, generator=torch.Generator().manual_seed(8)) / 4
    energy = Energy(lambda x: ((x - 0.5) @ J * (x - 0.5)).sum(1), Support.parse("binary"))
    kernel, source = DiscreteMALA(step_size=step_size), noise(9)
    state, rates = kernel.init(energy, (torch.rand(100, 100, generator=torch.Generator()) < 0.5).float()), []
    for _ in range(200):
        state, info = kernel.step(energy, state, source)
        state = kernel.adapt(state, info)
    state = kernel.settle(state)
    for _ in range(40):
        state, info = kernel.step(energy, state, source)
        rates.append(float(info.accept.mean()))
    assert sum(rates) / len(rates) == pytest.approx(kernel.target, abs=0.06)
    assert set(kernel.summary(state)) == {"step_size"}


def test_a_step_that_nothing_refuses_stays_finite():
    energy = Energy(lambda x: x.sum(1), Support.parse("binary"))
    kernel, source = DiscreteMALA(target=0.1), noise(10)
    state = kernel.init(energy, torch.zeros(100, 3))
    for _ in range(300):
        state, info = kernel.step(energy, state, source)
        state = kernel.adapt(state, info)
    assert math.isfinite(kernel.summary(kernel.settle(state))["step_size"])
    assert not torch.isfinite(state.sizes.step).all()
    assert float(state.x.mean()) == pytest.approx(1 / (1 + math.e), abs=0.1)


def test_values_are_those_of_the_distribution_function():
    p, u = torch.tensor([0.2, 0.0, 0.5, 0.3]), torch.tensor([0.0, 0.19, 0.2, 0.69, 0.71, 0.999])
    assert inverse(-p.log().expand(1, 6, 4), u[None]).tolist() == [[0, 0, 2, 2, 3, 3]]
    assert inverse(-p[[0, 2]].log().expand(1, 2, 2), torch.tensor([[0.7, 0.72]])).tolist() == [[True, False]]
    x = torch.zeros(3, 1, 2, 2)
    energy = Energy(lambda x: x.flatten(1).sum(1), Support.parse("binary"))
    sweep = energy.sweep(x)
    draw_block(sweep, torch.tensor([1]), noise())
    assert sweep.x.shape == x.shape
    assert not x.any()


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("kind", ["binary", "categorical:3"])
def test_a_sweep_asks_a_network_for_no_energy_twice(kind, parts):
    """Each coordinate asks for its other values alone, and is told E there less E(x)."""
    support, weight, asked = Support.parse(kind), torch.randn(4, 4, dtype=torch.float64), []

    def of(x: Tensor) -> Tensor:
        asked.append(len(x))
        return ((x.double() @ weight) * x).sum(1)

    one = Energy(of, support)
    energy = one if parts == 1 else weighted([(0.25, one), (0.5, one)])
    x = states(support, 4)[::7]
    sweep = energy.sweep(x)
    told = []
    for where in torch.arange(4).split(1):
        rise = sweep.changes(where)
        told.append((sweep.x, where, rise))
        sweep.put(where, inverse(rise, noise().rand(len(x), 1).to(rise)), rise)
    assert sum(asked) == parts * len(x) * (1 + 4 * (support.size - 1))
    assert (sweep.x != x).any()
    for at, where, rise in told:
        torch.testing.assert_close(rise, energy.changes(at, where), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", MOVERS)
def test_the_kernels_that_a_refusal_names_move_such_x(kind):
    found = catalog.options("kernel")
    for name in MOVERS[kind]:
        info = catalog.class_info(found[name].target or "")
        assert info is not None
        assert kind in info.attributes["moves"]


def test_what_tempering_moves_is_what_its_kernel_moves():
    levels = Support.parse("levels:4")
    require_moves(Tempering(), levels, "sampler.kernel: Tempering")
    near = "which kernel=gibbs, gibbs_with_gradients, dmala or tempering moves$"
    with pytest.raises(ValueError, match=rf"^here moves x that is real; this model's x is levels:4, {near}"):
        require_moves(Tempering(inner=HMC()), levels, "here")
    with pytest.raises(ValueError, match=r"^leaps=5: inner=Gibbs says this itself"):
        Tempering(inner=Gibbs(), leaps=5)
