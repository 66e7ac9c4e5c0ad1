"""Objectives without Z, each against what it says of a density that is known."""

from __future__ import annotations

import math

import pytest
import torch
from energies import exact_samples, law, noise, normal, quadratic, spec, wavy
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.kernels.base import slope
from gencli.models.energy.exponential import Quadratic
from gencli.models.energy.reference import Reference
from gencli.objectives.base import Drift, Objective
from gencli.objectives.energy.base import contrast
from gencli.objectives.energy.contrastive_divergence import PersistentContrastiveDivergence
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.objectives.energy.nce import NCE
from gencli.objectives.energy.perturbations import Ito, Pooling, detail
from gencli.objectives.energy.score_matching import (
    DenoisingScoreMatching,
    DiffusionScoreMatching,
    ScoreMatching,
    SlicedScoreMatching,
)
from gencli.run.opened import builder


def on_a_grid(covariance: Tensor, half: float = 7.0, points: int = 181) -> tuple[Tensor, Tensor]:
    """Points of the plane and the weight of each under N(0, covariance), in fp64."""
    axis = torch.linspace(-half, half, points, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    log_p = -0.5 * (x @ torch.linalg.inv(covariance) * x).sum(1)
    return x, log_p.softmax(0)


SIGMA = torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=torch.float64)


def model_score(model, x: Tensor) -> Tensor:
    return -slope(model.energy, x)[1]


@pytest.mark.parametrize("kind", ["quadratic", "network"])
def test_score_matching_is_the_fisher_divergence(kind):
    """J + 1/2 E|s_p|^2 = 1/2 E|s - s_p|^2, by quadrature over the data's density; with a(x) for the diffusion form."""
    model = quadratic() if kind == "quadratic" else wavy().double()
    x, p = on_a_grid(SIGMA)
    data_score = -x @ torch.linalg.inv(SIGMA)
    s = model_score(model, x)

    j = (p * ScoreMatching(spec(2)).score(model, Batch(x), noise())).sum()
    fisher = 0.5 * (p * (s - data_score).square().sum(1)).sum()
    constant = 0.5 * (p * data_score.square().sum(1)).sum()
    assert float(j + constant) == pytest.approx(float(fisher), abs=1e-6)

    diffusion = DiffusionScoreMatching(spec(2), nu=0.7).double()
    diffusion.start(model, Batch(normal(1000, 2) * 1.2 + 0.3))
    a = 1 / (1 + ((x - diffusion.mean) / diffusion.std).square().sum(1) / (0.7 * 2))
    j = (p * diffusion.score(model, Batch(x), noise())).sum()
    fisher = 0.5 * (p * a * (s - data_score).square().sum(1)).sum()
    constant = 0.5 * (p * a * data_score.square().sum(1)).sum()
    assert float(j + constant) == pytest.approx(float(fisher), abs=1e-6)


def test_slices_average_to_score_matching():
    model, x = wavy().double(), normal(200, 2)
    exact = ScoreMatching(spec(2)).score(model, Batch(x), noise())
    draws = torch.stack([SlicedScoreMatching(spec(2)).score(model, Batch(x), noise(k)) for k in range(40)])
    # within a row there are two values, for v1 v2 = 1 and -1; their mean is exact
    assert ((draws.amax(0) + draws.amin(0)) / 2 - exact).abs().max() < 1e-9
    many = SlicedScoreMatching(spec(2), slices=200).score(model, Batch(x), noise())
    assert (many - exact).abs().max() < 0.3 * (draws.amax(0) - draws.amin(0)).max()


class Fixed(Noise):
    """Noise that was chosen."""

    def __init__(self, u: Tensor, xi: Tensor) -> None:
        self.u, self.xi = u, xi

    def rand(self, *shape: int) -> Tensor:
        return self.u.view(shape)

    def randn(self, *shape: int) -> Tensor:
        return self.xi.view(shape)


def test_mirrored_noise_does_not_drown_the_gradient():
    """The deviation of a row's derivative is the same for a sigma and for a tenth of it."""
    model, x, h = quadratic(), exact_samples(quadratic(), 2000), 1e-4
    spread = []
    for sigma in (0.1, 0.01):
        objective, ends = DenoisingScoreMatching(spec(2), sigmas=[sigma]), []
        for move in (h, -2 * h):
            with torch.no_grad():
                model.log_diagonal += move
            ends.append(objective.score(model, Batch(x), noise()) / sigma**2)
        with torch.no_grad():
            model.log_diagonal += h
        spread.append(float(((ends[0] - ends[1]) / (2 * h)).std()))
    assert spread[1] == pytest.approx(spread[0], rel=0.1)


@pytest.mark.parametrize(("sigmas", "weights"), [([0.6], None), ([0.4, 0.7], None), ([0.5, 1.1], [3.0, 1.0])])
def test_denoising_score_matching_is_the_fisher_divergence_to_noisy_data(sigmas, weights):
    """The loss by Gauss-Hermite nodes for x and xi; the divergence to the scale mixture on a grid."""
    model, K = quadratic(), len(sigmas)
    pi = torch.tensor(weights or [1.0] * K, dtype=torch.float64)
    pi /= pi.sum()
    nodes = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=torch.float64)
    shares = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)  # exact to degree 5
    grid = torch.cartesian_prod(*[nodes] * 4)
    w = torch.cartesian_prod(*[shares] * 4).prod(1)
    x, xi = grid[:, :2] @ torch.linalg.cholesky(SIGMA).T, grid[:, 2:]
    objective = DenoisingScoreMatching(spec(2), sigmas=sigmas, weights=weights).double()
    levels = [Fixed(torch.full((len(x),), (k + 0.5) / K), xi) for k in range(K)]
    j = sum((w * objective.score(model, Batch(x), some)).sum() for some in levels) / K / min(sigmas) ** 2

    at, _ = on_a_grid(SIGMA, half=10.0)
    at = at.requires_grad_()
    of_level = [
        torch.distributions.MultivariateNormal(torch.zeros(2).double(), SIGMA + s**2 * torch.eye(2)) for s in sigmas
    ]
    log_q = (torch.stack([normal.log_prob(at) for normal in of_level], 1) + pi.log()).logsumexp(1)
    (data_score,) = torch.autograd.grad(log_q.sum(), at)
    q = log_q.detach().softmax(0)
    fisher = 0.5 * (q * (model_score(model, at.detach()) - data_score).square().sum(1)).sum()
    constant = sum(p / s**2 for p, s in zip(pi, sigmas, strict=True)) - 0.5 * (q * data_score.square().sum(1)).sum()
    assert float(j - constant) == pytest.approx(float(fisher), abs=1e-6)


def test_energy_discrepancy_of_gaussians():
    """E = a x^2 / 2 on N(0, s^2) has a closed form; small and large t are score matching and maximum likelihood."""

    def closed(a: float, s2: float, t: float) -> float:
        return 0.5 * a * s2 - 0.5 * a * (s2 + t) / (1 + a * t) - 0.5 * math.log(1 + a * t)

    def loss(a: float, t: float, samples: int = 1000, n: int = 1000, **options) -> Tensor:
        model = Quadratic(spec(1)).double()
        with torch.no_grad():
            model.log_diagonal.fill_(0.5 * math.log(a))
        x = normal(n, 1) * math.sqrt(s2)
        return EnergyDiscrepancy(spec(1), t=t, samples=samples, w=0.0, **options).score(model, Batch(x), noise(1))

    a, s2, h = 1.3, 0.6, 1e-3
    for t in (0.05, 1.0):
        rows = loss(a, t)
        assert float(rows.mean()) == pytest.approx(closed(a, s2, t), abs=4 * float(rows.std()) / math.sqrt(len(rows)))

    def gradient(t: float, **options) -> tuple[float, float]:
        rows = (loss(a + h, t, **options) - loss(a - h, t, **options)) / (2 * h)
        return float(rows.mean()), 4 * float(rows.std()) / math.sqrt(len(rows))

    value, error = gradient(1e-3)
    assert value / 1e-3 == pytest.approx(a * s2 - 1, abs=error / 1e-3 + 0.05)  # of J = a^2 s^2 / 2 - a
    value, error = gradient(400.0, samples=10_000, n=200)
    assert value == pytest.approx(0.5 * s2 - 0.5 / a, abs=error + 0.05)  # of a s^2 / 2 - ln(a) / 2

    # Ornstein-Uhlenbeck: e^t (x' - x) has the variance e^2t - 1 of a Gaussian perturbation
    t = 0.3
    assert torch.allclose(loss(a, t, perturbation="ou"), loss(a, math.expm1(2 * t)))


def test_energy_discrepancy_of_many_variances_is_the_mean_of_theirs():
    """The closed form of one variance, over the logarithms of those from 1/16 of the data's to all of it."""
    a, s2 = 1.3, 0.6
    model = Quadratic(spec(1)).double()
    with torch.no_grad():
        model.log_diagonal.fill_(0.5 * math.log(a))
    x = normal(1000, 1) * math.sqrt(s2)
    objective = EnergyDiscrepancy(spec(1), samples=1000, w=0.0)
    objective.start(model, Batch(x))
    rows = objective.score(model, Batch(x), noise(1))

    t = float(x.var(unbiased=False)) * 16 ** -torch.linspace(0, 1, 1001, dtype=torch.float64)
    closed = 0.5 * a * s2 - 0.5 * a * (s2 + t) / (1 + a * t) - 0.5 * (1 + a * t).log()
    assert float(rows.mean()) == pytest.approx(float(closed.mean()), abs=4 * float(rows.std()) / math.sqrt(len(rows)))
    assert float(closed[0] - closed.mean()) < -0.1  # so that one variance would be told from many


class Regrouped(Quadratic):
    """A quadratic energy plus a function of the means of neighbours."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().energy(x, y) + (x - detail(x)).sin().sum(1)


@pytest.mark.slow
def test_pooling_is_the_likelihood_given_the_means():
    """For large M it is -log p(d | h(x)) + log r(d); E + g(h(x)) has the same loss."""
    model, t = quadratic(4), 1.5
    x = exact_samples(model, 200)
    turn = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, -1, 0, 0], [0, 0, 1, -1]], dtype=torch.float64) / math.sqrt(2)
    mean, covariance = law(model)
    mean, covariance = turn @ mean, turn @ covariance @ turn.T
    normal_of = torch.distributions.MultivariateNormal
    z = x @ turn.T
    given = normal_of(mean, covariance).log_prob(z) - normal_of(mean[:2], covariance[:2, :2]).log_prob(z[:, :2])
    log_r = torch.distributions.Normal(0, math.sqrt(t)).log_prob(z[:, 2:]).sum(1)
    objective = EnergyDiscrepancy(spec(4), t=t, samples=10_000, w=0.0, perturbation="pooling")
    rows = objective.score(model, Batch(x), noise())
    assert (rows - (log_r - given)).abs().max() < 0.1
    assert float((rows - (log_r - given)).mean()) == pytest.approx(0, abs=5e-3)

    other = Regrouped(spec(4)).double()
    other.load_state_dict(model.state_dict())
    stable = EnergyDiscrepancy(spec(4), t=t, perturbation="pooling")
    assert torch.allclose(stable.score(model, Batch(x), noise()), stable.score(other, Batch(x), noise()))


class Bent(Drift):
    """b(x) = tanh(2 x) - x / 2: two wells in each coordinate."""

    def __call__(self, x: Tensor) -> Tensor:
        return (2 * x).tanh() - x / 2


class Pull(Drift):
    """b(x) = -x."""

    def __call__(self, x: Tensor) -> Tensor:
        return -x


class Still(Drift):
    """b(x) = 0."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_weights_of_paths_are_what_a_drift_does_to_volumes():
    """Of b(x) = -x a step takes volumes by (1 - h)^2, so that q(y | x) has the integral (1 - h)^-2 over x."""
    x = normal(40_000, 2)
    steps, t = 4, 0.3
    _, log_w = Ito(drift=Pull(), t=t, steps=steps)._path(x, -1.0, noise(), len(x))
    w = log_w.exp()
    assert float(w.mean()) == pytest.approx((1 - t / steps) ** (-2 * steps), abs=4 * float(w.std()) / 200)
    assert float(w.std()) > 0.1


def test_a_diffusion_without_drift_is_gaussian_noise():
    x = normal(3, 2)
    others, rho = Ito(drift=Still(), t=0.7, steps=3).draw(x, 20_000, noise())
    assert rho.abs().max() < 1e-12
    away = (others - x[:, None]).double()
    assert torch.allclose(away.var(1), torch.tensor(0.7).double(), rtol=0.05)  # about y, which is x moved by as much
    with pytest.raises(ValueError, match=r"objective\.drift gives \(3,\) for x of \(3, 2\)"):
        Ito(drift=type("Flat", (Drift,), {"__call__": lambda self, x: x[:, 0]})()).draw(x, 2, noise())


def test_a_drift_is_for_a_diffusion_and_a_diffusion_needs_one():
    with pytest.raises(ValueError, match=r"perturbation=diffusion needs objective\.drift: package\.module:name"):
        EnergyDiscrepancy(spec(2), perturbation="diffusion")
    for options in ({"drift": Pull()}, {"steps": 3}):
        with pytest.raises(ValueError, match=r"objective\.perturbation=gaussian has none"):
            EnergyDiscrepancy(spec(2), **options)


@pytest.mark.parametrize("drift", ["gencli.core.files:write_whole", "gencli.cli.main:main", "os:getcwd"])
def test_a_run_folder_calls_nothing_by_the_name_of_a_drift(drift):
    node = {"_target_": f"{EnergyDiscrepancy.__module__}.EnergyDiscrepancy", "drift": drift}
    with pytest.raises(UsageError, match=rf"^objective\.drift={drift.replace(':', '[:.]')}: "):
        builder(()).component(node, Objective, spec(2))


@pytest.mark.parametrize("perturbation", ["gaussian", "ou", "diffusion", "pooling"])
def test_the_truth_is_a_minimum_of_energy_discrepancy(perturbation):
    """At w = 1 with few samples: every derivative is 0 at the truth, and those of the detail are not elsewhere.

    Of a diffusion that holds by two coarse steps too.
    """
    model, h = quadratic(), 1e-3
    x = exact_samples(model, 20_000)
    own = {"drift": Bent(), "steps": 2} if perturbation == "diffusion" else {}
    objective = EnergyDiscrepancy(spec(2), t=0.7, samples=3, perturbation=perturbation, **own)

    def slopes() -> list[float]:
        """Derivatives in standard errors: along b_1, b_2, both scales and the correlation."""
        found = []
        for parameter, at in ((model.b, 0), (model.b, 1), (model.log_diagonal, 0), (model.lower, (1, 0))):
            ends = []
            for move in (h, -2 * h):
                with torch.no_grad():
                    parameter[at] += move
                ends.append(objective.score(model, Batch(x), noise(4)))
            with torch.no_grad():
                parameter[at] += h
            rows = (ends[0] - ends[1]) / (2 * h)
            found.append(float(rows.mean() / (rows.std() / math.sqrt(len(rows)))))
        return found

    assert max(map(abs, slopes())) < 4
    with torch.no_grad():
        model.log_diagonal[0] += 0.2
    assert slopes()[2] > 4
    with torch.no_grad():
        model.log_diagonal[0] -= 0.4
    assert slopes()[2] < -4


@pytest.mark.parametrize("shape", [(2,), (5,), (3, 4, 6), (1, 5, 7)])
def test_pooling_loses_the_detail_only(shape):
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(detail(detail(x)), detail(x))
    others, _ = Pooling().draw(x, 4, noise())
    kept = x - detail(x)
    for some in others.unbind(1):
        assert torch.allclose(some - detail(some), kept)
        assert (some != x).flatten(1).any(1).all()
    with pytest.raises(ValueError, match=r"objective\.perturbation=pooling"):
        EnergyDiscrepancy(spec(1), perturbation="pooling")


def test_stabilized_energy_discrepancy():
    model, x = wavy().double(), normal(7, 2)
    others = x[:, None] + normal(7 * 5, 2, 1).view(7, 5, 2)
    with torch.no_grad():
        gaps = model.energy(x)[:, None] - model.energy(others.flatten(0, 1)).view(7, 5)
        for w in (0.0, 1.0, 2.5):
            assert torch.allclose(contrast(model, Batch(x), others, w), (w / 5 + gaps.exp().mean(1)).log())
    plain, stable = (EnergyDiscrepancy(spec(2), w=w).score(model, Batch(x), noise()) for w in (0.0, 1e-12))
    assert torch.allclose(plain, stable)


def nce(dim: int, ratio: int = 2) -> NCE:
    return NCE(spec(dim), noise=lambda s: Reference(s, widen=1.3), ratio=ratio)


def test_noise_contrast_knows_log_z():
    """At the truth the gradient of every parameter and of c vanishes, and c starts near log Z."""
    model = quadratic()
    x = exact_samples(model, 20_000)
    objective = nce(2).double()
    objective.start(model, Batch(x))
    assert float(objective.c.detach()) == pytest.approx(float(model.log_partition().detach()), abs=0.05)
    with torch.no_grad():
        objective.c.copy_(model.log_partition())
    parameters = [*model.parameters(), objective.c]
    for other, sign in ((0.0, 0), (0.3, 1), (-0.3, -1)):
        with torch.no_grad():
            objective.c += other
        value = objective.loss(model, Batch(x), noise(4)).value
        gradients = torch.autograd.grad(value, parameters)
        if sign == 0:
            assert all(float(g.abs().max()) < 0.04 for g in gradients)  # four standard errors
        else:
            assert sign * float(gradients[-1]) > 0.04
        with torch.no_grad():
            objective.c -= other


def test_geyers_ratio_is_the_likelihood():
    """With exact samples of psi the loss is the NLL less log Z(psi), within its error, for theta near psi."""
    model = quadratic()
    objective = MonteCarloMLE(spec(2), samples=20_000, anchor=1000).double()
    samples = exact_samples(model, 20_000, 5)
    objective.x.copy_(samples)
    objective.energies.copy_(model.energy(samples).detach())
    objective.steps_taken = 1  # psi stands
    log_z = float(model.log_partition().detach())
    x = exact_samples(model, 1000, 6)
    with torch.no_grad():
        model.b += 0.2
        model.log_diagonal += 0.1
    value = float(objective.loss(model, Batch(x), noise()).value.detach()) + log_z
    nll = float((model.energy(x).mean() + model.log_partition()).detach())
    assert value == pytest.approx(nll, abs=0.02)


def test_replay_buffer_moves_and_restarts():
    model = wavy()
    objective = PersistentContrastiveDivergence(spec(2), buffer=64, reinit=0.5, steps=3)
    objective.bind(model)
    objective.start(model, Batch(normal(100, 2).float()))
    before = objective.chains.clone()
    loss = objective.loss(model, Batch(normal(16, 2).float()), noise())
    changed = (objective.chains != before).any(1)
    assert int(changed.sum()) == 16
    assert loss.logs["energy_gap"].requires_grad is False
    assert not any(p.grad is not None for p in model.parameters())
    loss.value.backward()
    assert all(p.grad is not None for p in model.net.parameters())


def test_every_sigma_has_its_weight():
    for weights in ([1.0], []):
        with pytest.raises(ValueError, match=r"objective\.weights=.*: one for each"):
            DenoisingScoreMatching(spec(2), sigmas=[0.1, 1.0], weights=weights)
