"""Students of teachers whose context is real: vectors, through a network of their own, images beside x."""

import functools

import pytest
import torch
from fields import Known

from gencli.core.noise import RowNoise, StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.models.diffusion.field import NetworkField
from gencli.nn.mlp import MLP
from gencli.nn.residual import ResidualMLP
from gencli.objectives.distillation.consistency import Consistency
from gencli.objectives.distillation.progressive import Progressive
from gencli.objectives.distillation.reflow import Reflow
from gencli.paths.schedules import Straight

OBJECTIVES = {
    "reflow": functools.partial(Reflow, pairs=64, tolerance=1e-2),
    "progressive": functools.partial(Progressive, start=4, end=2),
    "consistency": Consistency,
}
REALS = Support("real")
CONTEXTS = {
    "vector": (Spec((2,), REALS, context=(3,)), None),
    "network": (Spec((2,), REALS, context=(3,)), functools.partial(MLP, hidden=[8])),
    "channels": (Spec((1, 2, 2), REALS, context=(2, 2, 2)), None),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_student_is_told_what_its_teacher_is(name, context):
    spec, net = CONTEXTS[context]
    torch.manual_seed(0)
    field = functools.partial(ResidualMLP, width=8, blocks=1)
    teacher, student = (NetworkField(spec, net=field, path=Straight, conditional=True, context=net) for _ in range(2))
    for weights in teacher.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    objective = OBJECTIVES[name](spec, teacher=Known(teacher))
    objective.bind(student)
    objective.open(student)
    x, y = torch.randn(16, *spec.shape), torch.randn(16, *spec.context)
    objective.start(student, Batch(x, y))
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    (turn,) = objective.turns(student)
    turn.loss(Batch(x, y), StepNoise(torch.device("cpu"), 0)).value.backward()
    noise = functools.partial(RowNoise, 0, torch.arange(16))
    score = objective.score(student, Batch(x, y), noise())
    assert torch.isfinite(score).all()
    other = objective.score(student, Batch(x, y + 1), noise())
    assert not torch.allclose(score, other)
