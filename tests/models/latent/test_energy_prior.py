"""An energy as the prior of codes: its law, what estimators say of a number that needs its log Z, how it learns."""

from __future__ import annotations

import math

import pytest
import torch
from estimates import NOTHING
from latents import SMALL, LinearVAE, build, data, noise
from torch import Tensor, nn

from gencli.core.errors import UsageError
from gencli.core.noise import StepNoise
from gencli.core.spec import Batch
from gencli.estimators.ais import AIS
from gencli.estimators.base import Shared
from gencli.estimators.elbo import ELBO as EstimateELBO
from gencli.estimators.iwae import IWAE as EstimateIWAE
from gencli.estimators.partition import Quadrature
from gencli.models.latent.energy_prior import EnergyOptions, EnergyPrior
from gencli.models.latent.vae import VAE
from gencli.objectives.elbo import ELBO
from gencli.objectives.iwae import IWAE
from gencli.objectives.latent import annealed

CPU = torch.device("cpu")


class Bowl(nn.Module):
    """f(z) = sum_i a_i z_i^2 / 2 - b_i z_i, under which p(z) is N(b / (1 + a), 1 / (1 + a))."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.linspace(0.5, 2.0, d).double())
        self.b = nn.Parameter(torch.linspace(-1.5, 1.0, d).double())

    def forward(self, z: Tensor) -> Tensor:
        return (0.5 * z.square() @ self.a - z @ self.b)[:, None]

    @property
    def law(self) -> tuple[Tensor, Tensor]:
        """Means and variances (d,)."""
        precision = 1 + self.a.detach()
        return self.b.detach() / precision, 1 / precision

    @property
    def log_z(self) -> float:
        mean, variance = self.law
        return float(0.5 * variance.log().sum() + 0.5 * (mean.square() / variance).sum())


def bowl(d: int, **options: float) -> EnergyPrior:
    prior = EnergyPrior(d, EnergyOptions(hidden=[4], **options))
    prior.net = Bowl(d)
    return prior.double()


def linear(d: int = 2) -> tuple[LinearVAE, torch.distributions.MultivariateNormal]:
    """A linear VAE with a bowl as its prior, and its exact p(x)."""
    known = LinearVAE(d=d)
    prior = known.model.prior = bowl(d, steps=20)
    known.set_posterior(1.5)
    mean, variance = prior.net.law
    covariance = known.W @ torch.diag(variance) @ known.W.T + known.noise * torch.eye(5).double()
    return known, torch.distributions.MultivariateNormal(known.mean + known.W @ mean, covariance)


def steps(seed: int = 0) -> StepNoise:
    return StepNoise(CPU, seed)


# --- the law of codes ------------------------------------------------------------------------------------------------


def test_it_starts_as_the_standard_normal():
    spec, x = data("binary", (6,))
    models = []
    for prior in ("standard", "energy"):
        torch.manual_seed(0)
        models.append(VAE(spec, net=SMALL, latent=3, prior=prior, energy={"hidden": [8]}))
    with torch.no_grad():
        normal, energy = (model.elbo(x, noise=noise(len(x))) for model in models)
        assert torch.allclose(normal.rate.sum(1), energy.rate.sum(1), atol=1e-6)
        estimator = EstimateIWAE(chains=16, betas=5)
        assert estimator.prepare(models[1], Batch(x), steps()).state == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_have_the_moments_of_the_density(temperature):
    """At T the energy is E / T^2: the same means, T times the deviations; within 4.5 standard errors."""
    prior, n = bowl(3, steps=40), 4000
    z, said = prior.draw(n, noise(n), temperature)
    mean, variance = prior.net.law
    variance = temperature**2 * variance
    assert ((z.mean(0) - mean).abs() < 4.5 * (variance / n).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 4.5 * math.sqrt(2 / n)).all()
    assert said["latent_chain_steps"] == 40
    assert 0.6 < said["latent_acceptance"] <= 1
    assert torch.equal(z[:7], prior.sample(7, noise(7), temperature))  # whatever the batch
    assert all(p.requires_grad for p in prior.net.parameters())


def test_no_chain_moves_at_temperature_zero():
    with pytest.raises(UsageError, match=r"^sampler\.temperature=0: "):
        bowl(2).sample(3, noise(3), 0.0)


# --- the number ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "d"), [(EstimateELBO, 1), (EstimateIWAE, 2)])
def test_log_z_of_few_codes_is_exact(kind, d):
    known, _ = linear(d)
    x = torch.zeros(50, 5).double()
    shared = kind().prepare(known.model, Batch(x), steps())
    assert shared.state == pytest.approx(known.model.prior.net.log_z, abs=1e-6)
    assert shared.bound == "upper"
    assert shared.diagnostics["log_z"] == shared.state


def test_the_number_is_that_of_the_exact_density():
    """IWAE within 4 standard errors of the exact NLL, ELBO above it, each row by itself."""
    known, exact = linear()
    torch.manual_seed(1)
    x = exact.sample((200,))
    truth = -exact.log_prob(x)
    with torch.no_grad():
        for kind, sign in ((EstimateIWAE(k=500), 0), (EstimateELBO(samples=50), 1)):
            shared = kind.prepare(known.model, Batch(x), steps())
            found = kind.nll(known.model, Batch(x), noise(200), shared)
            away, error = (found.nll - truth).mean(), found.variance.mean().div(200).sqrt()
            if sign:
                assert away > 4 * error
            else:
                assert abs(away) < 4 * error
                assert torch.allclose(
                    found.diagnostics["negative_elbo"].mean(),
                    (found.diagnostics["distortion"] + found.diagnostics["rate"]).mean(),
                    atol=0.5,
                )


@pytest.mark.parametrize("d", [2, 8])
def test_both_sides_of_annealing_bracket_log_z(d):
    """Each side within 3 of its standard errors."""
    prior = bowl(d)
    found = AIS(base=None, chains=200, betas=20, refresh=50).prepare(
        prior, Batch(prior.start(99, noise=steps())), steps(d)
    )
    truth, said = prior.net.log_z, found.diagnostics
    assert said["log_z_forward"] < truth + 3 * found.variance**0.5
    assert said["log_z_reverse"] > truth - 3 * said["log_z_reverse_se"]
    assert found.bound == "lower"


@pytest.mark.slow
def test_log_z_of_many_codes_is_an_estimate_with_both_sides_told():
    known = LinearVAE(D=9, d=8)
    known.model.prior = bowl(8)
    x = torch.zeros(10, 9).double()
    estimator = EstimateIWAE(k=10, chains=100, betas=30)
    shared = estimator.prepare(known.model, Batch(x), steps())
    assert shared.bound == "estimate"
    assert abs(shared.state - known.model.prior.net.log_z) < 4 * shared.variance**0.5
    assert {"log_z", "log_z_se", "log_z_forward", "log_z_reverse", "log_z_gap", "log_z_ess"} <= set(shared.diagnostics)
    assert "ess" not in shared.diagnostics  # that is a row's own
    nll = [estimator.nll(known.model, Batch(x), noise(10), Shared("estimate", z)).nll for z in (0.0, 2.0)]
    assert torch.allclose(nll[1] - nll[0], torch.tensor(2.0).double())


@pytest.mark.parametrize("of_log_z", ["exact", "upper", "lower", "estimate"])
@pytest.mark.parametrize("kind", [EstimateELBO, EstimateIWAE])
def test_it_is_an_upper_bound_only_with_an_upper_bound_on_log_z(kind, of_log_z, monkeypatch):
    monkeypatch.setattr(Quadrature, "measure", lambda *_: Shared(of_log_z, 0.0))
    known, _ = linear()
    shared = kind().prepare(known.model, Batch(torch.zeros(9, 5).double()), steps())
    assert shared.bound == ("upper" if of_log_z in ("exact", "upper") else "estimate")


def test_a_number_without_log_z_is_no_number():
    known, _ = linear()
    x = torch.zeros(9, 5).double()
    for kind in (EstimateELBO(), EstimateIWAE(k=4)):
        with pytest.raises(TypeError):
            kind.nll(known.model, Batch(x), noise(9), NOTHING)
        normal = LinearVAE().model
        assert kind.prepare(normal, Batch(x), steps()).bound == "upper"
        assert kind.nll(normal, Batch(x), noise(9), NOTHING).nll.isfinite().all()


def test_elbo_terms_are_the_mean_log_weight():
    model, x = build("vae-energy")
    with torch.no_grad():
        log_w = model.log_weights(x, 200, noise=noise(200))
        terms = [model.elbo(x, noise=noise(200, seed)) for seed in range(10, 40)]
    nll = torch.stack([t.distortion + t.rate.sum(1) for t in terms])
    error = math.sqrt(float(nll.var(0).mean() / 30 + log_w.var(1).mean() / 200) / 200)
    assert abs(float((nll.mean(0) + log_w.mean(1)).mean())) < 4.5 * error


# --- how it learns ---------------------------------------------------------------------------------------------------


def gradient(value: Tensor, prior: EnergyPrior) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, [prior.net.a, prior.net.b])])


def test_short_runs_give_the_gradient_of_log_z():
    """Of chains that have settled within 4.5 standard errors of their law, whose variance is 1 / (1 - s / 2 v) of v."""
    known, _ = linear()
    prior, n, s = known.model.prior, 20_000, 0.1
    objective = ELBO(known.model.spec, prior="short_run", prior_steps=80, prior_step_size=s)
    objective.bind(known.model)
    log_z, _ = objective.learning(known.model, Batch(torch.zeros(n, 5).double()), steps())
    mean, variance = prior.net.law
    settled = variance / (1 - s / (2 * variance))
    exact = torch.cat([-(mean.square() + settled) / 2, mean])
    error = torch.cat([((2 * settled.square() + 4 * mean.square() * settled) / (4 * n)).sqrt(), (settled / n).sqrt()])
    assert ((gradient(log_z, prior) - exact).abs() < 4.5 * error).all()
    assert objective.score_name == "nll_estimate"


@pytest.mark.parametrize("objective", [ELBO, IWAE])
def test_the_gradient_of_the_whole_loss_is_that_of_the_exact_nll(objective):
    """Of a prior, where q is the posterior and s is small: within 4.5 standard errors and 2 % of each term."""
    known, _ = linear(d=1)
    prior, n = known.model.prior, 4000
    precision = 1 + prior.net.a.detach() + (known.W.T @ known.W / known.noise)[0]
    layer = known.model.encoder.layers[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:1] = known.W.T / known.noise / precision
        layer.bias[:1] = (prior.net.b - known.W.T @ known.mean / known.noise) / precision
        layer.bias[1:] = -0.5 * precision.log()
    mean, variance = prior.net.law
    covariance = variance * known.W @ known.W.T + known.noise * torch.eye(5).double()
    exact = torch.distributions.MultivariateNormal(known.mean + known.W @ mean, covariance)
    torch.manual_seed(0)
    x = exact.sample((n,)) + 0.5
    part = objective(known.model.spec, prior="short_run", prior_steps=100, prior_step_size=0.02)
    part.bind(known.model)
    (turn,) = part.turns(known.model)
    assert ({*turn.slower}, turn.slower_by) == ({*prior.parameters()}, 0.02)
    found = gradient(turn.loss(Batch(x), noise(n)).value, prior)
    a, b = (p.detach().clone().requires_grad_() for p in (prior.net.a, prior.net.b))
    law = torch.distributions.MultivariateNormal(
        known.mean + known.W @ (b / (1 + a)), known.W @ known.W.T / (1 + a) + known.noise * torch.eye(5).double()
    )
    truth = torch.stack(torch.autograd.grad(-law.log_prob(x).mean(), [a, b])).flatten()
    second = mean.square() + variance
    error = torch.cat([second / math.sqrt(2 * n), (variance / n).sqrt()]) * 2
    assert ((found - truth).abs() < 4.5 * error + 0.02 * torch.cat([second, mean.abs()])).all()


def test_energy_discrepancy_of_codes_vanishes_at_their_own_law(monkeypatch):
    """And moves nothing else; the bound then moves no parameter of the prior. Codes from elsewhere push."""
    known, _ = linear()
    prior, n = known.model.prior, 20_000
    mean, variance = prior.net.law
    objective = ELBO(known.model.spec, prior="energy_discrepancy")
    objective.bind(known.model)
    with objective.bounding(known.model):
        bound = known.model.elbo(torch.zeros(9, 5).double(), noise=noise(9))
    taken = torch.autograd.grad(bound.rate.sum(), [prior.net.a, *known.model.encoder.parameters()], allow_unused=True)
    assert taken[0] is None
    assert all(g is not None for g in taken[1:])

    def push(shift: float) -> Tensor:
        z = mean + shift + variance.sqrt() * noise(n, 5).randn(n, 2)
        monkeypatch.setattr(known.model, "posterior_codes", lambda *_, **__: z)
        return gradient(objective.learning(known.model, Batch(torch.zeros(n, 5)), noise(n))[1], prior)

    assert push(0.0).abs().max() < 0.02
    assert (push(1.0)[2:] < -0.1).all()  # b grows, and with it the mean


def test_scores_know_log_z():
    """Two energies that differ by a constant are one prior, and score the same."""
    known, _ = linear()
    x = known.exact.sample((50,))
    for objective in (ELBO(known.model.spec), IWAE(known.model.spec, k=3)):
        before = objective.score(known.model, Batch(x), noise(50))
        old = known.model.prior.net.forward
        known.model.prior.net.forward = lambda z, old=old: old(z) + 7.0
        assert torch.allclose(objective.score(known.model, Batch(x), noise(50)), before)
        del known.model.prior.net.forward


def test_scores_find_log_z_far_from_the_reference():
    """Where p(z) = N(2, 1/2) in each of 8 coordinates: within 1.5 nats of log Z; importance sampling is 5 off."""
    prior = bowl(8)
    with torch.no_grad():
        prior.net.a.fill_(1.0)
        prior.net.b.fill_(4.0)
    found = float(annealed(prior, 100, noise(100)))
    z = noise(2000).randn(2000, 8).double()
    with torch.no_grad():
        importance = float((prior.base.energy(z) - prior.energy(z)).logsumexp(0)) - math.log(2000)
    assert abs(found - prior.net.log_z) < 1.5
    assert importance < prior.net.log_z - 5


def test_options_that_fit_no_such_prior_are_refused():
    normal, energy = LinearVAE().model, linear()[0].model
    for objective in (ELBO, IWAE):
        with pytest.raises(ValueError, match=r"^objective\.prior=short_run: .*model\.prior=energy"):
            objective(normal.spec, prior="short_run").bind(normal)
        assert objective(normal.spec).bind(normal) == objective(energy.spec).bind(energy)
    with pytest.raises(ValueError, match=r"^objective\.free_bits=0\.5: "):
        ELBO(energy.spec, free_bits=0.5).bind(energy)
    with pytest.raises(UsageError, match=r"^model\.energy\.hiden: .*hidden"):
        VAE(energy.spec, net=SMALL, latent=2, prior="energy", energy={"hiden": [3]})
