"""Distillation: a student learns to draw in few steps what its teacher, a trained field, draws in many.

The teacher is opened when training begins and is no part of the objective's state: a student outlives its teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import like
from gencli.models.base import M, TimeField, VelocityField
from gencli.models.trained import Learned, TrainedRun
from gencli.objectives.diffusion.denoise import Regression
from gencli.objectives.diffusion.times import Times
from gencli.paths.base import Path, Prediction


class Distillation(Regression):
    """What students share: the teacher, and a start from its weights if student and teacher are alike.

    ``teachers``: what a teacher has to be.

    Args:
        spec: what one example is.
        teacher: the run to distil.
        times: distribution of t.
        passes: times at which validation scores each row.

    Raises:
        ValueError: no teacher.
    """

    teachers: ClassVar[type[VelocityField]] = VelocityField
    opened: tuple[VelocityField, ...] = ()  # a tuple, so that it is not registered and not saved

    def __init__(self, spec: Spec, teacher: TrainedRun | None, times: Times, passes: int = 1) -> None:
        super().__init__(spec, times, passes)
        if teacher is None:
            raise ValueError("objective.teacher=null: name the run to distil")
        self.run = teacher

    @property
    def teacher(self) -> VelocityField:
        """The run's model, fixed; there from ``open`` on."""
        return self.opened[0]

    def open(self, model: TimeField) -> None:
        try:
            run = self.run.open(model.spec)
        except (ValueError, UsageError) as error:
            raise ValueError(f"objective.teacher: {error}") from error
        teacher = run.model
        if not isinstance(teacher, self.teachers):
            raise ValueError(f"objective.teacher: the model of this run is no {self.teachers.__name__}")
        if teacher.conditional != model.conditional:
            raise ValueError(f"model.conditional={model.conditional}: that of objective.teacher is the other way round")
        self.accepts(teacher, run.learned)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.opened = (teacher.to(device),)

    def accepts(self, teacher: VelocityField, learned: Learned) -> None:
        """Refuse a teacher whose velocity is not valid at all times.

        Raises:
            ValueError: it was distilled for the steps of a sampler, or knows discrete times only.
        """
        if not learned.velocity:
            raise ValueError(f"objective.teacher: {learned.limit} and has no flow to follow")
        if teacher.timesteps:
            raise ValueError(
                f"objective.teacher: this run has model.timesteps={teacher.timesteps}; the objective asks for times in "
                "between"
            )

    @torch.no_grad()
    def start(self, model: TimeField, examples: Batch | None) -> None:
        if _alike(model, self.teacher):
            model.load_state_dict(self.teacher.state_dict())

    def train(self, mode: bool = True) -> Distillation:
        """The fields that a student is compared with stay in evaluation mode."""
        super().train(mode)
        for child in self.children():
            child.eval()
        return self

    def factor(self, path: Path, prediction: Prediction) -> Tensor:
        return torch.ones_like(prediction.v)


class FewSteps(Distillation):
    """Students that start as their teacher, one function of the same weights, and learn larger steps."""

    teachers = TimeField
    times: Grid
    opened: tuple[TimeField, ...]

    @property
    def teacher(self) -> TimeField:
        return self.opened[0]

    def open(self, model: TimeField) -> None:
        super().open(model)
        if not _alike(model, self.teacher):
            raise ValueError(
                "objective.teacher: the student starts as its teacher, so that model must be the run's own"
            )


class Grid(Times):
    """The times t_min + (t_max - t_min) i / n, i = 1..n, equally likely.

    Args:
        n: their number.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def at(self, path: Path, u: Tensor) -> Tensor:
        i = (u * self.n).floor().clamp(max=self.n - 1) + 1
        return path.t_min + (path.t_max - path.t_min) * i / self.n

    def before(self, path: Path, t: Tensor, share: float = 1.0) -> Tensor:
        """The time that lies a share of a step before t."""
        return (t - share * (path.t_max - path.t_min) / self.n).clamp(min=path.t_min)


def fixed(model: M) -> M:
    """A copy of a model that no optimizer moves."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def ddim(field: TimeField, x: Tensor, y: Tensor | None, steps: int) -> Tensor:
    """From x (B, *) at t_max to t_min in steps of the sampler ``ddim`` on its uniform grid."""
    path = field.path
    for t, s in pairwise(torch.linspace(path.t_max, path.t_min, steps + 1, dtype=torch.float64).to(x).unbind()):
        x = field.predict(x, t.expand(len(x)), y).at(s.expand(len(x)))
    return x


def heun(field: TimeField, x: Tensor, t: Tensor, s: Tensor, y: Tensor | None) -> Tensor:
    """From x_t (B, *) to the times s (B,) by a step of second order.

    It is Heun's in the angle phi = atan(sigma / alpha): with rho^2 = alpha^2 + sigma^2, x / rho = cos phi x0 +
    sin phi eps moves by (alpha eps - sigma x0) / rho, which is regular at both ends of every path.
    """
    path = field.path
    alpha, sigma = (torch.stack([f(t), f(s)]) for f in (path.alpha, path.sigma))
    rho, angle = torch.hypot(alpha, sigma), torch.atan2(sigma, alpha)

    def slope(said: Prediction, i: int) -> Tensor:
        return (like(alpha[i], x) * said.eps - like(sigma[i], x) * said.x0) / like(rho[i], x)

    said = field.predict(x, t, y)
    mean = 0.5 * (slope(said, 0) + slope(field.predict(said.at(s), s, y), 1))
    return like(rho[1], x) * (x / like(rho[0], x) + like(angle[1] - angle[0], x) * mean)


def distance(x: Tensor, to: Tensor) -> Tensor:
    """The mean square of the coordinates of x - to, for each row (B,)."""
    return (x - to).square().flatten(1).mean(1)


def _alike(model: TimeField, teacher: VelocityField) -> bool:
    """Whether the two say the same when they have the same weights; tried on noise, with the teacher's in a copy."""
    if type(model) is not type(teacher) or _shapes(model.state_dict()) != _shapes(teacher.state_dict()):
        return False
    if (model.t_min, model.t_max, model.prior_std) != (teacher.t_min, teacher.t_max, teacher.prior_std):
        return False
    copied = fixed(model)
    copied.load_state_dict(teacher.state_dict())
    t = torch.linspace(model.t_min, model.t_max, 7)[1:-1]
    x = torch.randn(len(t), *model.spec.shape, generator=torch.Generator().manual_seed(0))
    y = torch.full((len(t),), 0) if model.conditional and model.spec.classes else None
    if model.conditional and y is None:
        y = torch.zeros(len(t), *model.spec.context)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, t = x.to(device), t.to(device)
    y = None if y is None else y.to(device)
    return torch.allclose(copied.velocity(x, t, y), teacher.to(device).velocity(x, t, y), rtol=1e-4, atol=1e-5)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
