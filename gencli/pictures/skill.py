"""How far ahead a model of states can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from gencli.core.errors import UsageError
from gencli.core.options import Count, Range
from gencli.models.forecast import climate, measures, roll_out, starts
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.subject import held_out_subject


@dataclass(frozen=True, kw_only=True)
class Skill(Picture):
    """RMSE, CRPS and spread over skill by lead, with two standard errors, beside persistence and climatology.

    Forecasts start from n held-out states, evenly spaced in time. Where the CRPS reaches that of the climatology,
    nothing is predicted any more. Spread over skill is 1 at every lead where the model is right.

    Args:
        steps: ahead.
        members: of an ensemble.
    """

    steps: Count = 24
    members: Annotated[int, Range(low=2)] = 20

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        subject = held_out_subject(parts, seed)
        try:
            begun = starts(subject.dataset, subject.split, n, self.steps)
            members = roll_out(subject, begun.y, self.steps, self.members)
            known = climate(subject.dataset)
        except ValueError as error:
            raise UsageError(f"picture=skill: {error}") from error
        leads = range(1, self.steps + 1)
        found = [measures(members, begun, known, lead) for lead in leads]
        figure, axes = canvas.figure(3, 11, 3.6)
        for axis, name in zip(axes, ("rmse", "crps"), strict=False):
            for kind, colour in (("", style.MODEL), ("_persistence", "C2"), ("_climatology", style.DATA)):
                numbers = [at[name + kind] for at in found]
                value = np.array([number.value for number in numbers])
                label = kind[1:] or f"mean of {self.members} members" if name == "rmse" else kind[1:] or "ensemble"
                axis.plot(leads, value, color=colour, label=label)
                band = 2 * np.array([number.se or 0.0 for number in numbers])
                axis.fill_between(leads, value - band, value + band, color=colour, alpha=0.2, linewidth=0)
            axis.set_ylabel({"rmse": "RMSE, unit of x", "crps": "fair CRPS, unit of x"}[name])
            axis.legend()
        ratio = np.array([at["spread/skill"].value for at in found])
        band = 2 * np.array([at["spread/skill"].se or 0.0 for at in found])
        axes[2].plot(leads, ratio, color=style.MODEL)
        axes[2].fill_between(leads, ratio - band, ratio + band, color=style.MODEL, alpha=0.2, linewidth=0)
        axes[2].axhline(1.0, color=style.ink(), linewidth=0.8, linestyle=":")
        axes[2].set_ylabel("spread / skill")
        for axis in axes:
            axis.set_xlabel("lead, steps")
            axis.set_ylim(bottom=0)
        figure.suptitle(title(parts, f"forecasts from {len(begun.y)} held-out states"), wrap=True)
        return Drawn(figures={"": figure})
