"""Histograms of the ranks of true parameters among draws of the posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from gencli.core.errors import UsageError
from gencli.core.options import Count, Range
from gencli.methods.coverage import band, calibrated, distance_ranks, ranks
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.subject import subject


@dataclass(frozen=True, kw_only=True)
class Ranks(Picture):
    """Simulation-based calibration: a histogram of ranks for each parameter, and expected coverage (TARP).

    Bars of a calibrated posterior lie within the band with probability 0.95 each. A hump is a posterior that is too
    wide, a bowl one that is too narrow, a slope one that lies to one side.

    Args:
        examples: held-out observations.
        draws: of each posterior.
        bins: of a histogram.
        steps: recorded steps of chains, where the model is of observations.
    """

    examples: Annotated[int, Range(low=20)] = 200
    draws: Annotated[int, Range(low=9)] = 99
    bins: Annotated[int, Range(low=2)] = 10
    steps: Count = 50

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        task = parts.dataset.task
        if task is None:
            raise UsageError(f"picture=ranks needs data=simulator; data={parts.dataset.name} has no prior")
        if self.bins > self.draws + 1:
            raise UsageError(f"picture.bins={self.bins}: at most picture.draws + 1 = {self.draws + 1}")
        name = next(name for name in ("test", "val", "train") if parts.dataset.split(name) is not None)
        asked = subject(parts, name, seed)
        try:
            drawn, theta, x = calibrated(asked, self.examples, self.draws, self.steps)
        except ValueError as error:
            raise UsageError(str(error)) from error
        found = ranks(drawn.theta, theta)
        covered = distance_ranks(drawn.theta, theta, x)
        columns = min(4, task.prior.dim + 1)
        figure, axes = canvas.figure(
            columns,
            3.0 * columns,
            2.4 * math.ceil((task.prior.dim + 1) / columns),
            rows=math.ceil((task.prior.dim + 1) / columns),
        )
        low, high = band(self.examples, self.bins)
        panels = list(np.asarray(axes, dtype=object).flat)
        for axis, name, column in zip(panels, task.parameter_names, found.T, strict=False):
            axis.hist(column.numpy(), bins=self.bins, range=(-0.5, self.draws + 0.5), color=style.MODEL, alpha=0.7)
            axis.axhspan(low, high, color=style.ink(), alpha=0.15, linewidth=0)
            axis.set_xlabel(f"rank of {name} in {self.draws} draws")
        axis = panels[task.prior.dim]
        level = torch.linspace(0, 1, 101, dtype=torch.float64)
        inside = (covered.double() + 0.5)[:, None] / (self.draws + 1) < level
        spread = 1.96 * (level * (1 - level) / self.examples).sqrt()
        axis.fill_between(level, level - spread, level + spread, color=style.ink(), alpha=0.15, linewidth=0)
        axis.plot(level, inside.double().mean(0), color=style.MODEL)
        axis.set_xlabel("credibility level")
        axis.set_ylabel("expected coverage")
        for rest in panels[task.prior.dim + 1 :]:
            rest.axis("off")
        figure.suptitle(title(parts, f"{self.examples} observations, 95 % bands"), wrap=True)
        return Drawn(figures={"": figure})
