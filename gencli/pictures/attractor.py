"""Where a model of states goes in the long run, beside where the world went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from gencli.core.errors import UsageError
from gencli.core.options import Count, Natural, Range
from gencli.models.forecast import roll_out, starts
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import columns_of, title
from gencli.run.assembly import Parts
from gencli.run.subject import held_out_subject

BINS = 40
COORDINATES = 3
"""Histograms at most."""


@dataclass(frozen=True, kw_only=True)
class Attractor(Picture):
    """Free runs of a model from n held-out states: their trajectories in a plane, and their climate.

    Left the held-out states, in the middle those of the model, of which the first half is left out: it still knows
    where it began. Right the histograms of single coordinates, the climate.

    Args:
        steps: of a free run.
        plane: the two coordinates that are drawn; null: the first and the last of three, else the first two.
    """

    layouts = ("vector",)
    steps: Count = 200
    plane: Annotated[list[Natural], Range(low=2, high=2)] | None = None

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        if parts.dataset.spec.kind != "vector":
            raise UsageError(f"picture=attractor is of vectors; data={parts.dataset.name} has none")
        subject, D = held_out_subject(parts, seed), parts.dataset.spec.dim
        a, b = self.plane or (0, {1: 0, 3: 2}.get(D, 1))
        if max(a, b) >= D:
            raise UsageError(f"picture.plane={[a, b]}: this data has coordinates 0 to {D - 1}")
        try:
            begun = starts(subject.dataset, subject.split, n, 1)
            free = roll_out(subject, begun.y, self.steps, 1)[:, 0, self.steps // 2 :]
        except ValueError as error:
            raise UsageError(f"picture=attractor: {error}") from error
        split = subject.split
        held = split.gather(torch.arange(len(split))).x.cpu()
        names = columns_of(parts)
        shown = min(D, COORDINATES)
        figure, axes = canvas.figure(2 + shown, 3.1 * (2 + shown), 3.4)
        some = held[: free.shape[0] * free.shape[1]]
        axes[0].scatter(some[:, a], some[:, b], s=1, color=style.DATA, linewidths=0)
        axes[0].set_title("held-out states")
        flat = free.flatten(0, 1)
        axes[1].scatter(flat[:, a], flat[:, b], s=1, color=style.MODEL, linewidths=0)
        axes[1].set_title(f"model, {len(free)} free runs")
        axes[1].set_xlim(axes[0].get_xlim())
        axes[1].set_ylim(axes[0].get_ylim())
        beyond = ((flat < held.amin(0)) | (flat > held.amax(0))).any(1).double().mean()
        for axis in axes[:2]:
            axis.set_xlabel(names[a])
            axis.set_ylabel(names[b])
        for d, axis in enumerate(axes[2:]):
            edges = np.linspace(float(held[:, d].min()), float(held[:, d].max()), BINS + 1)
            for x, colour, label in ((held, style.DATA, "held-out"), (flat, style.MODEL, "model")):
                share = np.full(len(x), 1 / len(x))  # of all states: what lies beyond the edges is missing
                axis.hist(x[:, d].numpy(), edges, weights=share, histtype="step", color=colour, label=label)
            axis.set_xlabel(names[d])
            axis.set_yticks([])
            axis.set_title("climate" if d == 0 else "")
        axes[2].legend()
        said = f"free runs of {self.steps} steps, {float(beyond):.0%} of states beyond all held-out ones"
        figure.suptitle(title(parts, said), wrap=True)
        return Drawn(figures={"": figure})
