"""Students of teachers that are known in closed form."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from estimates import NOTHING
from fields import Known, flow_of_gaussian, gaussian, three
from torch import nn

from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.core.tensors import like
from gencli.estimators.ode import ODE as Density
from gencli.models.base import TimeField
from gencli.models.trained import Learned
from gencli.objectives.distillation.base import Grid, ddim, heun
from gencli.objectives.distillation.consistency import Consistency
from gencli.objectives.distillation.progressive import Progressive
from gencli.objectives.distillation.reflow import Reflow
from gencli.paths.base import Prediction
from gencli.paths.learned import LearnedSchedule
from gencli.paths.schedules import VE, VP, Straight, Trigonometric
from gencli.samplers.diffusion.consistency import Consistency as Jumps
from gencli.samplers.diffusion.ddim import DDIM
from gencli.samplers.diffusion.ode import ODE

CPU = torch.device("cpu")
LINE, PLANE = Spec((1,), Support("real"), classes=1), Spec((2,), Support("real"), classes=3)
STUDENTS = {"reflow": Reflow, "progressive": Progressive, "consistency": Consistency}


def noise(n, seed=0):
    return RowNoise(seed, torch.arange(n))


def taught(objective, teacher, student):
    """An objective that is ready to train a student."""
    objective.bind(student)
    objective.open(student)
    return objective


class Says(TimeField):
    """A field whose denoised mean, or velocity, is a given function of x and t."""

    def __init__(self, path, function, kind="x0", spec=LINE):
        super().__init__(spec)
        self.path, self.function, self.kind = path, function, kind

    def predict(self, x, t, y=None):
        return Prediction.of(self.path, x, t, **{self.kind: self.function(x, t)})


@pytest.mark.parametrize("name", STUDENTS)
def test_a_learned_path_is_not_moved_by_distillation(name):
    student = three(LearnedSchedule())
    with pytest.raises(ValueError, match="objective=vlb"):
        STUDENTS[name](PLANE, teacher=Known(student)).bind(student)


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", [VP(), Straight(), VE(), Trigonometric()], ids=["vp", "line", "ve", "circle"])
def test_steps_of_heun_are_of_second_order(path):
    """On normal data, from end to end, where velocity in t diverges (VP) or alpha is zero (line, circle) too."""
    field, x, errors = gaussian(path), torch.linspace(-2, 2, 9).double()[:, None] * path.prior_std, []
    for n in (64, 128, 256):
        z, times = x, torch.linspace(path.t_max, path.t_min, n + 1).double()
        for t, s in pairwise(times):
            z = heun(field, z, t.expand(9), s.expand(9), None)
        errors.append(float((z - flow_of_gaussian(field, x, path.t_max, path.t_min)).abs().max()))
    assert errors[-1] < 5e-3
    assert all(1.7 < math.log2(a / b) < 2.6 for a, b in pairwise(errors)), errors


def test_the_chain_of_training_is_that_of_the_sampler():
    for path in (VP(), Straight()):
        field, n = three(path), 50
        drawn = DDIM(steps=8).sample(field, n, None, noise(n)).x
        assert torch.allclose(ddim(field, noise(n).randn(n, 2), None, 8), drawn, atol=1e-5)
        student = Learned(timesteps=4).view(field)  # its grid is its own, whatever number the sampler is given
        drawn = DDIM().sample(student, n, None, noise(n))
        assert torch.allclose(drawn.x, ddim(field, noise(n).randn(n, 2), None, 4), atol=1e-5)
        assert drawn.diagnostics["nfe"] == 4


def test_grids():
    path, grid = VP(t_min=0.1), Grid(4)
    t = grid.at(path, torch.tensor([0.0, 0.3, 0.5, 1.0]))
    assert t.tolist() == pytest.approx([0.325, 0.55, 0.775, 1.0])
    assert grid.before(path, t).tolist() == pytest.approx([0.1, 0.325, 0.55, 0.775])
    assert grid.before(path, t, 0.5)[0].item() == pytest.approx(0.2125)


# --- reflow ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [VP(), Straight(), VE()], ids=["vp", "line", "ve"])
def test_pairs_are_the_ends_of_the_teachers_flow(path):
    teacher, student = gaussian(path), gaussian(Straight())
    objective = taught(Reflow(LINE, Known(teacher), pairs=2500, tolerance=1e-6), teacher, student)
    objective.start(student, Batch(torch.zeros(5, 1)))
    z = objective.z.double() * path.prior_std
    assert torch.allclose(objective.x.double(), flow_of_gaussian(teacher, z, path.t_max, path.t_min), atol=2e-3)
    assert abs(float(objective.z.mean())) < 4 / 50
    assert not objective.state_dict()  # pairs are a function of the teacher


def test_reflow_of_normal_data_is_straight():
    """z and x = m + s z are one line apart, on which every x_t = (1 - t) x + t z has one velocity: no loss is left."""
    teacher = gaussian(Straight())
    best = Says(Straight(), _line, "velocity")
    objective = taught(Reflow(LINE, Known(teacher), pairs=500, tolerance=1e-7), teacher, best)
    objective.start(best, Batch(torch.zeros(5, 1)))
    (turn,) = objective.turns(best)
    batch = Batch(torch.zeros(200, 1))
    assert float(turn.loss(batch, StepNoise(CPU, 0)).value) < 1e-8
    assert float(objective.score(best, batch, noise(200)).max()) < 1e-6
    (turn,) = objective.turns(teacher)
    assert float(turn.loss(batch, StepNoise(CPU, 0)).value) > 0.01  # the teacher's own lines are bent
    one, many = (ODE(method="euler", steps=n).sample(best, 200, None, noise(200)).x for n in (1, 50))
    assert torch.allclose(one, many, atol=1e-5)
    assert torch.allclose(one, 0.5 + 0.6 * noise(200).randn(200, 1), atol=1e-5)
    log_p = -Density().nll(best, Batch(one.double()), noise(200), NOTHING).nll
    exact = -0.5 * ((one - 0.5) / 0.6).double().square()[:, 0] - math.log(0.6 * math.sqrt(2 * math.pi))
    assert torch.allclose(log_p, exact, atol=1e-4)


def _line(x, t):
    """Velocity z - (m + s z) at x_t = (1 - t) (m + s z) + t z, for m = 0.5 and s = 0.6."""
    t = like(t, x)
    return (1 - 0.6) * (x - (1 - t) * 0.5) / ((1 - t) * 0.6 + t) - 0.5


def test_reflow_pairs_keep_their_labels():
    teacher = three(Straight(), conditional=True)
    student = three(Straight(), conditional=True)
    objective = taught(Reflow(PLANE, Known(teacher), pairs=300), teacher, student)
    objective.start(student, Batch(torch.zeros(4, 2), torch.tensor([0, 1, 1, 2])))
    assert torch.bincount(objective.y).tolist() == [75, 150, 75]
    away = (objective.x.double() - teacher.means[objective.y]) / 0.3
    assert float(away.square().mean()) == pytest.approx(1, abs=0.25)


# --- progressive -----------------------------------------------------------------------------------------------------


def test_the_best_progressive_student_takes_two_steps_of_the_teacher_in_one():
    """On normal data every step is linear in x: the student that says what two steps come to has no loss."""
    path = VP(t_min=0.01)
    teacher, n = gaussian(path), 8
    grid = Grid(n)

    def two(x, t):
        middle, s = grid.before(path, t, 0.5), grid.before(path, t)
        x_s = teacher.predict(teacher.predict(x, t).at(middle), middle).at(s)
        ratio = like(path.sigma(s) / path.sigma(t), x)
        return (x_s - ratio * x) / (like(path.alpha(s), x) - ratio * like(path.alpha(t), x))

    student = Says(path, two)
    objective = Progressive(LINE, Known(teacher), start=2 * n, end=n)
    learned = objective.bind(student)
    objective.master, objective.opened = teacher, (teacher,)
    x, t = teacher.draw(400), grid.at(path, torch.rand(400, generator=torch.Generator().manual_seed(0)).double())
    eps = torch.randn(400, 1, generator=torch.Generator().manual_seed(1)).double()
    assert float(objective.errors(student, x, None, t, eps).max()) < 1e-12
    assert float(objective.errors(teacher, x, None, t, eps).mean()) > 1e-6
    batch = Batch(torch.zeros(100, 1))
    assert float(objective.score(student, batch, noise(100)).max()) < 1e-8
    assert float(objective.score(teacher, batch, noise(100)).mean()) > 1e-4
    drawn = DDIM().sample(learned.view(student), 100, None, noise(100)).x
    assert torch.allclose(drawn, DDIM(steps=2 * n).sample(teacher, 100, None, noise(100)).x, atol=1e-4)


@pytest.mark.parametrize("path", [VP(), Straight(), VE()], ids=["vp", "line", "ve"])
def test_the_error_of_a_step_is_that_of_the_denoised_mean(path):
    """max(SNR, 1) |x0^ - x0~|^2, with x0~ solved from the two steps as Salimans and Ho do."""
    teacher, student = gaussian(path), gaussian(path, 0.2, 0.9)
    objective = Progressive(LINE, Known(teacher), start=16, end=4)
    objective.master = teacher
    x, eps = teacher.draw(50), torch.randn(50, 1, generator=torch.Generator().manual_seed(1)).double()
    t = Grid(8).at(path, torch.rand(50, generator=torch.Generator().manual_seed(0)).double())
    middle, s = Grid(8).before(path, t, 0.5), Grid(8).before(path, t)
    x_t = path.noised(x, eps, t)
    x_s = teacher.predict(teacher.predict(x_t, t).at(middle), middle).at(s)
    ratio = like(path.sigma(s) / path.sigma(t), x)
    goal = (x_s - ratio * x_t) / (like(path.alpha(s), x) - ratio * like(path.alpha(t), x))
    snr = (path.alpha(t) / path.sigma(t)).square()
    expected = snr.clamp(min=1) * (student.predict(x_t, t).x0 - goal).square()[:, 0]
    assert torch.allclose(objective.errors(student, x, None, t, eps).flatten(1).mean(1), expected, rtol=1e-6, atol=1e-9)


class Affine(TimeField):
    """A field with weights, linear in x."""

    def __init__(self, path, spec=LINE, gain=0.3):
        super().__init__(spec)
        self.path, self.gain = path, nn.Parameter(torch.full(spec.shape, gain))

    def predict(self, x, t, y=None):
        return Prediction(self.path, x, t, self.gain * x)


def test_the_student_becomes_the_master_when_its_stage_is_over():
    teacher, student = Affine(VP(), gain=0.5), Affine(VP())
    objective = taught(Progressive(LINE, Known(teacher), start=16, end=2), teacher, student)
    objective.start(student, Batch(torch.zeros(3, 1)))
    assert torch.equal(student.gain, teacher.gain)
    (turn,) = objective.turns(student)
    seen = []
    for step in range(12):
        with torch.no_grad():
            student.gain += 1
        turn.loss(Batch(torch.ones(8, 1), progress=step / 12), StepNoise(CPU, step))
        seen.append((float(objective.master.gain), objective.times.n))
    assert seen == [(0.5, 8)] * 4 + [(5.5, 4)] * 4 + [(9.5, 2)] * 4
    assert int(objective.stage) == 2

    again = Progressive(LINE, Known(teacher), start=16, end=2)
    again.bind(student)
    again.load_state_dict(objective.state_dict())
    again._advance(student, 0.4)  # a budget that grew takes no stage back
    assert (float(again.master.gain), again.times.n) == (9.5, 2)


# --- consistency -----------------------------------------------------------------------------------------------------


def exact_end(teacher):
    """The consistency function of normal data: the end at t_min of the flow through x at t."""
    path = teacher.path
    low = torch.tensor(path.t_min).double()

    def spread(t):
        return ((path.alpha(t) * teacher.std).square() + path.sigma(t).square()).sqrt()

    def end(x, t):
        mean, start = teacher.means[0].to(x), path.alpha(low).to(x)
        white = (x - like(path.alpha(t), x) * mean) / like(spread(t), x)
        return start * mean + spread(low).to(x) * white

    return end


@pytest.mark.parametrize("path", [VP(), Straight(), Trigonometric()], ids=["vp", "line", "circle"])
def test_the_exact_consistency_function_has_no_loss(path):
    """But for the steps of the teacher, whose error in a mean square falls as their fourth power."""
    teacher = gaussian(path)
    student = Says(path, exact_end(teacher))
    x, eps = teacher.draw(400), torch.randn(400, 1, generator=torch.Generator().manual_seed(1)).double()
    u, found = torch.rand(400, generator=torch.Generator().manual_seed(0)).double(), []
    for steps in (25, 50, 100):
        objective = Consistency(LINE, Known(teacher), steps=steps, decay=0, loss="l2")
        objective.opened, objective.target = (teacher,), student
        found.append(float(objective.errors(student, x, None, objective.times.at(path, u), eps).mean()))
        assert float(objective.score(student, Batch(torch.zeros(50, 1)), noise(50)).mean()) < 1e-3
    assert found[-1] < 1e-8
    assert found[0] > 16 * found[1] > 100 * found[2]
    other = Says(path, lambda x, t: 1.2 * student.function(x, t))
    objective.target = other
    assert float(objective.errors(other, x, None, objective.times.at(path, u), eps).mean()) > 1e3 * found[-1]


def test_the_first_time_of_the_grid_has_the_teachers_end_as_its_target():
    """f(x, t_min) = x, whatever the average says there: the condition that keeps f from being a constant."""
    path = Straight()
    teacher, constant = gaussian(path), Says(path, lambda x, t: 0 * x)
    objective = Consistency(LINE, Known(teacher), steps=10, decay=0, loss="l2")
    objective.opened, objective.target = (teacher,), constant
    x, eps = torch.ones(2, 1), torch.zeros(2, 1)
    loss = objective.errors(constant, x, None, torch.tensor([0.1, 0.2]), eps)
    assert loss[0] > 0.5
    assert loss[1] == 0


def test_the_average_follows():
    teacher, student = Affine(VP()), Affine(VP())
    objective = taught(Consistency(LINE, Known(teacher), decay=0.75), teacher, student)
    objective.start(student, Batch(torch.zeros(3, 1)))
    (turn,) = objective.turns(student)
    assert turn.parameters == [student.gain]
    turn.loss(Batch(torch.ones(8, 1)), StepNoise(CPU, 0)).value.backward()
    assert float(student.gain.grad.abs()) > 0
    with torch.no_grad():
        student.gain += 1
    turn.project()
    assert float(objective.target.gain) == pytest.approx(0.55)
    assert [*objective.state_dict()] == ["target.gain"]  # and not the teacher


@pytest.mark.parametrize("path", [VP(), Straight()], ids=["vp", "line"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_jumps_of_the_exact_function_draw_the_data(path, steps):
    teacher, n = gaussian(path), 20_000
    student = Says(path, exact_end(teacher))
    sampler = Jumps(steps=steps)
    drawn = sampler.sample(student, n, None, noise(n))
    x = drawn.x
    assert float(x.mean()) == pytest.approx(0.5, abs=4 * 0.6 / math.sqrt(n) + 0.005)
    assert float(x.std()) == pytest.approx(0.6, abs=4 * 0.6 / math.sqrt(2 * n) + 0.002)
    assert drawn.diagnostics["nfe"] == steps
    assert torch.equal(sampler.sample(student, 10, None, noise(10)).x, x[:10])
