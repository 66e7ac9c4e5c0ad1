"""Samplers of time fields, on fields that are known in closed form."""

from __future__ import annotations

import functools
import math
import typing
from dataclasses import replace

import pytest
import torch
from fields import PATHS, MixtureField, flow_of_gaussian, gaussian, three

from gencli.core import options
from gencli.core.errors import UsageError
from gencli.core.noise import RowNoise
from gencli.methods import ode
from gencli.models.trained import Learned
from gencli.paths.schedules import VE, VP, Straight
from gencli.samplers.diffusion.consistency import Consistency
from gencli.samplers.diffusion.ddim import DDIM, DDPM
from gencli.samplers.diffusion.dpm_solver import DPMSolver
from gencli.samplers.diffusion.edm import EDM
from gencli.samplers.diffusion.ode import ODE
from gencli.samplers.diffusion.sde import EulerMaruyama, PredictorCorrector
from gencli.samplers.diffusion.walk import Grid, Guided, times

DETERMINISTIC = {
    "euler": (lambda n: ODE(method="euler", steps=n), 1),
    "heun": (lambda n: ODE(method="heun", steps=n), 2),
    "rk4": (lambda n: ODE(method="rk4", steps=n), 4),
    "ddim": (lambda n: DDIM(steps=n), 1),
    "edm": (lambda n: EDM(steps=n), 2),
    "dpm_solver": (lambda n: DPMSolver(steps=n), 2),
}
MANY = {
    "rk4": ODE(method="rk4", steps=25),
    "dopri5": ODE(),
    "ddim": DDIM(steps=100, grid="log_snr"),
    "ddim-eta": DDIM(steps=100, eta=0.5, grid="log_snr"),
    "ddpm": DDPM(steps=150),
    "ddpm-large": DDPM(steps=150, variance="large"),
    "euler_maruyama": EulerMaruyama(steps=120),
    "predictor_corrector": PredictorCorrector(steps=60),
    "edm": EDM(steps=30),
    "edm-churn": EDM(steps=50, churn=17),
    "dpm_solver": DPMSolver(steps=30),
}


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


@pytest.mark.slow
@pytest.mark.parametrize("path", [VP(t_min=0.01), Straight(), PATHS["cosine"](t_min=0.01)], ids=["vp", "line", "cos"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_error_falls_with_the_declared_order(name, path):
    make, order = DETERMINISTIC[name]
    field = gaussian(path)
    x = torch.linspace(-2, 2, 21).double()[:, None]
    errors = []
    for n in (64, 128):
        end = make(n).walk(Guided(field, None, 1), x, noise(21))
        start = times(path, 1, "uniform", finite=make(n).finite)[0].item()
        errors.append(float((end - flow_of_gaussian(field, x, start, path.t_min)).abs().max()))
    assert errors[-1] < 0.1
    assert order - 0.35 < math.log2(errors[0] / errors[1]) < order + 0.8, errors


def test_euler_maruyama_has_weak_order_one():
    """The variance of normal data, whose error halves with the step: 0.06 and 0.03 +- 0.003."""
    field, n = gaussian(VP(t_min=0.01)), 50_000
    at = torch.tensor(0.01, dtype=torch.float64)
    exact = float((field.path.alpha(at) * 0.6) ** 2 + field.path.sigma(at) ** 2)
    wrong = [
        float(EulerMaruyama(steps=n_steps).sample(field, n, None, noise(n)).x.var()) - exact for n_steps in (20, 40)
    ]
    assert 0.7 < math.log2(wrong[0] / wrong[1]) < 1.5, wrong


PAIRS = [(name, path) for name in MANY for path in PATHS if path in ("vp", "straight") or name in ("rk4", "edm-churn")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), PAIRS)
def test_moments_of_a_mixture(name, path):
    """Shares of the modes, their means and deviations, within 4 standard errors and the steps' own 3 %."""
    field, n = three(PATHS[path]()), 3000
    x = MANY[name].sample(field, n, None, noise(n, 1)).x.double()
    k = torch.cdist(x, field.means).argmin(1)
    for i, weight in enumerate(field.weights.tolist()):
        mine = x[k == i]
        assert len(mine) / n == pytest.approx(weight, abs=4 * math.sqrt(weight * (1 - weight) / n) + 0.015)
        assert (mine.mean(0) - field.means[i]).abs().max() < 4 * 0.3 / math.sqrt(len(mine)) + 0.01
        assert (mine.std(0) / 0.3 - 1).abs().max() < 4 / math.sqrt(2 * len(mine)) + 0.03


@pytest.mark.parametrize("name", MANY)
def test_a_sample_does_not_depend_on_its_batch(name):
    field, sampler = three(VP(), conditional=True), replace(MANY[name], steps=12)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    whole = sampler.sample(field, 6, y, noise(6))
    part = sampler.sample(field, 2, y[3:5], RowNoise(0, torch.tensor([3, 4])))
    assert torch.allclose(whole.x[3:5], part.x, atol=1e-4)  # dopri5 may decide otherwise on the last bit
    assert whole.diagnostics["nfe"] > 0


@pytest.mark.parametrize("name", ["dopri5", "ddim", "ddpm", "edm", "dpm_solver", "euler_maruyama"])
def test_guidance_one_is_the_conditional_model_and_zero_the_unconditional_one(name):
    plain, y = replace(MANY[name], steps=20), torch.tensor([0, 1, 2, 0])
    field = three(VP(), conditional=True)
    draws, costs = {}, {}
    for w in (1.0, 0.0, 3.0):
        sampler = replace(plain, guidance=w)
        sampler.check(field, Learned())
        field.evaluations = 0
        draws[w] = sampler.sample(field, 4, y, noise(4)).x
        costs[w] = field.evaluations
    assert torch.equal(draws[0.0], plain.sample(three(VP()), 4, None, noise(4)).x)
    alone = MixtureField(VP(), field.means[2:3], 0.3)
    assert torch.allclose(draws[1.0][2:3], plain.sample(alone, 1, None, RowNoise(0, torch.tensor([2]))).x, atol=1e-5)
    assert not torch.equal(draws[3.0], draws[1.0])
    if name != "dopri5":
        assert costs[3.0] == 2 * costs[1.0]


def test_guidance_needs_a_model_that_knows_both():
    field = three(VP(), conditional=True)
    field.label_dropout = 0.0
    with pytest.raises(ValueError, match=r"sampler\.guidance=2.*label_dropout"):
        ODE(guidance=2.0).check(field, Learned())
    with pytest.raises(ValueError, match=r"sampler\.guidance=0"):
        ODE(guidance=0.0).check(three(VP()), Learned())


def test_what_needs_a_score_refuses_coupled_training():
    field = three(Straight())
    paired = Learned(score=False)
    for sampler in (DDPM(), DDIM(eta=0.5), EulerMaruyama(), PredictorCorrector(), EDM(churn=1)):
        with pytest.raises(ValueError, match=r"coupling=optimal, reflow"):
            sampler.check(field, paired)
    for sampler in (ODE(), DDIM(), EDM(), DPMSolver()):
        sampler.check(field, paired)


def test_discrete_models_are_asked_only_at_their_times():
    path, seen = VP(), []

    class Discrete(MixtureField):
        timesteps = 20

        def predict(self, x, t, y=None):
            seen.append(float(t[0]))
            return super().predict(x, t, y)

    field = Discrete(path, torch.zeros(1, 2), 1.0)
    known = [path.t_min + (1 - path.t_min) * i / 20 for i in range(1, 21)]
    for sampler in (DDPM(), DDIM(steps=7), DPMSolver(steps=10), EulerMaruyama(steps=50), PredictorCorrector(steps=9)):
        seen.clear()
        sampler.check(field, Learned())
        sampler.sample(field, 3, None, noise(3))
        assert all(min(abs(t - k) for k in known) < 1e-9 for t in seen), type(sampler)
        assert len(seen) > 5
    seen.clear()
    DDPM().sample(field, 3, None, noise(3))
    assert len(seen) == 20
    for sampler in (ODE(), EDM()):
        with pytest.raises(ValueError, match=r"model\.timesteps=20"):
            sampler.check(field, Learned())
    with pytest.raises(ValueError, match=r"sampler\.steps=30"):
        DDPM(steps=30).check(field, Learned())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("grid", typing.get_args(Grid))
def test_grids_fall_from_end_to_end(path, grid):
    path = PATHS[path]()
    t = times(path, 17, grid)
    assert len(t) == 18
    assert t[[0, -1]].tolist() == pytest.approx([path.t_max, path.t_min])
    assert (t.diff() < 0).all()


# --- the solvers -----------------------------------------------------------------------------------------------------


def spiral(x, t, rows):
    """x' = A x with eigenvalues -0.2 +- 3i."""
    return x @ torch.tensor([[-0.2, 3.0], [-3.0, -0.2]]).double()


def test_dopri5_keeps_its_tolerance_forwards_and_backwards():
    x = torch.tensor([[1.0, 0.0], [1000.0, 2.0], [0.0, 0.0]]).double()
    errors = []
    for tolerance in (1e-4, 1e-6, 1e-8):
        solve = functools.partial(ode.dopri5, spiral, atol=tolerance, rtol=tolerance, max_nfe=10_000)
        end = solve(x, 0.0, 2.0)
        angle, shrink = torch.tensor(6.0).double(), math.exp(-0.4)
        turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
        errors.append(float(((end.x - shrink * x @ turn).norm(dim=1) / (1 + x.norm(dim=1))).max()))
        back = solve(end.x, 2.0, 0.0)
        assert ((back.x - x).norm(dim=1) / (1 + x.norm(dim=1))).max() < 100 * tolerance
    assert errors[0] < 1e-2
    assert errors[1] < 1e-4
    assert errors[2] < 1e-6
    assert end.nfe[2] < end.nfe[0]  # each row takes steps of its own


def test_dopri5_reaches_a_stiff_layer():
    """x' = -1000 (x - cos t), from far off; the solution is near cos t."""
    f = lambda x, t, rows: -1000 * (x - t.cos()[:, None])  # noqa: E731
    end = ode.dopri5(f, torch.full((1, 1), 5.0).double(), 0.0, 1.0, atol=1e-6, rtol=1e-6, max_nfe=10_000)
    assert end.x.item() == pytest.approx(math.cos(1) + 1e-3 * math.sin(1), abs=1e-5)


def test_a_solve_that_costs_too_much_says_so():
    field = three(VE())
    with pytest.raises(ode.SolverError, match=r"5 rows are not at their end after 20 .* raise sampler\.max_nfe"):
        ODE(max_nfe=20).sample(field, 5, None, noise(5))
    blow = lambda x, t, rows: x**2  # noqa: E731
    with pytest.raises(ode.SolverError):
        ode.dopri5(blow, torch.ones(1, 1).double(), 0.0, 2.0, atol=1e-6, rtol=1e-6, max_nfe=2000)
    bad = lambda x, t, rows: x * math.nan  # noqa: E731
    with pytest.raises(ode.SolverError, match="not finite"):
        ode.dopri5(bad, torch.ones(1, 1).double(), 0.0, 2.0, atol=1e-6, rtol=1e-6, max_nfe=200)


@pytest.mark.parametrize(
    ("owner", "key", "value"),
    [
        (ODE, "method", "rk45"),
        (ODE, "grid", "log"),
        (ODE, "rtol", 0),
        (ODE, "steps", 0),
        (DDIM, "eta", 2),
        (DDIM, "steps", 0),
        (DDPM, "variance", "learned"),
        (EDM, "churn", -1),
        (EDM, "resample", 0),
        (PredictorCorrector, "r", 0),
        (PredictorCorrector, "corrections", -1),
        (Consistency, "steps", 0),
        (Consistency, "given", [0]),  # its jumps complete nothing
        (DDPM, "grid", "karras"),  # its times are even
    ],
)
def test_refusals(owner, key, value):
    with pytest.raises(UsageError, match=rf"^sampler\.{key}\b"):
        options.check({key: value}, options.of_class(owner), "sampler", owner.__name__)
