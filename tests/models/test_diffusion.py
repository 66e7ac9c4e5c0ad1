"""Time fields with networks, and what measures them."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from estimates import NOTHING
from fields import PATHS, MixtureField, flow_of_gaussian, gaussian, three, twentyfive
from networks import CPU, PLANE, SMALL, build, noise

from gencli.core.errors import RunFailed
from gencli.core.noise import StepNoise
from gencli.core.spec import Batch
from gencli.estimators.ode import ODE
from gencli.estimators.vlb import VLB
from gencli.methods import ode
from gencli.methods.volume import rates
from gencli.models.diffusion.field import NetworkField, moments
from gencli.models.trained import Learned
from gencli.nn.mlp import MLP
from gencli.nn.residual import ResidualMLP
from gencli.nn.unet import UNet
from gencli.objectives.diffusion.flow_matching import FlowMatching
from gencli.paths.schedules import VE, VP, Straight

# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [0, 5])
@pytest.mark.parametrize("shape", [(3,), (1, 8, 8), (1, 10, 10), (3, 7, 10)])
def test_networks_start_at_zero_and_feel_their_context(shape, context):
    torch.manual_seed(0)
    net = SMALL(shape, shape, context)
    assert isinstance(net.net, ResidualMLP if math.prod(shape) <= 64 else UNet)
    x, c = torch.randn(4, *shape), torch.randn(4, context) if context else None
    assert torch.equal(net(x, c), torch.zeros(4, *shape))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    out = net(x, c)
    assert out.shape == x.shape
    assert torch.allclose(net(x[1:2], None if c is None else c[1:2]), out[1:2], atol=1e-4)
    if c is not None:
        assert not torch.allclose(net(x, -c), out)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_unet_refuses_vectors_and_heads():
    with pytest.raises(ValueError, match="another net"):
        UNet((3,), (3,), 0)
    with pytest.raises(ValueError, match=r"model\.net\.heads=3"):
        UNet((1, 8, 8), (1, 8, 8), 0, heads=3)


@pytest.mark.slow
@pytest.mark.parametrize("net", [functools.partial(ResidualMLP, width=64), functools.partial(MLP, hidden=[64, 64, 64])])
def test_networks_leave_the_saddle_of_symmetric_data(net):
    """For eight modes on a ring the best linear field, where training starts, is a saddle."""
    torch.manual_seed(0)
    angle = torch.arange(8) * math.pi / 4
    centres = 2.8 * torch.stack([angle.cos(), angle.sin()], 1)
    model = NetworkField(PLANE, net=net, path=Straight)
    objective = FlowMatching(PLANE)

    def draw(n, step):
        return centres[(8 * StepNoise(CPU, step, 1).rand(n)).long()] + 0.3 * StepNoise(CPU, step, 2).randn(n, 2)

    model.initialize(draw(4000, -1))
    (turn,) = objective.turns(model)
    optimizer = torch.optim.Adam(turn.parameters, 2e-3)
    score = lambda: float(objective.score(model, Batch(draw(4000, -2)), StepNoise(CPU, -3)).mean())  # noqa: E731
    with torch.no_grad():
        linear = score()
    for step in range(250):
        optimizer.zero_grad()
        turn.loss(Batch(draw(256, step)), StepNoise(CPU, step)).value.backward()
        optimizer.step()
    with torch.no_grad():
        assert score() < 0.95 * linear


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_an_untrained_edm_model_is_the_normal_distribution_of_the_data(path):
    model = build(path, moved=False).double()
    exact = MixtureField(model.path, torch.tensor([[1.5, -0.5]]), 0.8)
    model.mean.copy_(torch.tensor([1.5, -0.5]))
    model.std.fill_(0.8)
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(2)).double()
    t = torch.linspace(model.path.t_min, model.path.t_max, 9, dtype=torch.float64)
    assert torch.allclose(model.predict(x, t).v, exact.predict(x, t).v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prediction", ["edm", "eps", "x0", "v"])
def test_predictions_say_one_thing(path, prediction):
    try:
        model = build(path, prediction=prediction)
    except ValueError as error:
        assert prediction in ("eps", "x0")
        assert path in ("straight", "trigonometric")
        assert f"model.prediction={prediction}" in str(error)  # noqa: PT017
        return
    t = torch.tensor([0.2, 0.5, 0.9]).double()
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(3)).double()
    said = model.predict(x, t)
    assert torch.allclose(model.path.noised(said.x0, said.eps, t), x, rtol=1e-4, atol=1e-4)
    if prediction != "edm":
        alpha, sigma = model.path.alpha(t)[:, None], model.path.sigma(t)[:, None]
        white = (x - alpha * model.mean) / ((alpha * model.std) ** 2 + sigma**2).sqrt()
        out = model.net(white.float(), model._context(t, None)).double()
        assert torch.allclose(getattr(said, prediction), out, rtol=1e-3, atol=1e-4)


def test_a_coupled_field_has_no_bound_by_its_denoised_mean():
    model = build("straight")
    VLB().check(model, Learned())
    with pytest.raises(ValueError, match="estimator=ode"):
        VLB().check(model, Learned(score=False))


def test_labels_are_hidden_by_minus_one_and_by_none():
    model = build(conditional=True, label_dropout=0.5)
    x, t = torch.randn(3, 2), torch.full((3,), 0.5)
    hidden = model.predict(x, t, torch.full((3,), -1)).v
    assert torch.equal(model.predict(x, t).v, hidden)
    assert not torch.allclose(model.predict(x, t, torch.zeros(3).long()).v, hidden)
    with pytest.raises(ValueError, match="needs y"):
        build(conditional=True).predict(x, t)


def test_values_of_the_model_are_checked():
    for options, message in [
        ({"label_dropout": 0.1}, r"model\.label_dropout=0.1 needs"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(**options)


def test_discrete_times():
    model = build(timesteps=4)
    low = model.path.t_min
    t = torch.tensor([low, 0.1, 0.25 + 0.75 * low, 0.26, 1.0]).double()
    steps = (model.snap(t) - low) / (1 - low) * 4
    assert steps.tolist() == pytest.approx([1, 1, 1, 2, 4], abs=1e-5)


# --- estimators ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vp", "subvp", "cosine", "ve", "straight"])
def test_the_flow_gives_the_density_of_twenty_five_gaussians(name):
    """At tolerance 1e-5. What t_min and the prior take away is known in closed form here; the rest is the solver's."""
    path = PATHS[name]()
    field = twentyfive(path)
    x = field.draw(300, seed=1)
    with torch.no_grad():
        log_p = ODE().log_prob(field, x, None, None)[0][:, 0]
        velocity = lambda z, t, rows: field.predict(z, t).velocity  # noqa: E731
        z = ode.dopri5(velocity, x, path.t_min, path.t_max, atol=1e-7, rtol=1e-7, max_nfe=9999).x
    white = z / path.prior_std
    prior = -0.5 * white.square().sum(1) - 2 * math.log(path.prior_std * math.sqrt(2 * math.pi))
    mismatch = prior - field.log_prob(z, path.t_max)
    truncation = field.log_prob(x, path.t_min) - field.log_prob(x) if path.t_min or name == "ve" else 0
    error = log_p - field.log_prob(x)
    assert (error - mismatch - truncation).abs().max() < 2e-3
    assert error.mean().abs() < (1e-3 if name == "ve" else 3e-4)
    if name in ("vp", "cosine", "straight"):
        assert error.abs().max() < 6e-3
    if name == "straight":
        assert error.abs().max() < 2e-3


@pytest.mark.slow
def test_prepare_checks_itself_and_says_what_is_exact():
    field = twentyfive(VP())
    x, step = field.draw(16), StepNoise(CPU, 0)
    estimator = ODE()
    shared = estimator.prepare(field, Batch(x), step)
    assert shared.bound == "exact"
    assert shared.diagnostics["self_check_error"] < 1e-3
    assert shared.diagnostics["solver_error"] < 1e-3
    assert 0 < shared.diagnostics["prior_kl"] < 5e-3
    hurried = estimator.within(1e-6).prepare(field, Batch(x), StepNoise(CPU, 0))
    assert hurried.flags == ("solver checked on 2 of 16 examples",)
    assert hurried.bound == "exact"
    whole = estimator.within(1e6).prepare(field, Batch(x), StepNoise(CPU, 0))
    assert not whole.flags
    assert whole.diagnostics["solver_error"] == pytest.approx(shared.diagnostics["solver_error"], abs=1e-5)
    rough = ODE(method="euler", steps=5)
    with pytest.raises(ode.SolverError, match="nats off on a normal distribution"):
        rough.prepare(field, Batch(x), step)
    guessed = ODE(trace="hutchinson").prepare(field, Batch(x), step)
    assert guessed.bound == "estimate"
    assert guessed.settled == {"atol": 1e-4, "rtol": 1e-4}
    assert shared.settled == {"atol": 1e-5, "rtol": 1e-5}
    coarse = ODE(trace="hutchinson").within(1e-6).prepare(field, Batch(x), step)
    assert coarse.settled == {"atol": 1e-3, "rtol": 1e-3}
    assert "solver at 0.001" in coarse.flags
    assert coarse.diagnostics["solver_error"] > guessed.diagnostics["solver_error"]
    kept = ODE(trace="hutchinson", atol=1e-4, rtol=1e-4).within(1e-6).prepare(field, Batch(x), step)
    assert kept.settled == {"atol": 1e-4, "rtol": 1e-4}  # what was asked for
    asked, guess = ODE(trace="hutchinson", atol=1e-3, rtol=1e-3), ODE(trace="hutchinson")
    short, long, by_hand = (
        estimator.nll(field, Batch(x), noise(16), given).nll
        for estimator, given in ((guess, coarse), (guess, guessed), (asked, NOTHING))
    )
    assert torch.equal(short, by_hand)
    assert not torch.equal(short, long)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [1e3, 0.1, 1e-3])
def test_a_tolerance_does_not_certify_itself(tolerance):
    """Exact to 0.01 nats, or an estimate whose error is told: on a straight path to which few steps look alike."""
    field = three(Straight())
    x = field.draw(32)
    estimator = ODE(atol=tolerance, rtol=tolerance)
    with torch.no_grad():
        truth = ODE(atol=1e-9, rtol=1e-9).log_prob(field, x, None, None)[0][:, 0]
        error = estimator.log_prob(field, x, None, None)[0][:, 0] - truth
    try:
        shared = estimator.prepare(field, Batch(x), StepNoise(CPU, 0))
    except ode.SolverError as refused:
        assert "lower estimator.atol" in str(refused)  # noqa: PT017
        return
    assert shared.diagnostics["solver_error"] == pytest.approx(float(error.abs().mean()), abs=1e-5)
    assert (shared.bound == "exact") == (float(error.abs().mean()) <= 0.01)
    assert math.sqrt(shared.variance) == pytest.approx(abs(float(error.mean())), abs=1e-5)


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_traces_are_those_of_the_jacobian(shape):
    model = build(shape=shape).double()
    D, x = math.prod(shape), torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double().flatten(1)
    t = torch.tensor([0.1, 0.5, 0.9]).double()
    one = lambda z, i: model.predict(z.view(1, *shape), t[i : i + 1]).velocity.flatten()  # noqa: E731
    exact = [torch.autograd.functional.jacobian(lambda z, i=i: one(z, i), x[i]).trace() for i in range(3)]
    with torch.no_grad():
        now = rates(model, x, t, None, None)
        assert torch.equal(now.velocity, model.velocity(x.view(-1, *shape), t).flatten(1))
        assert torch.allclose(now.divergence[:, 0], torch.stack(exact), rtol=1e-6, atol=1e-8)
        forms = rates(model, x, t, None, (noise(3).rand(3, 1000, D) < 0.5).double() * 2 - 1).divergence
    error = forms.std(1) / math.sqrt(1000)
    assert ((forms.mean(1) - torch.stack(exact)).abs() < 3 * error + 1e-9).all()


def test_hutchinson_scatters_around_the_exact_trace_as_it_says():
    """On fixed steps, so that both have the same error of the solver."""
    field = three(VP(t_min=1e-2))
    x = field.draw(200)
    rough = {"method": "rk4", "steps": 15}
    exact = ODE(trace="exact", **rough).nll(field, Batch(x), noise(200), NOTHING)
    guess = ODE(trace="hutchinson", probes=32, **rough).nll(field, Batch(x), noise(200), NOTHING)
    away = guess.nll - exact.nll
    assert not exact.variance.any()
    assert away.mean().abs() < 3 * guess.variance.sum().sqrt() / 200
    assert float((away.square() / guess.variance).mean()) == pytest.approx(31 / 29, abs=0.4)  # mean of F(1, 31)


def test_the_density_is_that_of_the_network_and_sums_to_one():
    """Any velocity gives a density: the flow of a network that was never trained, on a grid."""
    model = build("straight", moved=True)
    axis = torch.linspace(-11, 13, 61)
    x = torch.cartesian_prod(axis, axis)
    nll = ODE(method="rk4", steps=12).nll(model, Batch(x), noise(len(x)), NOTHING).nll
    assert float((-nll).exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=3e-3)


def entropy(s):
    return 0.5 * math.log(2 * math.pi * math.e * s**2)


@pytest.mark.parametrize("discrete", [True, False])
def test_the_bound_on_normal_data_falls_to_the_entropy_as_one_over_t(discrete):
    """The optimal denoiser errs by E |x0 - x0^|^2 = sigma^2 s^2 / V, which gives each part of the bound in closed form.

    From a fixed first noise: where t_1 itself falls as 1/T on a path with sigma ~ sqrt(t), half of Euler's constant
    a dimension remains. What the decoder loses there is taken off.
    """
    path, s, n = VP(t_min=0.05), 0.6, 20_000
    field = gaussian(path)
    x, gaps = field.draw(n), []
    for T in (50, 400, 800, 1600):
        if discrete:
            field.timesteps = T
            t = path.t_min + (1 - path.t_min) * torch.arange(1, T + 1).double() / T
        else:  # equal steps of log-SNR
            ends = path.log_snr(torch.tensor([path.t_min, 1.0]).double()).tolist()
            t = path.time(torch.linspace(*ends, T, dtype=torch.float64))
        alpha, sigma = path.alpha(t), path.sigma(t)
        error, snr = sigma**2 * s**2 / ((alpha * s) ** 2 + sigma**2), (alpha / sigma) ** 2
        diffusion = float((0.5 * (snr[:-1] - snr[1:]) * error[1:]).sum())
        ratio = float(error[0] * snr[0])
        decoder = 0.5 * (ratio - 1 - math.log(ratio))
        reconstruction = 0.5 * (math.log(2 * math.pi) - float(snr[0].log()) + ratio)
        prior = 0.5 * float(sigma[-1] ** 2 - 1 - 2 * sigma[-1].log() + alpha[-1] ** 2 * (s**2 + 0.25))
        gaps.append(prior + diffusion + reconstruction - decoder - entropy(s) - prior)
        if T == 50:
            estimate = VLB(timesteps=T, samples=T).nll(field, Batch(x), noise(n), NOTHING)
            expected = {"prior": prior, "diffusion": diffusion, "reconstruction": reconstruction}
            for name, value in estimate.diagnostics.items():
                four = 4 * float(value.std()) / math.sqrt(n)
                assert float(value.mean()) == pytest.approx(expected[name], abs=four + 1e-6), name
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(gaps[1:])]
    assert all(0.9 < slope < 1.1 for slope in slopes), gaps


def test_wide_steps_lose_nothing_on_standard_normal_data_and_narrow_ones_nothing_on_a_point():
    """Right variances (Ho et al., 2020, section 3.2), of which ``prepare`` takes the better one on validation."""
    n = 4000
    for std, right in ((1.0, "large"), (1e-3, "small")):
        field = gaussian(VP(), mean=0.0, std=std, dim=2)
        x = field.draw(n)
        gaps = {}
        for variance in ("small", "large"):
            estimator = VLB(timesteps=20, samples=19, variance=variance)
            shared = estimator.prepare(field, None, noise(1))
            found = estimator.nll(field, Batch(x), noise(n), shared)
            below = found.nll + field.log_prob(x)  # of the same rows: what is left is the gap
            gaps[variance] = float(below.mean()), 4 * float(below.std()) / math.sqrt(n)
        other = "small" if right == "large" else "large"
        assert gaps[other][0] > 0.5
        if right == "large":
            assert abs(gaps["large"][0]) < gaps["large"][1] + 0.01
        assert gaps[right][0] < gaps[other][0]
        chosen = VLB(timesteps=20).prepare(field, Batch(x[:200]), StepNoise(CPU, 0))
        assert (chosen.state, chosen.settled) == (right, {"variance": right})
    with pytest.raises(ValueError, match=r"estimator\.variance=large: of steps"):
        VLB(variance="large").check(field, Learned())


def test_sampled_steps_give_the_bound_of_all_steps():
    field = gaussian(VP())
    x = field.draw(1000)
    whole, some = (VLB(timesteps=50, samples=k).nll(field, Batch(x), noise(1000), NOTHING) for k in (49, 12))
    away = some.nll.mean() - whole.nll.mean()
    assert away.abs() < 4 * (whole.variance + some.variance).sum().sqrt() / 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
def test_the_continuous_bound_is_the_entropy(name):
    field = gaussian(PATHS[name]())
    x = field.draw(1000)
    estimate = VLB(samples=200).nll(field, Batch(x), noise(1000), NOTHING)
    gap = (estimate.nll + field.log_prob(x)).double()
    error = float(estimate.variance.mean() / len(x)) ** 0.5
    assert float(gap.mean()) == pytest.approx(0, abs=4 * error + 5e-3)
    assert torch.allclose(sum(estimate.diagnostics.values()), estimate.nll)


def test_the_bound_lies_above_the_density():
    """A model that is not the data's: the bound says more nats than the flow, in the mean over rows."""
    path, data = VP(), gaussian(VP())
    wrong = MixtureField(path, torch.tensor([[0.2]]), 0.9)
    x = data.draw(1000)
    bound = VLB(samples=100).nll(wrong, Batch(x), noise(1000), NOTHING)
    assert float((bound.nll + wrong.log_prob(x)).mean()) > -4 * float(bound.variance.mean() / 1000) ** 0.5


def test_samples_and_density_belong_together():
    """-log p of the model's own samples, on average, is the entropy that its own prior and volume change give."""
    field = gaussian(Straight())
    x = torch.linspace(-1, 2, 5).double()[:, None]
    z = flow_of_gaussian(field, x, 0.0, 1.0)
    log_p = ODE().log_prob(field, x, None, None)[0][:, 0]
    assert torch.allclose(log_p, -0.5 * z.square().sum(1) - 0.5 * math.log(2 * math.pi) - math.log(0.6), atol=1e-4)
    assert entropy(0.6) == pytest.approx(float(-field.log_prob(field.draw(20_000)).mean()), abs=0.02)
    assert VE().prior_std == 50


def test_one_example_has_no_deviation_to_be_scaled_by():
    with pytest.raises(RunFailed, match="one example has none"):
        moments(torch.zeros(1, 3))
