"""How good ensembles of a model are as forecasts of held-out states, lead by lead.

"GenCast: diffusion-based ensemble forecasting for medium-range weather" (Price et al., 2023) measures the same: RMSE of
the ensemble's mean, CRPS, spread over skill. ``models/forecast.py`` has the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from gencli.core.options import Count, Range
from gencli.data.base import Dataset
from gencli.metrics.base import Measured, ModelMetric
from gencli.models.base import Model
from gencli.models.forecast import climate, measures, roll_out, starts
from gencli.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Forecast(ModelMetric):
    """The fair CRPS of ensembles, averaged over leads, starts and coordinates, in the unit of x.

    Beside it, for each lead L as ``<name>@L``: RMSE of the ensemble's mean, CRPS and anomaly correlation; RMSE and CRPS
    of persistence and of climatology (the training split); spread over skill, which is 1 where the model is right.
    Errors are over trajectories, or over blocks of time that are as long as the longest lead.

    Args:
        leads: steps ahead.
        members: K of an ensemble.
        starts: held-out states, evenly spaced in time, at most.
        standardised: count each coordinate in its deviations of the training split, where they have other units.
    """

    needs = "states in the order of time"

    leads: Annotated[Sequence[Count], Range(low=1)] = (1, 6, 24)
    members: Annotated[int, Range(low=2)] = 20
    starts: Count = 50
    standardised: bool = False

    def check(self, dataset: Dataset, model: Model) -> None:
        if dataset.follows is None or not model.conditional:
            raise ValueError("metrics=[forecast] needs states in the order of time, and a model of each after the last")

    def measure(self, subject: Subject) -> Measured:
        leads = sorted(set(self.leads))
        begun = starts(subject.dataset, subject.split, self.starts, leads[-1])
        members = roll_out(subject, begun.y, leads[-1], self.members)
        known = climate(subject.dataset)
        if self.standardised:
            s = known.deviation
            members = members / s
            begun = replace(begun, state=begun.state / s, truth=begun.truth / s)
            known = replace(known, mean=known.mean / s, states=known.states / s)
        found = {lead: measures(members, begun, known, lead) for lead in leads}
        diagnostics = {}
        for lead, numbers in found.items():
            for name, number in numbers.items():
                diagnostics[f"{name}@{lead}"] = number.value
                if number.se is not None:
                    diagnostics[f"se_{name}@{lead}"] = number.se
        crps = [numbers["crps"] for numbers in found.values()]
        errors = [number.se for number in crps if number.se is not None]
        # leads of one start go together: the mean of their errors is no less than that of the mean
        se = sum(errors) / len(errors) if errors else None
        value = sum(number.value for number in crps) / len(crps)
        return Measured(value, se, diagnostics, drawn=members[:, :, 0].flatten(0, 1).shape[0], examples=len(begun.y))
