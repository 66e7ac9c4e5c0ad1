"""What students and their teachers are refused for, and students as runs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from fields import Known, MixtureField, three
from safetensors.torch import load_file

from gencli.cli import main as cli
from gencli.core.spec import Spec, Support
from gencli.estimators.ode import ODE as Density
from gencli.estimators.vlb import VLB
from gencli.models.base import VelocityField
from gencli.models.classical.gaussian import Gaussian
from gencli.models.trained import Learned
from gencli.objectives.distillation.consistency import Consistency
from gencli.objectives.distillation.progressive import Progressive
from gencli.objectives.distillation.reflow import Reflow
from gencli.paths.schedules import VP, Straight, Trigonometric
from gencli.samplers.diffusion.consistency import Consistency as Jumps
from gencli.samplers.diffusion.ddim import DDIM, DDPM
from gencli.samplers.diffusion.dpm_solver import DPMSolver
from gencli.samplers.diffusion.edm import EDM
from gencli.samplers.diffusion.ode import ODE
from gencli.training.signals import StopRequest

PLANE = Spec((2,), Support("real"), classes=3)
STUDENTS = {"reflow": Reflow, "progressive": Progressive, "consistency": Consistency}
PAIRED = Learned(score=False)


def distilled(sampler, timesteps=None):
    """What a model learned that was distilled for a sampler."""
    return Learned(score=False, velocity=False, steps_of=sampler, timesteps=timesteps)


LEARNED = {"reflow": PAIRED, "progressive": distilled("ddim", 4), "consistency": distilled("consistency")}


def test_a_distilled_model_has_no_density_and_one_sampler():
    field = three(VP())
    for kind, own in (("ddim", DDIM(4)), ("consistency", Jumps())):
        learned = distilled(kind)
        own.check(field, learned)
        for other in (ODE(), EDM(), DPMSolver(), DDPM(), DDIM(eta=0.5), Jumps() if kind == "ddim" else DDIM()):
            with pytest.raises(ValueError, match=f"distilled for sampler={kind}"):
                other.check(field, learned)
        for estimator in (Density(), VLB()):
            with pytest.raises(ValueError, match=rf"distilled for sampler={kind}.*estimator=null"):
                estimator.check(field, learned)
    with pytest.raises(ValueError, match="objective=consistency"):
        Jumps().check(field, Learned())
    Density().check(three(Straight()), PAIRED)
    with pytest.raises(ValueError, match="estimator=ode"):
        VLB().check(three(Straight()), PAIRED)


@pytest.mark.parametrize("name", STUDENTS)
def test_objectives_say_what_is_valid_after_them(name):
    assert STUDENTS[name](PLANE, Known(three(Straight()))).bind(three(Straight())) == LEARNED[name]


def test_a_view_knows_other_times_and_shares_all_else():
    field = three(Straight())
    view = LEARNED["progressive"].view(field)
    assert (view.timesteps, field.timesteps) == (4, None)
    assert type(view) is type(field)
    assert view.means is field.means
    assert LEARNED["consistency"].view(field) is field


class Whirl(VelocityField):
    def velocity(self, x, t, y=None):
        return x.flip(1)


@pytest.mark.parametrize("name", STUDENTS)
def test_teachers_that_cannot_teach(name):
    make = STUDENTS[name]
    with pytest.raises(ValueError, match=r"objective\.teacher=null: name the run"):
        make(PLANE, None)

    def opened(teacher, learned=None):
        student = three(Straight())
        objective = make(PLANE, Known(teacher, learned))
        objective.bind(student)
        objective.open(student)

    opened(three(Straight()))
    with pytest.raises(ValueError, match=r"objective\.teacher: the model of this run is no (Time|Velocity)Field"):
        opened(Gaussian(PLANE))
    with pytest.raises(ValueError, match=r"model\.conditional=False"):
        opened(three(Straight(), conditional=True))
    with pytest.raises(ValueError, match=r"objective\.teacher: .*sampler=consistency"):
        opened(three(Straight()), distilled("consistency"))
    discrete = three(Straight())
    discrete.timesteps = 100
    with pytest.raises(ValueError, match=r"model\.timesteps=100"):
        opened(discrete)
    for other in (three(VP()), Whirl(PLANE), MixtureField(Straight(), torch.ones(3, 2), 0.5)):
        if name == "reflow":
            opened(other)
        else:
            with pytest.raises(ValueError, match=r"objective\.teacher"):
                opened(other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: Reflow(PLANE, t).bind(three(VP())), r"model\.path"),
        (lambda t: Reflow(PLANE, t).bind(three(Trigonometric())), r"model\.path"),
        (lambda t: Progressive(PLANE, t, start=4, end=4), r"objective\.start=4"),
        (lambda t: Progressive(PLANE, t, start=12, end=4), r"objective\.start=12"),
        (lambda t: Progressive(PLANE, t, start=10, end=4), r"objective\.start=10"),
    ],
)
def test_values_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make(Known(three(Straight())))


# --- runs ------------------------------------------------------------------------------------------------------------

TOY = ["data=moons", "data.train=300", "data.val=40", "data.test=40", "device=cpu", "logger=none", "n=0"]
TOY += ["net.vector.width=16", "net.vector.blocks=1"]
SHORT = ["trainer.batch_size=16", "trainer.eval_every=5", "optimizer.warmup_steps=0"]
OWN = {
    "reflow": ["objective.pairs=32", "sampler.method=euler", "sampler.steps=1", "estimator=null"],
    "progressive": ["objective.start=16", "objective.end=2", "sampler=ddim", "estimator=null"],
    "consistency": ["objective.steps=5", "sampler=consistency", "estimator=null"],
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    words = [*TOY, *SHORT, "model=flow_matching", "trainer.max_steps=5", "estimator=null", f"run_dir={folder / 'run'}"]
    words = [word.replace("net.vector", "model.net.vector") for word in words]
    assert cli.main(["train", *words]) == 0
    return folder / "run"


def student_words(name, steps, run):
    words = [*TOY, *SHORT, "model=flow_matching", f"objective={name}", *OWN[name], f"trainer.max_steps={steps}"]
    return [word.replace("net.vector", "model.net.vector") for word in [*words, f"run_dir={run}"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_resumes_to_the_bit_and_outlives_its_teacher(name, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(teacher, "t")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert cli.main(["train", *student_words(name, 10, whole), "objective.teacher=t"]) == 0
    with monkeypatch.context() as patched:  # as if Ctrl-C came at step 5
        asked = []

        def signal(self):
            asked.append(1)
            return 2 if len(asked) >= 5 else 0

        patched.setattr(StopRequest, "signal", property(signal, lambda self, value: None), raising=False)
        assert cli.main(["train", *student_words(name, 10, halves), "objective.teacher=t"]) == 130
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the teacher is found from anywhere
    assert cli.main(["train", "resume=../halves"]) == 0
    one, two = (load_file(run / "checkpoints" / "last.safetensors") for run in (whole, halves))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not any("teacher" in key for key in one)

    shutil.rmtree(tmp_path / "t")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sample", "run=whole", "n=4", "device=cpu"]) == 0
    metric = ["metrics=[mmd]", "metrics.mmd.permutations=9", "n=40", "device=cpu"]
    assert cli.main(["eval", "run=whole", "estimator=null", *metric]) == 0
    density = ["estimator=ode", "estimator.method=rk4", "estimator.steps=4"]
    assert cli.main(["eval", "run=whole", *density, "device=cpu"]) == (0 if name == "reflow" else 2)
    assert cli.main(["train", "resume=whole", "trainer.max_steps=12"]) == 2


def chosen(words):
    return {word.partition("=")[0] for word in words}


@pytest.mark.slow
def test_the_command_line_refuses_before_a_folder_is_made(teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, message in [
        ([], "objective.teacher=null"),
        (["objective.teacher=nowhere"], "nowhere: no such run folder"),
        (["objective.teacher=1"], "objective.teacher=1: no such run folder"),
        ([f"objective.teacher={teacher}", "data.transform=standardize"], "data.transform=standardize"),
        ([f"objective.teacher={teacher}", "model.net.vector.width=8"], "the student starts as its teacher"),
        ([f"objective.teacher={teacher}", "path@model.path=trigonometric"], "the student starts as its teacher"),
        ([f"objective.teacher={teacher}", "sampler=ode"], "sampler=consistency"),
        ([f"objective.teacher={teacher}", "estimator=ode"], "estimator=null"),
    ]:
        plain = [
            w for w in student_words("consistency", 5, tmp_path / "run") if w.partition("=")[0] not in chosen(words)
        ]
        assert cli.main(["train", *plain, *words]) == 2, words
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_student_is_known_as_one_when_it_teaches(teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *student_words("progressive", 5, tmp_path / "p"), f"objective.teacher={teacher}"]) == 0
    assert json.loads((tmp_path / "p" / "run.json").read_text())["status"] == "finished"
    words = student_words("reflow", 5, tmp_path / "r")
    assert cli.main(["train", *words, "objective.teacher=p"]) == 2
    assert "distilled for sampler=ddim and has no flow" in capsys.readouterr().err
    halved = [*student_words("progressive", 5, tmp_path / "q"), "objective.start=2", "objective.end=1"]
    assert cli.main(["train", *halved, "objective.teacher=p"]) == 0
