"""The question where a state goes: ensembles of trajectories from held-out states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from gencli.core.options import Count, Range
from gencli.models.base import Model
from gencli.models.forecast import climate, measures, roll_out, starts
from gencli.models.subject import Subject
from gencli.models.trained import Learned
from gencli.samplers.base import Answer, Question


@dataclass(frozen=True, kw_only=True)
class Rollout(Question[Any]):
    """From each of n held-out states, evenly spaced in time, an ensemble of trajectories beside the true one.

    S_(t+1) ~ p(x given S_t), step after step, by the sampler that the run was trained with.

    Args:
        steps: T, of the data's own length each.
        members: K.
    """

    option = "rollout"
    requires = (Model,)
    steps: Count = 24
    members: Annotated[int, Range(low=2)] = 20

    def check(self, model: Model, learned: Learned) -> None:
        if not model.conditional:
            raise ValueError("sampler=rollout needs model.conditional=true: a model of where a state goes")

    def answer(self, subject: Subject, n: int) -> Answer:
        begun = starts(subject.dataset, subject.split, n, self.steps)
        members = roll_out(subject, begun.y, self.steps, self.members)
        known = climate(subject.dataset)
        diagnostics = {}
        for lead in dict.fromkeys((1, self.steps)):
            for name, number in measures(members, begun, known, lead).items():
                key = f"{name}@{lead}"
                diagnostics[key] = number.value
                if number.se is not None:
                    diagnostics[f"{key}_se"] = number.se
        arrays = {"start": begun.state, "truth": begun.truth, "members": members}
        notes = ("numbers behind @ are steps ahead; gencli eval metrics=[forecast] measures more starts and leads",)
        return Answer(arrays, diagnostics, notes)
