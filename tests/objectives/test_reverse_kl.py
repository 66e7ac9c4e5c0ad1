"""Reverse KL: its gradients are those of the divergence, and its bound is one."""

import math

import pytest
import torch
from energies import exact_samples, law, noise, quadratic, spec
from fields import Known, three
from torch.nn.utils import parameters_to_vector

from gencli.core.spec import Batch
from gencli.data.preprocess import Preprocess
from gencli.data.sets.potentials import Potential
from gencli.data.sets.toys import Toy
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.energy.exponential import Polynomial, Quadratic
from gencli.models.flows.autoregressive import AffineAutoregressive
from gencli.models.flows.coupling import AffineCoupling
from gencli.models.known import known
from gencli.nn.mlp import MLP
from gencli.objectives.reverse_kl import ReverseKL
from gencli.paths.schedules import VP


def objective(energy, model, **options):
    """Of a model and the energy of a run that is there."""
    found = ReverseKL(model.spec, target=Known(energy), **options)
    found.bind(model)
    found.open(model)
    return found


def rows(model, n):
    return Batch(torch.zeros(n, *model.spec.shape, dtype=next(model.parameters()).dtype))


def gaussian(seed=0, dim=2):
    """A normal of random mean and covariance, in fp64."""
    model, generator = Gaussian(spec(dim)).double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def flow(dim=2, seed=0, scale=0.3):
    """A small flow with random weights."""
    torch.manual_seed(seed)
    model = AffineCoupling(spec(dim), net=lambda i, o, c: MLP(i, o, c, hidden=[16]), couplings=4, mixing="linear")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model


def divergence(q, energy):
    """E_q[log q + E] of a normal q and a quadratic E, in closed form."""
    normal = q.normal
    L, m, A = normal._factor(normal.lower)[0], normal.mean[0], energy.factor() @ energy.factor().T
    entropy = 0.5 * len(m) * math.log(2 * math.pi * math.e) + normal.log_diagonal.sum()
    return -entropy + 0.5 * torch.trace(L.T @ A @ L) + 0.5 * m @ A @ m - energy.b @ m


def gradient(value, model):
    return parameters_to_vector(torch.autograd.grad(value, [*model.parameters()]))


@pytest.mark.parametrize("kind", ["path", "total"])
def test_gradients_are_those_of_the_divergence(kind):
    q, energy = gaussian(), quadratic().requires_grad_(False)
    turn = objective(energy, q, gradient=kind).turns(q)[0]
    found = torch.stack([gradient(turn.loss(rows(q, 1000), noise(k)).value, q) for k in range(25)])
    mean, se = found.mean(0), found.std(0) / math.sqrt(25)
    exact = gradient(divergence(q, energy), q)
    assert ((mean - exact).abs() <= 3.5 * se + 1e-9).all()
    assert (se[exact.abs() > 0] < 0.1 * exact.abs().max()).all()  # so that it could have failed


def test_the_value_is_the_divergence_and_its_score_too():
    q, energy = gaussian(), quadratic().requires_grad_(False)
    found = objective(energy, q)
    with torch.no_grad():
        scores = found.score(q, rows(q, 20_000), noise())
        exact = float(divergence(q, energy))
    assert float(scores.mean()) == pytest.approx(exact, abs=3 * float(scores.std()) / math.sqrt(20_000))
    loss = found.turns(q)[0].loss(rows(q, 20_000), noise()).value.detach()
    assert float(loss) == pytest.approx(float(scores.mean()), abs=1e-9)


def test_path_gradients_are_without_noise_where_the_fit_is_exact():
    energy = quadratic().requires_grad_(False)
    mean, covariance = law(energy)
    q = gaussian()
    q.normal.set(mean[None], covariance[None])
    sizes = {
        kind: float(
            gradient(objective(energy, q, gradient=kind).turns(q)[0].loss(rows(q, 50), noise()).value, q).norm()
        )
        for kind in ("path", "total")
    }
    assert sizes["path"] < 1e-9
    assert sizes["total"] > 1e-2


def test_path_gradients_reach_every_parameter_of_a_flow_and_leave_it_as_it_was():
    q, energy = flow(), Quadratic(spec(2)).requires_grad_(False)
    before = parameters_to_vector(q.parameters()).clone()
    objective(energy, q).turns(q)[0].loss(rows(q, 8), noise()).value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.requires_grad for p in q.parameters())
    assert torch.equal(parameters_to_vector(q.parameters()), before)


def test_a_sample_and_its_density_drop_no_units():
    torch.manual_seed(0)
    q = AffineAutoregressive(spec(2), hidden=[32], dropout=0.5, transforms=2).train()
    energy = Quadratic(spec(2)).requires_grad_(False)
    found = objective(energy, q)
    losses = [found.turns(q)[0].loss(rows(q, 16), noise()).value.detach() for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses[0] == found.score(q.eval(), rows(q, 16), noise()).mean().detach()


def test_a_hot_target_is_flatter_and_the_last_one_is_the_target_itself():
    q, energy = gaussian(), quadratic().requires_grad_(False)
    found = objective(energy, q, anneal=0.5, temperature=16.0)
    assert [found.temperature(share) for share in (0.0, 0.25, 0.5, 1.0)] == [16.0, 4.0, 1.0, 1.0]
    assert objective(energy, q).temperature(0.0) == 1.0
    batch = rows(q, 4000)
    batch.progress = 0.25
    hot = float(found.turns(q)[0].loss(batch, noise()).value.detach())
    log_q, e = found.terms(q, batch, noise(), path=False)
    assert hot == pytest.approx(float((log_q + e / 4).mean().detach()))
    assert torch.equal(found.score(q, batch, noise()), log_q + e)


def energies(generator):
    """A random quadratic or quartic energy of the plane."""
    while True:
        model = Quadratic(spec(2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
        yield model.requires_grad_(False)
        quartic = Polynomial(spec(2), growth=0.3)
        with torch.no_grad():
            low = quartic.powers.sum(1) <= 3
            quartic.theta[low] += 0.3 * torch.randn(int(low.sum()), generator=generator)
        yield quartic.requires_grad_(False)


@pytest.mark.slow
def test_the_bound_is_below_log_z_of_many_energies(monkeypatch):
    monkeypatch.setattr(Polynomial, "POINTS", 201)
    generator, away = torch.Generator().manual_seed(0), []
    for k, energy in zip(range(50), energies(generator), strict=False):
        q = gaussian(seed=k).float() if k % 3 else flow(seed=k)
        found = objective(energy, q)
        optimizer = torch.optim.Adam(q.parameters(), lr=1e-1)
        for step in range((0, 20, 40)[k % 3]):
            optimizer.zero_grad()
            found.turns(q)[0].loss(rows(q, 64), noise(1000 * k + step)).value.backward()
            optimizer.step()
        with torch.no_grad():
            lower = -found.score(q.eval(), rows(q, 4000), noise(k)).double()
        exact, se = float(energy.log_partition()), float(lower.std()) / math.sqrt(len(lower))
        assert float(lower.mean()) <= exact + 3 * se, k
        away.append(exact - float(lower.mean()))
    assert min(away) < 0.05 < 0.5 < max(away)  # some are near, some far


@pytest.mark.slow
def test_a_fit_to_one_mode_closes_the_bound():
    energy = quadratic().float().requires_grad_(False)
    q = flow(scale=0.05)
    found = objective(energy, q)
    optimizer = torch.optim.Adam(q.parameters(), lr=2e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
    for step in range(120):
        optimizer.zero_grad()
        found.turns(q)[0].loss(rows(q, 128), noise(step)).value.backward()
        optimizer.step()
        rate.step()
    with torch.no_grad():
        lower = -found.score(q.eval(), rows(q, 20_000), noise(1))
    assert float(lower.mean()) == pytest.approx(float(energy.log_partition()), abs=0.02)


def preprocess(dataset, transform="none"):
    way = Preprocess(dataset.spec, ("real",), ("vector",), transform=transform)
    way.fit(dataset.split("train"))
    return way


@pytest.mark.parametrize("transform", ["none", "standardize"])
def test_the_density_of_the_data_is_one_in_model_space(transform):
    dataset = Toy("two_gaussians", train=2000, val=10, test=10)
    way = preprocess(dataset, transform)
    density = known(dataset, way)
    x = dataset.split("train").x[:50]
    z, terms = way(x)
    wanted = dataset.log_density(x) + sum(term.double() for term in terms.values())
    assert (density.log_prob(z) - wanted).abs().max() < 1e-4
    side = torch.linspace(-10, 10, 201)
    p = density.log_prob(torch.cartesian_prod(side, side)).exp()
    assert float(p.sum()) * 0.1**2 == pytest.approx(1, abs=2e-3)


def test_densities_that_are_not_known():
    assert known(Toy("pinwheel", train=10), preprocess(Toy("pinwheel", train=10))) is None
    q = flow()
    found = ReverseKL(q.spec)
    found.tell(None)
    with pytest.raises(ValueError, match=r"^objective\.target=data: the density of these data is not known; name"):
        found.open(q)


def test_targets_that_are_none():
    q = flow()
    with pytest.raises(ValueError, match=r"^objective\.target: .* neither an energy nor a likelihood"):
        objective(three(VP()), q)
    mixture = GMM(spec(2), components=2)
    mixture.conditional = True
    with pytest.raises(ValueError, match=r"^objective\.target: .* model\.conditional=true"):
        objective(mixture, q)


def test_a_target_may_be_a_potential_and_its_gradient_is_finite():
    dataset = Potential("u1", train=100, val=10, test=10)
    density = known(dataset, preprocess(dataset))
    q = flow()
    found = ReverseKL(q.spec)
    found.tell(density)
    found.open(q)
    found.turns(q)[0].loss(rows(q, 16), noise()).value.backward()
    assert all(p.grad.isfinite().all() for p in q.parameters())
    x = exact_samples(quadratic(), 20).float()
    assert density.energy(x).shape == (20,)
