"""The learned schedule, and training on the variational bound itself."""

from __future__ import annotations

import functools
import json
import math

import pytest
import torch
from estimates import NOTHING
from fields import gaussian, learned

import gencli
from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.vlb import VLB as Estimator
from gencli.models.diffusion.field import NetworkField
from gencli.nn.mlp import MLP
from gencli.objectives.diffusion.denoise import DSM, Denoise
from gencli.objectives.diffusion.flow_matching import FlowMatching
from gencli.objectives.diffusion.vlb import VLB
from gencli.paths.learned import LearnedSchedule, bernstein
from gencli.paths.schedules import VP

CPU = torch.device("cpu")
LINE = Spec((1,), Support("real"))
SMALL = functools.partial(MLP, hidden=[16])


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


def network(path, moved=True, net=SMALL, **options):
    torch.manual_seed(0)
    model = NetworkField(Spec((2,), Support("real"), classes=3), net=net, path=path, **options)
    if moved:
        with torch.no_grad():
            for parameter in model.net.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    return model


def error(gamma, s=0.6):
    """E |eps - eps^|^2 of the best denoiser of normal data, one dimension."""
    return s**2 / (s**2 + gamma.exp())


# --- the path --------------------------------------------------------------------------------------------------------


def test_it_starts_as_a_line_and_its_interior_moves_no_end():
    t = torch.linspace(0, 1, 50).double()
    path = LearnedSchedule(-9.0, 4.0)
    assert torch.allclose(path.gamma(t), -9 + 13 * t, atol=1e-5)
    bent = learned()
    assert not torch.allclose(bent.gamma(t), LearnedSchedule().gamma(t), atol=0.5)
    assert torch.allclose(bent.gamma(t[[0, -1]]), LearnedSchedule().gamma(t[[0, -1]]))
    assert path.interior() == [path.w]


def test_bernstein_polynomials_share_one_and_count_out_binomials():
    t = torch.linspace(0, 1, 7).double()
    B = bernstein(t, 5)
    assert torch.allclose(B.sum(-1), torch.ones(7).double())
    assert torch.allclose(B @ torch.arange(6).double(), 5 * t)  # the mean of a binomial
    assert B[0].tolist() == [1, 0, 0, 0, 0, 0]


def test_what_lies_beyond_the_ends_is_at_the_nearer_end():
    path = learned()
    assert path.time(torch.tensor([99.0, -99.0]).double()).tolist() == pytest.approx([0, 1], abs=1e-12)


@pytest.mark.parametrize("name", ["alpha", "sigma", "d_alpha", "d_sigma", "turn", "log_snr", "d_log_snr"])
def test_coefficients_are_differentiable_in_all_parameters(name):
    path = LearnedSchedule(-8.0, 3.0).double()
    t = torch.tensor([0.3, 0.8]).double()
    parameters = list(path.parameters())
    gradients = torch.autograd.grad(getattr(path, name)(t).sum(), parameters, materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        with torch.no_grad():
            shift = torch.zeros_like(parameter)
            shift.view(-1)[-1] = 1e-5
            values = []
            for sign in (1, -1):
                parameter += sign * shift
                values.append(getattr(path, name)(t).sum())
                parameter -= sign * shift
        slope = float(values[0] - values[1]) / 2e-5
        assert float(gradient.view(-1)[-1]) == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_a_network_on_it_knows_the_noise_and_not_the_time():
    """Or the bound of what is between the ends would depend on the schedule."""
    straight, bent = network(LearnedSchedule), network(learned)
    x, gamma = torch.randn(5, 2), torch.linspace(-8, 4, 5).double()
    with torch.no_grad():
        one, two = (model.predict(x, model.path.time(-gamma)).v for model in (straight, bent))
    assert torch.allclose(one, two, atol=1e-5)
    assert not torch.allclose(straight.predict(x, straight.path.time(-gamma.flip(0))).v, one)


def test_an_mlp_feels_time_as_its_context():
    for path in (VP, LearnedSchedule):
        model = network(path, conditional=True)
        x, y = torch.randn(3, 2), torch.zeros(3).long()
        early, late = (model.predict(x, torch.full((3,), t).double(), y).v for t in (0.3, 0.6))
        assert not torch.allclose(early, late, atol=1e-3)
        assert not torch.allclose(model.predict(x, torch.full((3,), 0.3).double(), y + 1).v, early, atol=1e-3)


# --- the objective ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [None, 20])
@pytest.mark.parametrize("path", [VP, learned])
def test_its_loss_its_score_and_the_estimator_are_one_bound(path, T):
    field = gaussian(path())
    field.timesteps = T
    x, objective = field.draw(4000).float(), VLB(LINE, passes=16)
    measured = Estimator(samples=16).nll(field, Batch(x), noise(4000, 1), NOTHING)
    score = objective.score(field, Batch(x), noise(4000))
    away = (score - measured.nll).double()
    assert float(away.mean()) == pytest.approx(0, abs=4 * float(away.std()) / math.sqrt(4000))
    with torch.no_grad():
        loss = objective.turns(field)[0].loss(Batch(x), StepNoise(CPU, 0))
    spread = 10 * float(measured.variance.mean() / 4000) ** 0.5
    assert float(loss.value) == pytest.approx(float(measured.nll.mean()), abs=spread)
    for name, value in loss.logs.items():
        assert float(value) == pytest.approx(float(measured.diagnostics[name].mean()), abs=spread), name


def test_the_bound_moves_the_ends_as_calculus_says():
    """d/d gamma_0 = (1 - e(gamma_0)) / 2 and so on; both ends far from where they would rest."""
    path = LearnedSchedule(-2.0, 1.0)
    field, s, m = gaussian(path), 0.6, 0.5
    (turn, _) = VLB(LINE).turns(field)
    for k in range(20):
        turn.loss(Batch(field.draw(4000, seed=k)), StepNoise(CPU, k)).value.backward()
    found = [float(p.grad) / 20 for p in (path.gamma_0, path.width)]
    gamma_1 = torch.tensor(1.0, requires_grad=True)
    prior = 0.5 * (torch.sigmoid(gamma_1) - torch.sigmoid(gamma_1).log() + torch.sigmoid(-gamma_1) * (s**2 + m**2))
    (slope,) = torch.autograd.grad(prior, gamma_1)
    last = float(slope + 0.5 * error(gamma_1.detach()))
    first = 0.5 * (1 - float(error(torch.tensor(-2.0))))
    to_width = float(torch.sigmoid(path.width.detach()))
    assert found[0] == pytest.approx(first + last, abs=0.01)
    assert found[1] == pytest.approx(last * to_width, abs=0.01)


def test_the_interior_changes_the_variance_and_not_the_bound():
    values, spreads = [], []
    spec = Spec((16,), Support("real"))
    x = gaussian(VP(), dim=16).draw(20_000)
    for path in (LearnedSchedule(), learned()):
        model, schedule = VLB(spec).turns(gaussian(path, dim=16))
        values.append(model.loss(Batch(x), StepNoise(CPU, 1)).value.item())
        spreads.append(schedule.loss(Batch(x), StepNoise(CPU, 2)).value.item())
    assert values[0] == pytest.approx(values[1], abs=0.08)
    assert abs(spreads[0] - spreads[1]) > 0.1


@pytest.mark.slow
def test_the_schedule_finds_the_least_variance():
    """E L^2 with L = gamma' |eps - eps^|^2 / 2 is least where gamma' falls as 1 / sqrt(E |eps - eps^|^4).

    The errors of D dimensions are independent and normal: E e^2 = (1 + 2/D) (E e)^2 at every noise, which no schedule
    takes away.
    """
    D, path = 16, LearnedSchedule(-6.0, 2.0)
    field = gaussian(path, dim=D)
    _, schedule = VLB(Spec((D,), Support("real"))).turns(field)
    assert schedule.name == "schedule"
    assert schedule.parameters == [path.w]
    optimizer = torch.optim.Adam([path.w], lr=0.05)

    def spread():
        with torch.no_grad():
            return schedule.loss(Batch(field.draw(20_000, seed=9)), StepNoise(CPU, 9)).value.item()

    before = spread()
    for k in range(200):
        optimizer.zero_grad()
        schedule.loss(Batch(field.draw(512, seed=k)), StepNoise(CPU, k)).value.backward()
        optimizer.step()
    assert before > 1.15 * (1 + 2 / D)
    assert spread() == pytest.approx(1 + 2 / D, rel=0.03)
    t = torch.linspace(0.05, 0.95, 19).double()
    rate = (path.d_gamma(t) * error(path.gamma(t))).detach()
    assert rate.std() < 0.15 * rate.mean()
    assert path.gamma_0.item() == -6.0


def test_turns_share_the_parameters_out():
    model = network(LearnedSchedule)
    one, two = VLB(model.spec).turns(model)
    assert len(one.parameters) + len(two.parameters) == len(list(model.parameters()))
    x = torch.randn(64, 2)
    one.loss(Batch(x), StepNoise(CPU, 0)).value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in one.parameters)
    assert float(model.path.gamma_0.grad.abs()) > 0
    discrete = network(LearnedSchedule, timesteps=10)
    (turn,) = VLB(discrete.spec).turns(discrete)  # here the bound depends on the interior too
    turn.loss(Batch(x), StepNoise(CPU, 0)).value.backward()
    assert float(discrete.path.w.grad.abs().max()) > 0
    assert len(VLB(model.spec).turns(network(VP))) == 1


@pytest.mark.parametrize("T", [None, 10])
def test_a_row_is_scored_by_itself(T):
    model, x = network(learned, timesteps=T), torch.randn(6, 2)
    whole = VLB(model.spec).score(model, Batch(x), noise(6))
    part = VLB(model.spec).score(model, Batch(x[2:4]), RowNoise(0, torch.tensor([2, 3])))
    assert torch.allclose(whole[2:4], part, atol=1e-4)


def test_labels_are_hidden_in_training():
    model = network(LearnedSchedule, conditional=True, label_dropout=0.5)
    seen, predict = [], model.predict
    model.predict = lambda x, t, y: (seen.append(y), predict(x, t, y))[1]
    for turn in VLB(model.spec).turns(model):
        turn.loss(Batch(torch.randn(1000, 2), torch.ones(1000).long()), StepNoise(CPU, 0))
    for y in seen:
        assert 0.4 < float((y == -1).float().mean()) < 0.6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnedSchedule(1.0, 1.0), r"model\.path\.gamma_0=1"),
        (lambda: VLB(LINE).bind(network(VP, timesteps=1)), r"model\.timesteps=1"),
        (lambda: Denoise(LINE).bind(network(LearnedSchedule)), "objective=vlb"),
        (lambda: FlowMatching(LINE).bind(network(LearnedSchedule)), "objective=vlb"),
        (lambda: DSM(LINE).bind(network(LearnedSchedule)), "objective=vlb"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_the_bound_of_t_steps_falls_to_that_of_continuous_time_as_one_over_t():
    """For normal data and their best denoiser; two equal numbers of steps differ by what 1/T leaves."""
    field, n = gaussian(learned()), 1500
    x = field.draw(n)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.6**2)
    gaps = []
    for T in (100, 200):
        estimate = Estimator(timesteps=T, samples=T).nll(field, Batch(x), noise(n, T), NOTHING)
        control = -field.log_prob(x) - entropy  # the same examples: what they lie above the entropy
        gaps.append(float((estimate.nll - control).mean()) - entropy)
    assert gaps[1] > 0.1
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.3)
    continuous = Estimator(samples=200).nll(field, Batch(x), noise(n, 1), NOTHING)
    assert float((continuous.nll + field.log_prob(x)).mean()) == pytest.approx(0, abs=0.08)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_trains_it_and_the_record_shows_the_parts():
    fast = ["logger=none", "device=cpu", "n=4", "trainer.max_steps=6", "trainer.eval_every=3", "trainer.log_every=3"]
    small = ["model.net.vector.width=8", "model.net.vector.blocks=1", "estimator.samples=4"]
    run = gencli.train(["model=vdm", "data=moons", "data.test=50", "data.val=50", *fast, *small, "run_dir=run"])
    record = run.results[0]
    assert (record["estimator"], record["bound"]) == ("vlb", "upper")
    parts = record["diagnostics"]
    model = next(row["nats"] for row in record["ledger"] if row["term"] == "model")
    assert parts["prior"] + parts["diffusion"] + parts["reconstruction"] == pytest.approx(model)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    train = next(line for line in lines if line["split"] == "train")
    assert {"prior", "diffusion", "reconstruction", "loss_model", "loss_schedule"} <= set(train)
    assert run.model.path.w.abs().max() > 0
    assert "nll" in next(line for line in lines if line["split"] == "val")
