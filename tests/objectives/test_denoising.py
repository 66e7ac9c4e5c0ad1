"""Regression on noised data: times, weightings, couplings, dropped labels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from fields import PATHS, gaussian
from networks import CPU, PLANE, build, noise

from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.ode import ODE
from gencli.estimators.vlb import VLB
from gencli.models.trained import Learned
from gencli.objectives.diffusion.coupling import assignment
from gencli.objectives.diffusion.denoise import DSM, Denoise
from gencli.objectives.diffusion.flow_matching import FlowMatching
from gencli.objectives.diffusion.times import LogitNormal, LogSNR, Uniform, stratified
from gencli.paths.schedules import VP


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("times", [Uniform(), LogitNormal(0.3, 0.8), LogSNR()])
def test_densities_of_times_are_those_of_their_draws(times, path):
    path = PATHS[path]()
    u = (torch.arange(2000).double() + 0.5) / 2000
    t = times.at(path, u)
    inside = (u > 0.02) & (u < 0.98)
    slope = torch.gradient(t, spacing=1 / 2000)[0].abs()
    assert torch.allclose((times.density(path, t) * slope)[inside], torch.ones(()).double(), rtol=0.02)
    assert t.min() >= path.t_min
    assert t.max() <= path.t_max


def test_stratified_times_fill_every_piece():
    u = stratified(torch.rand(100, generator=torch.Generator().manual_seed(0)))
    assert torch.equal((u * 100).long(), torch.arange(100))


@pytest.mark.parametrize("weighting", ["simple", "snr", "min_snr", "likelihood"])
def test_weightings_on_normal_data(weighting):
    """The least error of eps at t is alpha^2 s^2 / V; times its weight, integrated over t, it is the loss."""
    path, s = VP(), 0.6
    field, objective = gaussian(path), Denoise(Spec((1,), Support("real")), weighting, passes=200)
    x = field.draw(400).float()
    score = objective.score(field, Batch(x), noise(400)).double()
    t = (torch.arange(20000).double() + 0.5) / 20000 * (1 - 1e-5) + 1e-5
    alpha, sigma = path.alpha(t), path.sigma(t)
    error = alpha**2 * s**2 / ((alpha * s) ** 2 + sigma**2)
    weight = {
        "simple": 1 / alpha**2,  # the analytic field counts in units of v
        "snr": torch.ones_like(t),
        "min_snr": torch.minimum((alpha / sigma) ** 2, torch.tensor(5.0)) * (sigma / alpha) ** 2,
        "likelihood": -0.5 * path.d_log_snr(t) * (1 - 1e-5),
    }[weighting]
    spread = float(score.std() / math.sqrt(len(score)))
    assert float(score.mean()) == pytest.approx(float((weight * error).mean()), abs=4 * spread)


def test_a_row_is_scored_by_itself():
    for objective in (Denoise(PLANE), DSM(PLANE, low=0.1, high=5), FlowMatching(PLANE)):
        model, x = build(), torch.randn(6, 2)
        whole = objective.score(model, Batch(x), noise(6))
        part = objective.score(model, Batch(x[2:4]), RowNoise(0, torch.tensor([2, 3])))
        assert torch.allclose(whole[2:4], part, atol=1e-5)


def test_optimal_coupling_is_the_best_permutation():
    x, eps = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    best = min(itertools.permutations(range(6)), key=lambda p: float((x - eps[list(p)]).square().sum()))
    assert assignment(x, eps).tolist() == list(best)
    model, objective = build("straight"), FlowMatching(PLANE, coupling="optimal")
    assert objective.bind(model) == Learned(score=False)


def test_dropped_labels_train_the_unconditional_model():
    model = build(conditional=True, label_dropout=0.5)
    seen = []
    predict = model.predict
    model.predict = lambda x, t, y: (seen.append(y), predict(x, t, y))[1]
    (turn,) = Denoise(PLANE).turns(model)
    turn.loss(Batch(torch.randn(1000, 2), torch.ones(1000).long()), StepNoise(CPU, 0)).value.backward()
    assert 400 < int((seen[0] == -1).sum()) < 600
    assert set(seen[0].tolist()) == {-1, 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Denoise(PLANE, "likelihood").bind(build(timesteps=10)), r"objective\.weighting=likelihood"),
        (lambda: DSM(PLANE, low=2, high=1), r"objective\.low=2"),
        (lambda: DSM(PLANE, low=0.001).bind(build("ve")), r"objective\.low=0.001"),
        (lambda: ODE().check(build(timesteps=10), Learned()), r"model\.timesteps=10"),
        (lambda: VLB(timesteps=5).check(build(timesteps=10), Learned()), r"estimator\.timesteps=5"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
