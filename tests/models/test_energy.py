"""Energies: chains, objectives without Z, estimates of Z; each against an exact answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from energies import exact_samples, law, noise, normal, quadratic, spec, two_modes, wavy
from torch import Tensor

import gencli
from benchmarks.energies import left_weight
from gencli.cli.main import main
from gencli.core.errors import RunFailed, UsageError
from gencli.core.noise import Noise
from gencli.core.spec import Batch, Spec, Support
from gencli.core.tensors import log_mean_exp
from gencli.estimators.ais import AIS
from gencli.estimators.annealed import systematic
from gencli.estimators.partition import Importance, Quadrature
from gencli.estimators.smc import SMC
from gencli.kernels.base import slope
from gencli.models.energy.ebm import EBM
from gencli.models.energy.exponential import Polynomial, Quadratic
from gencli.models.energy.reference import Reference
from gencli.models.trained import Learned
from gencli.nn.energy import EnergyNet
from gencli.objectives.energy.base import contrast
from gencli.objectives.energy.contrastive_divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from gencli.objectives.energy.energy_discrepancy import EnergyDiscrepancy, detail
from gencli.objectives.energy.mcmc_mle import MonteCarloMLE
from gencli.objectives.energy.nce import NCE
from gencli.objectives.energy.score_matching import (
    DenoisingScoreMatching,
    DiffusionScoreMatching,
    ScoreMatching,
    SlicedScoreMatching,
)
from gencli.run.sampling import draw

# --- objectives ------------------------------------------------------------------------------------------------------


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


class Regrouped(Quadratic):
    """A quadratic energy plus a function of the means of neighbours."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().energy(x, y) + (x - detail(x)).sin().sum(1)


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


@pytest.mark.parametrize("perturbation", ["gaussian", "ou", "pooling"])
def test_the_truth_is_a_minimum_of_energy_discrepancy(perturbation):
    """At w = 1 with few samples: every derivative is 0 at the truth, and those of the detail are not elsewhere."""
    model, h = quadratic(), 1e-3
    x = exact_samples(model, 20_000)
    objective = EnergyDiscrepancy(spec(2), t=0.7, samples=3, perturbation=perturbation)

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
    others, _ = EnergyDiscrepancy(Spec(shape, Support("real")), perturbation="pooling").fibre(x, noise())
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


# name: dimension, an energy of that family, and its truth
FAMILIES = {
    "normal_2_parameters": lambda: quadratic(1),
    "normal_5_parameters": lambda: quadratic(2),
    "quartic_4_parameters": lambda: quartic([0.3, -0.8, 0.1, 0.35]),
}


def quartic(theta: list[float]) -> Polynomial:
    """E = theta . (x, x^2, x^3, x^4)."""
    model = Polynomial(spec(1)).double()
    with torch.no_grad():
        model.theta.copy_(torch.tensor(theta))
    return model


def fresh(model: Quadratic | Polynomial) -> Quadratic | Polynomial:
    """The same family before any training."""
    if isinstance(model, Quadratic):
        return Quadratic(model.spec).double()
    return Polynomial(model.spec, growth=0.3).double()


def drawn(model: Quadratic | Polynomial, n: int) -> Tensor:
    """Exact samples; of a quartic by inverting its distribution function."""
    if isinstance(model, Quadratic):
        return exact_samples(model, n)
    axis = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    p = (-model.energy(axis[:, None]).detach()).softmax(0).cumsum(0)
    return axis[torch.searchsorted(p, torch.rand(n, generator=torch.Generator().manual_seed(0)).double())][:, None]


class Fit:
    """An estimate that minimises the mean of a loss a row, and what each row has pulled it by.

    theta^ - theta = mean of the rows of ``pull`` to first order, -H^-1 times the gradient of a row's loss, so that the
    difference of two estimates on the same rows has the covariance of the difference of their pulls, over N.
    """

    def __init__(self, parameters: list[Tensor], loss: Callable[[], Tensor], rows: Callable[[], Tensor]) -> None:
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=300, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        self.theta, h = torch.nn.utils.parameters_to_vector(parameters).detach().clone(), 1e-4
        of_rows, curvature = [], []
        for k in range(len(self.theta)):
            ends = []
            for sign in (1, -1):
                torch.nn.utils.vector_to_parameters(self.theta + sign * h * torch.eye(len(self.theta))[k], parameters)
                closure()
                slope = torch.cat([p.grad.flatten() for p in parameters])
                ends.append((rows().detach(), slope.clone()))
            of_rows.append((ends[0][0] - ends[1][0]) / (2 * h))
            curvature.append((ends[0][1] - ends[1][1]) / (2 * h))
        torch.nn.utils.vector_to_parameters(self.theta, parameters)
        H, G = torch.stack(curvature), torch.stack(of_rows, 1)
        free = H.diagonal().abs() > 1e-8  # a triangular factor leaves some parameters without effect
        self.theta, self.pull = self.theta[free], -torch.linalg.solve(H[free][:, free], G[:, free].T).T
        self.free = free


def exact_mle(model: Quadratic | Polynomial, x: Tensor) -> Fit:
    def rows() -> Tensor:
        return model.energy(x) + model.log_partition()

    return Fit(list(model.parameters()), lambda: rows().mean(), rows)


ROW_OBJECTIVES = {
    "score_matching": lambda s: ScoreMatching(s),
    "sliced_score_matching": lambda s: SlicedScoreMatching(s),
    "diffusion_score_matching": lambda s: DiffusionScoreMatching(s, nu=5.0),
    "denoising_score_matching": lambda s: DenoisingScoreMatching(s, sigmas=[0.1]),
    "energy_discrepancy": lambda s: EnergyDiscrepancy(s, t=1.0, samples=8, w=1.0),
    "nce": lambda s: NCE(s, noise=lambda q: Reference(q, widen=1.2), ratio=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ROW_OBJECTIVES)
def test_every_objective_of_rows_recovers_an_exponential_family(name, family):
    """Within 3 standard errors of the exact MLE on the same 1000 examples, in each parameter.

    The standard error is that of the difference of the two estimates. For it to mean something it may be at most three
    times the MLE's own; 20 draws of noise an example keep it there.
    """
    copies, n = 20, 1000
    model = FAMILIES[family]()
    x = drawn(model, n)
    best = exact_mle(model, x)
    model = fresh(model)
    objective = ROW_OBJECTIVES[name](model.spec).double()
    objective.start(model, Batch(x))
    batch = Batch(x.repeat(copies, 1))
    turn = objective.turns(model)[0]

    def rows() -> Tensor:
        return objective.score(model, batch, noise(7)).view(copies, n).mean(0)

    fit = Fit(turn.parameters, lambda: turn.loss(batch, noise(7)).value, rows)
    K = len(best.theta)
    error = ((fit.pull[:, :K] - best.pull).var(0) / n).sqrt()
    own = (best.pull.var(0) / n).sqrt()
    away = (fit.theta[:K] - best.theta).abs()
    assert (away <= 3 * error + 1e-5).all()
    assert (error <= 3 * own).all()


CHAIN_OBJECTIVES = {
    "cd": lambda s: ContrastiveDivergence(s, steps=10, step=0.1, metropolis=True),
    "pcd": lambda s: PersistentContrastiveDivergence(s, steps=10, step=0.1, metropolis=True, buffer=2000, reinit=0.0),
    "mcmc_mle": lambda s: MonteCarloMLE(s, samples=2000, anchor=10),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CHAIN_OBJECTIVES)
def test_every_objective_with_chains_recovers_an_exponential_family(name, family):
    """Within one standard error of the exact MLE on the same 1000 examples, in each parameter.

    The standard error is the MLE's own: both see the same examples, and what is left is the noise of chains.
    """
    model = FAMILIES[family]()
    x = drawn(model, 1000)
    best = exact_mle(model, x)
    model = fresh(model)
    objective = CHAIN_OBJECTIVES[name](model.spec).double()
    objective.start(model, Batch(x))
    turn = objective.turns(model)[0]
    steps = 400
    optimizer = torch.optim.Adam(turn.parameters, lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        turn.loss(Batch(x), noise(step)).value.backward()
        optimizer.step()
        schedule.step()
    own = (best.pull.var(0) / len(x)).sqrt()
    away = (torch.nn.utils.parameters_to_vector(turn.parameters).detach()[best.free] - best.theta).abs()
    assert (away <= own).all()


def test_replay_buffer_moves_and_restarts():
    model = wavy()
    objective = PersistentContrastiveDivergence(spec(2), buffer=64, reinit=0.5, steps=3)
    objective.start(model, Batch(normal(100, 2).float()))
    before = objective.chains.clone()
    loss = objective.loss(model, Batch(normal(16, 2).float()), noise())
    changed = (objective.chains != before).any(1)
    assert int(changed.sum()) == 16
    assert loss.logs["energy_gap"].requires_grad is False
    assert not any(p.grad is not None for p in model.parameters())
    loss.value.backward()
    assert all(p.grad is not None for p in model.net.parameters())


RUN = ["data=moons", "data.train=500", "data.val=50", "data.test=50", "model=ebm", "model.net.vector.hidden=[16]"]
CHEAP = ["estimator=importance", "estimator.samples=100", "estimator.proposal.kind=gaussian"]
RUN += [
    "trainer.eval_every=6",
    "trainer.log_every=6",
    "trainer.batch_size=16",
    "logger=none",
]
RUN += ["optimizer.schedule=constant", "optimizer.warmup_steps=0", "n=0", "device=cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [["objective=pcd", "objective.buffer=50"], ["objective=mcmc_mle"]])
def test_chains_resume_to_the_bit(options, tmp_path):
    from gencli.run import checkpoint

    whole = gencli.train([*RUN, *CHEAP, *options, "trainer.max_steps=12", f"run_dir={tmp_path / 'whole'}"])
    gencli.train([*RUN, *CHEAP, *options, "trainer.max_steps=6", f"run_dir={tmp_path / 'part'}"])
    part = gencli.train([f"resume={tmp_path / 'part'}", "trainer.max_steps=12"])
    a, b = (checkpoint.read(run.path / "checkpoints" / "last.safetensors")[0] for run in (whole, part))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(name.startswith("objective/") for name in a)


def test_a_diverging_training_names_the_step(tmp_path):
    with pytest.raises(RunFailed, match=r"objective\.step=1e\+?20, 10 steps, largest norm (inf|nan)"):
        gencli.train(
            [*RUN, *CHEAP, "objective=cd", "objective.step=1e20", "trainer.max_steps=6", f"run_dir={tmp_path / 'x'}"]
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "advice"),
    [
        ("cd", r"objective\.step=0\.01, 10 steps, largest norm"),
        ("pcd", r"objective\.step=0\.01, 10 steps, largest norm"),
        ("mcmc_mle", "HMC with a step size of .*, largest norm of a chain"),
        ("energy_discrepancy", "smaller optimizer.lr"),
        ("score_matching", "smaller optimizer.lr"),
    ],
)
def test_a_diverging_energy_names_rate_and_norm_and_keeps_the_checkpoint(objective, advice, tmp_path):
    run = [*RUN, *CHEAP, f"objective={objective}", "trainer.max_steps=6", f"run_dir={tmp_path / 'x'}"]
    last = gencli.train(run).path / "checkpoints" / "last.safetensors"
    before = last.read_bytes()
    with pytest.raises(RunFailed, match=r"learning rate of 1e\+30 and parameters of norm .*" + advice):
        gencli.train([f"resume={tmp_path / 'x'}", "trainer.max_steps=30", "optimizer.lr=1e30"])
    assert last.read_bytes() == before
    again = gencli.load(tmp_path / "x")
    assert again.model.energy(normal(5, 2).float()).isfinite().all()


@pytest.mark.slow
def test_a_run_of_an_energy_end_to_end(tmp_path):
    run = gencli.train(
        [
            *RUN,
            "trainer.max_steps=12",
            "estimator=ais",
            "estimator.betas=20",
            "estimator.chains=16",
            "estimator.refresh=5",
            "sampler=hmc",
            "sampler.steps=10",
            "sampler.warmup=10",
            "n=8",
            f"run_dir={tmp_path / 'x'}",
        ]
    )
    record = run.results[0]
    assert record["bound"] == "lower"
    assert record["se_estimator"] == pytest.approx(record["diagnostics"]["log_z_se"])
    assert {"log_z", "ess", "log_z_reverse", "log_z_gap", "acceptance"} <= record["diagnostics"].keys()
    exact = run.nll("test", estimator="quadrature")
    assert exact["bound"] == "exact"
    assert exact["value"] == pytest.approx(record["value"], abs=4 * record["se_estimator"] + 2e-3)
    assert run.sample(5).shape == (5, 2)
    assert {"acceptance", "r_hat"} <= draw(run.parts, 5, 0).diagnostics.keys()
    assert (run.path / "samples" / "hmc.png").exists()
    assert main(["sample", f"run={run.path}", "picture=chains", "n=6", "sampler=mala", "sampler.steps=8"]) == 0
    assert (run.path / "samples" / "chains-seed0.png").stat().st_size > 10_000
    assert main(["sample", f"run={run.path}", "picture=chains", "sampler=direct"]) == 2


# --- models and estimators -------------------------------------------------------------------------------------------


def measured(estimator, model, x: Tensor, seed: int = 0) -> tuple[float, float, dict[str, float]]:
    estimator.check(model, Learned())
    shared = estimator.prepare(model, Batch(x), noise(seed))
    return shared.diagnostics["log_z"], math.sqrt(shared.variance), shared.diagnostics


@pytest.mark.parametrize("dim", [1, 2])
def test_quadrature_is_exact(dim):
    model = quadratic(dim)
    log_z, error, _ = measured(Quadrature(), model, exact_samples(model, 500))
    assert log_z == pytest.approx(float(model.log_partition().detach()), abs=1e-6)
    assert error < 1e-3
    polynomial = Polynomial(spec(dim), growth=0.5).double()
    assert measured(Quadrature(), polynomial, normal(200, dim))[0] == pytest.approx(
        float(polynomial.log_partition().detach()), abs=1e-5
    )
    with torch.no_grad():
        flow = two_modes(dim)
        assert abs(measured(Quadrature(), flow, flow.sample(300, noise=noise()))[0]) < 1e-4


def test_every_sigma_has_its_weight():
    for weights in ([1.0], []):
        with pytest.raises(ValueError, match=r"objective\.weights=.*: one for each"):
            DenoisingScoreMatching(spec(2), sigmas=[0.1, 1.0], weights=weights)


def test_the_weight_of_a_mode():
    """The half-plane that benchmarks/energies.py looks at, of mixtures whose weights are known."""
    model = two_modes()
    with torch.no_grad():
        model.normals.mean[:, 0] -= 4
    assert left_weight(model) == pytest.approx(0.2, abs=1e-4)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.7, 0.3]).log())
    assert left_weight(model) == pytest.approx(0.7, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["two_gaussians_ebm", "two_gaussians_nce"])
def test_far_modes_get_their_weights(recipe, tmp_path):
    run = gencli.train(
        [f"experiment={recipe}", "trainer.max_steps=800", "logger=none", "n=0", f"run_dir={tmp_path / 'x'}"]
    )
    assert left_weight(run.model) == pytest.approx(0.2, abs=0.02)


def test_quadrature_sees_mass_far_from_the_data_and_refuses_what_has_no_z():
    model = Polynomial(spec(2), degree=2, growth=0.001).double()  # a normal 20 times as wide as the box
    log_z, error, found = measured(Quadrature(), model, normal(200, 2))
    assert log_z == pytest.approx(math.log(math.pi / 0.001), abs=max(3 * error, 1e-3))
    assert found["mass_outside_box"] > 0.5
    flat = wavy("none")
    with torch.no_grad():
        flat.net.net.layers[-1].weight.zero_()
    with pytest.raises(RunFailed, match="no Z"):
        measured(Quadrature(), flat, normal(200, 2).float())


def test_an_estimate_that_is_none_is_refused():
    energy = wavy()
    with torch.no_grad():
        energy.net.net.layers[-1].bias.fill_(math.nan)
    with pytest.raises(RunFailed, match="log Z came out as nan"):
        measured(Importance(proposal=lambda s: Reference(s), samples=100), energy, normal(100, 2).float())


def test_statistics_of_a_polynomial():
    model = Polynomial(spec(2), degree=2).double()
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    assert sorted(model.statistics(x)[0].tolist()) == [2, 3, 4, 6, 9]
    with pytest.raises(ValueError, match="even"):
        Polynomial(spec(2), degree=3)
    with pytest.raises(ValueError, match="one or two dimensions"):
        Polynomial(spec(3))


ESTIMATORS = {
    "ais": lambda: AIS(base=lambda s: Reference(s, widen=1.2), chains=128, betas=60, refresh=50),
    "ais_even": lambda: AIS(
        base=lambda s: Reference(s, widen=1.2), chains=128, betas=80, adapt=False, leaps=1, refresh=50
    ),
    "smc": lambda: SMC(base=lambda s: Reference(s, widen=1.2), chains=256, betas=40, populations=8),
    "importance": lambda: Importance(proposal=lambda s: Reference(s, widen=1.5), samples=5000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("kind", ["gmm", "network"])
def test_log_z_within_its_own_error(kind, name):
    """Eight seeds: none further than 4 standard errors, the squares of all as those of normals (chi-squared, 1e-4)."""
    if kind == "gmm":
        model, truth = two_modes(distance=3.0), 0.0
        x = model.sample(1000, noise=noise(99)).detach()
    else:
        model = wavy()
        x = normal(1000, 2).float() * 1.5
        truth = measured(Quadrature(tolerance=1e-5), model, x)[0]
    away = []
    for seed in range(8):
        log_z, error, found = measured(ESTIMATORS[name](), model, x, seed)
        assert 0 < error < 0.2
        away.append((log_z - truth) / error)
        if name.startswith("ais"):
            both = math.hypot(error, found["log_z_reverse_se"])
            assert found["log_z_gap"] > -4 * both
            assert abs(found["log_z_reverse"] - truth) < 5 * found["log_z_reverse_se"] + 0.02
    assert max(map(abs, away)) < 4.5
    assert sum(a * a for a in away) < 34


def test_annealing_is_unbiased_and_its_bounds_hold():
    """A rough path: weights average to Z in both directions, their logarithms lie below and above log Z = 0."""
    model = two_modes(distance=3.0)
    x = model.sample(500, noise=noise(99)).detach()
    ais = AIS(base=lambda s: Reference(s, widen=0.8), chains=2000, betas=4, leaps=1)
    annealing = ais.annealing(model, x, noise())
    _, forward, _ = ais.forward(annealing, noise(1))
    back = ais.backward(annealing, model.sample(2000, noise=noise(2)).detach(), noise(3))
    for log_w in (forward, back):
        mean, variance = log_mean_exp(log_w)
        assert abs(float(mean)) < 4 * math.sqrt(float(variance))
        assert float(log_w.mean()) < -5 * float(log_w.std()) / math.sqrt(len(log_w))


@pytest.mark.slow
def test_bounds_are_named():
    model, energy = two_modes(), wavy()
    for kind in (AIS, SMC):
        estimator = kind(base=lambda s: Reference(s), chains=16, betas=3)
        assert estimator.prepare(energy, Batch(normal(50, 2).float()), noise()).bound == "lower"
    for some, bound in ((model, "upper"), (energy, "estimate")):
        estimator = AIS(base=lambda s: Reference(s), chains=16, betas=3, refresh=1, report="reverse")
        assert estimator.prepare(some, Batch(normal(50, 2).float()), noise()).bound == bound
    with pytest.raises(ValueError, match="no base of its own"):
        AIS(base=None).check(quadratic(), Learned())
    AIS(base=None).check(energy, Learned())
    with pytest.raises(ValueError, match="one or two dimensions"):
        Quadrature().check(Quadratic(spec(3)), Learned())


def test_systematic_resampling_is_unbiased():
    log_w = torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=torch.float64).log()
    counts = torch.zeros(4)
    for seed in range(400):
        counts += torch.bincount(systematic(log_w, noise(seed)), minlength=4)
    assert (counts / 1600 - log_w.exp()).abs().max() < 0.02


@pytest.mark.parametrize("base", ["none", "gaussian", "gmm"])
def test_an_energy_tilts_its_base(base):
    torch.manual_seed(0)
    model = EBM(spec(2), net=lambda i, o, c: EnergyNet(i, o, c, vector={"hidden": [8]}), base=base, components=3)
    x = normal(500, 2).float() + 2
    model.initialize(x)
    if base == "none":
        assert torch.equal(model.energy(x), torch.zeros(500))  # f starts at 0
        start = model.start(2000, noise=noise())
        assert start.mean(0).tolist() == pytest.approx(x.mean(0).tolist(), abs=0.1)
    else:
        assert torch.allclose(model.energy(x), -model.reference().log_prob(x))
        assert abs(measured(Quadrature(), model, x)[0]) < 1e-3
        assert not any(p.requires_grad for p in model.base.parameters())


def test_convolutional_energy_is_smooth_and_bounded_by_its_norms():
    torch.manual_seed(0)
    image = Spec((1, 8, 8), Support("real"))
    model = EBM(image, net=lambda i, o, c: EnergyNet(i, o, c, image={"width": [8, 16], "spectral_norm": True}))
    x = torch.randn(64, 1, 8, 8)
    model.initialize(x)
    with torch.no_grad():
        model.net.net.last.weight.normal_()
    assert model.energy(x).shape == (64,)
    rows = SlicedScoreMatching(image).score(model, Batch(x), noise())
    assert rows.isfinite().all()
    pooled = EnergyDiscrepancy(image, perturbation="pooling").score(model, Batch(x), noise())
    assert pooled.shape == (64,)
    assert pooled.isfinite().all()


@pytest.mark.slow
def test_a_flow_is_tilted_and_log_z_is_zero_at_the_start(tiny_run):
    """The run's own density is the base of an energy, the noise of NCE and the start of AIS."""
    own = ["model.base=run", f"model.run={tiny_run}", "objective=nce", "objective.noise.kind=run"]
    own += [f"objective.noise.run={tiny_run}", "estimator=ais", "estimator.base.kind=run", "estimator.betas=5"]
    own += [f"estimator.base.run={tiny_run}", "estimator.chains=16", "estimator.refresh=2"]
    run = gencli.train([*RUN, *own, "trainer.max_steps=1", "optimizer.lr=0.0", "run_dir=tilted"])
    flow = gencli.load(tiny_run)
    assert run.results[0]["diagnostics"]["log_z"] == pytest.approx(0, abs=1e-5)  # f is 0: all weights are 1
    assert run.results[0]["value"] == pytest.approx(float(-flow.log_prob(flow_test(run)).mean()), abs=1e-4)
    again = gencli.load("tilted")
    assert Path(again.config["model"]["run"]).is_absolute()
    assert not any(p.requires_grad for p in again.model.base.parameters())
    with pytest.raises(UsageError, match=r"model\.run=FOLDER is needed"):
        gencli.train([*RUN, "model.base=run"])
    with pytest.raises(UsageError, match=r"data\.transform=standardize: the run .* has none"):
        gencli.train([*RUN, "model.base=run", f"model.run={tiny_run}", "data.transform=standardize"])
    with pytest.raises(UsageError, match="no such run folder"):
        gencli.train([*RUN, "model.base=run", "model.run=nowhere"])


def flow_test(run) -> Tensor:
    split = run.parts.dataset.split("test")
    return split.gather(torch.arange(len(split))).x


@pytest.mark.parametrize("widen", [1.0, 2.0])
def test_a_reference_is_a_density(widen):
    model = Reference(spec(2), kind="gmm", components=3, widen=widen)
    x = torch.cat([normal(300, 2).float(), normal(300, 2, 1).float() + 4])
    model.initialize(x)
    assert abs(measured(Quadrature(), model, x)[0]) < 1e-4
    with torch.no_grad():
        drawn = model.sample(4000, noise=noise())
        own = Reference(spec(2), kind="gaussian", covariance="full")
        own.initialize(drawn)
        assert float((-model.log_prob(drawn)).mean()) < float((-own.log_prob(drawn)).mean())
