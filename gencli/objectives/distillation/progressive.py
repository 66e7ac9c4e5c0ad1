"""Progressive distillation: one step of the student for two of its teacher, again and again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Batch, Spec
from gencli.core.tensors import like
from gencli.models.base import TimeField, VelocityField
from gencli.models.trained import Learned, TrainedRun
from gencli.objectives.base import Loss, Turn
from gencli.objectives.distillation.base import FewSteps, Grid, ddim, distance, fixed


class Progressive(FewSteps):
    """E over times t of the grid of max(SNR, 1) |x0^ - x0~|^2, where a step from t with x0~ is two of the master's.

    The first master is the teacher, of ``start`` steps of ``ddim``; the student has half as many. When a stage of the
    budget is over the student becomes the master of the next, until it has ``end`` steps. All stages get equal shares
    of the budget. On every path a step is linear in v, so that x0~ is not needed: |x0^ - x0~| = sigma / |B| times the
    distance of the two ends, with B = sigma_s alpha_t - alpha_s sigma_t.

    The student knows the ``end`` times of its last grid only, and nothing but its steps of ``ddim`` is learned: it has
    no density. Validation measures what is wanted, at every stage: the squared distance of its ``end`` steps from the
    ``start`` steps of the first teacher, from the same noise.

    Args:
        spec: what one example is.
        teacher: the run to distil: a model like the student's.
        start: steps of the first teacher.
        end: steps of the last student.

    Raises:
        ValueError: no teacher, or steps that are not halved into each other.

    References:
        Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", 2022.
    """

    shards = False  # a loss may make the student the master

    stage: Tensor
    master: TimeField

    def __init__(self, spec: Spec, teacher: TrainedRun | None = None, start: Count = 64, end: Count = 4) -> None:
        if start <= end or start % end or (start // end) & (start // end - 1):
            raise ValueError(f"objective.start={start}: objective.end={end} times 2, 4, 8 ...")
        super().__init__(spec, teacher, Grid(start // 2))
        self.teacher_steps, self.student_steps = start, end
        self.stages = (start // end).bit_length() - 1
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.now: int | None = None  # the stage, where the host can read it

    def bind(self, model: TimeField) -> Learned:
        learned = super().bind(model)
        self.master = fixed(model)
        return replace(learned, score=False, velocity=False, steps_of="ddim", timesteps=self.student_steps)

    def accepts(self, teacher: VelocityField, learned: Learned) -> None:
        """A teacher of discrete times will do, if ``start`` of its steps make its grid."""
        if learned.steps_of not in (None, "ddim"):
            raise ValueError(f"objective.teacher: {learned.limit} and has no steps of ddim")
        if teacher.timesteps and teacher.timesteps % self.teacher_steps:
            raise ValueError(
                f"objective.start={self.teacher_steps}: the teacher knows model.timesteps={teacher.timesteps} times"
            )

    @torch.no_grad()
    def start(self, model: TimeField, examples: Batch | None) -> None:
        super().start(model, examples)
        self.master.load_state_dict(model.state_dict())

    def turns(self, model: TimeField) -> list[Turn]:
        (turn,) = super().turns(model)

        def loss(batch: Batch, noise: Noise) -> Loss:
            self._advance(model, batch.progress)
            return turn.loss(batch, noise)

        return [replace(turn, loss=loss)]

    def _advance(self, model: TimeField, progress: float) -> None:
        """The student becomes the master once its share of the budget is used."""
        if self.now is None:
            self.now = int(self.stage)
        due = min(int(progress * self.stages), self.stages - 1)
        if due > self.now:
            self.now = due
            self.stage.fill_(due)
            self.master.load_state_dict(model.state_dict())
        self.times = Grid(self.teacher_steps >> (self.now + 1))

    def errors(self, model: TimeField, x: Tensor, y: Tensor | None, t: Tensor, eps: Tensor) -> Tensor:
        path, master, grid = model.path, self.master, self.times
        middle, s = grid.before(path, t, 0.5), grid.before(path, t)
        x_t = path.noised(x, eps, t)
        with torch.no_grad():
            x_s = master.predict(master.predict(x_t, t, y).at(middle), middle, y).at(s)
        B = path.sigma(s) * path.alpha(t) - path.alpha(s) * path.sigma(t)
        v_error = (model.predict(x_t, t, y).at(s) - x_s) / like(B, x)
        # max(SNR, 1) sigma^2 = max(alpha^2, sigma^2)
        return (like(torch.maximum(path.alpha(t), path.sigma(t)), x) * v_error).square()

    def score(self, model: TimeField, batch: Batch, noise: Noise) -> Tensor:
        z, y = model.prior_std * noise.randn(*batch.x.shape), batch.y if model.conditional else None
        return distance(ddim(model, z, y, self.student_steps), ddim(self.teacher, z, y, self.teacher_steps))
