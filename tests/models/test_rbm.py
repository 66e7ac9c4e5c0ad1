"""Restricted Boltzmann machines against enumeration and quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from discrete import counted, every, far, law, log_z, vectors
from energies import noise, spec
from torch import Tensor

from gencli.core.spec import Batch, Spec, Support
from gencli.core.tensors import log_mean_exp
from gencli.estimators.ais import AIS
from gencli.kernels.energy import brute_force
from gencli.kernels.gibbs import Gibbs
from gencli.kernels.langevin import Langevin
from gencli.methods.enumeration import log_partition
from gencli.models.base import DirectSampling, ExactLikelihood
from gencli.models.energy.exponential import Quadratic
from gencli.models.energy.rbm import RBM
from gencli.models.energy.reference import Reference
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE


def machine(visible: int = 5, hidden: int = 4, seed: int = 0, shape: tuple[int, ...] | None = None) -> RBM:
    """A small one of bits with large weights, in fp64."""
    torch.manual_seed(seed)
    model = RBM(Spec(shape or (visible,), Support("binary", 2)), hidden=hidden)
    model.initialize((torch.rand(50, *model.spec.shape) < 0.3).float())
    with torch.no_grad():
        for parameter in (model.a, model.c, model.W):
            parameter.add_(torch.randn_like(parameter))
    return model.double().eval()


def normals(dim: int = 2, hidden: int = 3, seed: int = 0) -> RBM:
    """A small one of reals, in fp64."""
    torch.manual_seed(seed)
    model = RBM(spec(dim), hidden=hidden)
    model.initialize(torch.randn(100, dim) * 1.3 + 0.4)
    with torch.no_grad():
        for parameter in (model.a, model.c, model.W):
            parameter.add_(0.7 * torch.randn_like(parameter))
        model.log_sigma.add_(torch.linspace(-0.4, 0.2, dim))
    return model.double().eval()


def hidden_states(H: int) -> Tensor:
    return every(vectors(H))


def joint(model: RBM) -> Tensor:
    """exp(-E(x, h)) of every state of x and h, from the definition: (2^D, 2^H)."""
    x, h = every(model.spec).flatten(1), hidden_states(len(model.c))
    return (x @ model.a)[:, None].add(h @ model.c).add(x @ model.W.T @ h.T).exp().detach()


def test_the_free_energy_sums_over_hidden_units():
    model = machine()
    assert torch.allclose(-joint(model).sum(1).log(), model.energy(every(model.spec)), atol=1e-12)


@pytest.mark.parametrize(("visible", "hidden"), [(5, 4), (4, 6)])
def test_z_is_the_same_over_either_side(visible, hidden):
    model = machine(visible, hidden)
    assert model.terms == 2**4
    exact = float(joint(model).sum().log())
    assert float(log_partition(model).detach()) == pytest.approx(exact, abs=1e-12)
    assert log_z(model) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_changes_are_those_of_the_energy(shape):
    model = machine(shape=shape)
    x, where = every(model.spec)[::5], torch.tensor([4, 0, 2])
    assert torch.allclose(model.changes(x, where), brute_force(model.energy, x, where, 2), atol=1e-12)
    changed = model.changes(x, where).sum()
    (gradient,) = torch.autograd.grad(changed, model.W)
    (exact,) = torch.autograd.grad(brute_force(model.energy, x, where, 2).sum(), model.W)
    assert torch.allclose(gradient, exact, atol=1e-10)


def test_many_changes_come_in_parts(monkeypatch):
    model = machine()
    x, where = every(model.spec), torch.arange(5)
    whole = model.changes(x, where)
    monkeypatch.setattr("gencli.models.energy.rbm.CELLS", 2 * len(x) * len(model.c))
    assert torch.equal(model.changes(x, where), whole)


def test_resampling_leaves_the_law():
    """Its transition matrix, sum_h p(h | x) p(x' | h), has pi P = pi; and resample draws from that matrix."""
    model = machine(3, 2, seed=1)
    weights = joint(model)
    P = (weights / weights.sum(1, keepdim=True)) @ (weights / weights.sum(0)).T
    pi = law(model)
    assert (pi @ P - pi).abs().max() < 1e-10
    assert (P.sum(1) - 1).abs().max() < 1e-12
    n = 20_000
    for i, start in enumerate(every(model.spec)[::3]):
        found = counted(lambda x, i=i: model.resample(x, noise(i)), model.spec, start, n)
        assert far(found, P[3 * i], n) < 5


@pytest.mark.parametrize("make", [machine, normals])
def test_the_path_goes_from_a_density_to_the_model(make):
    model = make()
    if model.spec.support.discrete:
        x = every(model.spec)
    else:
        x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start, end = model.at(0.0), model.at(1.0)
    assert isinstance(start, ExactLikelihood)
    assert isinstance(start, DirectSampling)
    assert torch.equal(end.energy(x), model.energy(x))
    for beta, near in ((1e-9, start), (1 - 1e-9, model)):  # continuous at both ends, so that no constant is lost
        assert torch.allclose(model.at(beta).energy(x), near.energy(x), atol=1e-6)
    # between them, by the definition
    beta, H = 0.3, len(model.c)
    units = model.units()
    hidden = (1 + (beta * (units.c + x.flatten(1) @ units.V.T)).exp()).log().sum(1)
    visible = -x.flatten(1) @ model.a if units.precision is None else 0.5 * (x - model.a).square() @ units.precision
    expected = beta * visible + (1 - beta) * (start.energy(x) + H * math.log(2)) - hidden
    assert torch.allclose(model.at(beta).energy(x), expected, atol=1e-9)


def test_the_path_of_bits_has_z_blocks_and_changes():
    model = machine()
    assert log_z(model.at(0.0)) == pytest.approx(0, abs=1e-12)
    between = model.at(0.6)
    assert float(log_partition_of(between).detach()) == pytest.approx(log_z(between), abs=1e-10)
    x = every(model.spec)
    assert torch.allclose(between.changes(x, torch.arange(5)), brute_force(between.energy, x, torch.arange(5), 2))
    # one step of a stationary chain, by both sides of the sum over h
    h = hidden_states(4)
    weights = (-between.units().free_energy(x)).exp()
    given = between.units()
    to_hidden = bernoulli((given.c + x @ given.V.T).sigmoid(), h)
    to_visible = bernoulli((given.a + h @ given.V).sigmoid(), x)
    pi = weights / weights.sum()
    assert (pi @ to_hidden @ to_visible - pi).abs().max() < 1e-10


def bernoulli(p: Tensor, x: Tensor) -> Tensor:
    """Probabilities of the states x (m, D) under each of the rates p (n, D): (n, m)."""
    return torch.where(x[None] == 1, p[:, None], 1 - p[:, None]).prod(2)


def log_partition_of(model) -> Tensor:
    return model.log_terms(torch.arange(model.terms)).logsumexp(0)


@pytest.mark.parametrize("dim", [1, 2])
def test_reals_have_the_z_of_quadrature(dim):
    model = normals(dim)
    axis = torch.linspace(-14, 14, 2001 if dim == 1 else 561, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dim).view(-1, dim)
    cell = dim * math.log(float(axis[1] - axis[0]))
    for machine_ in (model, model.at(0.4)):
        exact = float((-machine_.energy(grid)).logsumexp(0).detach()) + cell
        assert float(log_partition_of(machine_).detach()) == pytest.approx(exact, abs=1e-8)


def test_runs_whose_weights_were_over_the_variance_are_the_same_density():
    model, old = normals(), {}
    for name, tensor in model.state_dict().items():
        old[name.replace("log_sigma", "log_s")] = tensor.clone()
    old["W"] *= model.log_sigma.detach().exp()
    other = RBM(spec(2), hidden=3).double()
    other.load_state_dict(old)
    x = torch.randn(20, 2, dtype=torch.float64)
    assert torch.allclose(other.energy(x), model.energy(x), atol=1e-12)


@pytest.mark.parametrize("objective", [PersistentContrastiveDivergence, ContrastiveDivergence, MonteCarloMLE])
def test_chains_of_reals_draw_hidden_units_unless_langevin_is_typed(objective):
    model = normals()
    chains = objective(model.spec)
    chains.bind(model)
    assert isinstance(chains.kernel, Gibbs)
    if objective is not MonteCarloMLE:
        typed = objective(model.spec, step=0.02)
        typed.bind(model)
        assert isinstance(typed.kernel, Langevin)
    with pytest.raises(ValueError, match="moves x that is binary"):  # of a model that has no hidden units
        objective(model.spec, kernel=Gibbs()).bind(Quadratic(model.spec))


@pytest.mark.parametrize("path", ["model", "geometric"])
def test_annealing_of_reals_finds_z(path):
    """By hidden units along the model's own path, by Hamiltonian Monte Carlo along another."""
    model = normals()
    ais = AIS(base=lambda s: Reference(s, widen=0.5), chains=500, betas=50, path=path, reverse=False)
    annealing = ais.annealing(model, 1.3 * torch.randn(200, 2, dtype=torch.float64) + 0.4, noise())
    assert isinstance(annealing.kernel, Gibbs) == (path == "model")
    mean, variance = log_mean_exp(ais.forward(annealing, noise(1))[1])
    assert abs(float(mean) - float(log_partition_of(model).detach())) < 4 * math.sqrt(float(variance))


def test_resampling_of_reals_leaves_the_law():
    """Moments of a mixture of 2^H normals, after steps from exact draws."""
    model, n = normals(), 40_000
    units, h = model.units(), hidden_states(3)
    index = torch.arange(8)
    weights = model.log_terms(index).softmax(0)
    bits = (index[:, None] >> torch.arange(3) & 1).double()
    means = model.a + bits @ units.V / units.precision
    assert len(h) == len(means)
    k = torch.multinomial(weights, n, replacement=True, generator=torch.Generator().manual_seed(0))
    x = (means[k] + units.precision.rsqrt() * noise().randn(n, 2)).detach()
    for step in range(3):
        x = model.resample(x, noise(step))
    mean = weights @ means
    variance = weights @ (means - mean).square() + 1 / units.precision
    assert ((x.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    assert ((x.var(0) - variance).abs() < 5 * variance * (3 / n) ** 0.5).all()


def test_it_starts_as_independent_units_of_the_data():
    torch.manual_seed(0)
    x = (torch.rand(400, 1, 3, 3) < torch.linspace(0.1, 0.9, 9).view(1, 3, 3)).float()
    model = RBM(Spec((1, 3, 3), Support("binary", 2)), hidden=10)
    model.initialize(x)
    assert torch.allclose(model.a.sigmoid(), ((x.sum(0) + 1) / 402).flatten(), atol=1e-6)
    assert model.filters().shape == (10, 1, 3, 3)
    assert model.start(5, noise=noise()).shape == (5, 1, 3, 3)
    nll = float((model.energy(x).double().mean() + log_partition(model)).detach())
    assert nll == pytest.approx(float(model.reference().energy(x).mean()), abs=0.05)


def test_a_conditional_one_is_refused():
    with pytest.raises(ValueError, match=r"^model\.conditional=true"):
        RBM(Spec((4,), Support("binary", 2), classes=2), conditional=True)


@pytest.mark.slow
def test_persistent_chains_raise_the_likelihood():
    """Data of two patterns, of which independent units know nothing."""
    torch.manual_seed(0)
    patterns = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).float()
    x = patterns[torch.randint(2, (500,))]
    x = torch.where(torch.rand(x.shape) < 0.05, 1 - x, x)
    model = RBM(vectors(6), hidden=4)
    model.initialize(x)
    objective = PersistentContrastiveDivergence(model.spec, buffer=500, steps=5)
    objective.bind(model)
    objective.start(model, Batch(x))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)

    def nll() -> float:
        return float((model.energy(x).mean() + log_partition(model)).detach())

    before = nll()
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        optimizer.zero_grad()
        objective.loss(model, Batch(x[torch.randint(500, (100,))]), noise(step)).value.backward()
        optimizer.step()
    truth = 0.6931 + 6 * 0.1985  # ln 2 and the entropies of six flips; the patterns hardly overlap
    assert before > 4.1
    assert nll() < truth + 0.15
