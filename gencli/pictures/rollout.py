"""The answer to ``sampler=rollout``: ensembles of trajectories beside the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencli.core.options import Count
from gencli.pictures import canvas, style
from gencli.pictures.base import AnswerPicture, Drawn
from gencli.pictures.caption import columns_of, title
from gencli.run.assembly import Parts
from gencli.samplers.base import Answer

LINES = 8
"""Coordinates of a vector that are drawn as lines at most; more are drawn as a field over time and place."""
LEADS = 6
"""Images of a trajectory at most."""


@dataclass(frozen=True, kw_only=True)
class Rollout(AnswerPicture):
    """A row a start. Few coordinates are lines over time: the truth, the members, their mean.

    Vectors of more than eight coordinates are fields over time (downwards) and place: the truth, a member, the mean of
    all, their deviation. Images are shown at a few leads, with these four below each other.

    Args:
        starts: rows at most.
        coordinates: of a vector drawn as lines, the first ones at most.
    """

    option = "rollout"
    starts: Count = 3
    coordinates: Count = 4

    def of(self, answer: Answer, parts: Parts) -> Drawn:
        start, truth, members = (answer.arrays[name].cpu().double() for name in ("start", "truth", "members"))
        truth = torch.cat([start[:, None], truth], 1)[: self.starts]
        begun = start[:, None, None].expand(-1, members.shape[1], 1, *start.shape[1:])
        members = torch.cat([begun, members], 2)[: self.starts]
        spec = parts.dataset.spec
        if spec.kind == "image":
            figure = _images(truth[:, 1:], members[:, :, 1:])
        elif spec.dim > LINES:
            figure = _fields(truth, members)
        else:
            figure = self._lines(truth, members, columns_of(parts))
        shown = 1 if spec.kind == "image" else len(truth)
        few = f"; {shown} of them shown" if shown < len(start) else ""
        said = f"{members.shape[1]} trajectories from each of {len(start)} held-out states{few}"
        figure.suptitle(title(parts, said), wrap=True)
        return Drawn(figures={"": figure})

    def _lines(self, truth: Tensor, members: Tensor, names: list[str]) -> Any:
        """Panels of truth (n, T, D) and members (n, K, T, D)."""
        n, T, D = len(truth), truth.shape[1], min(truth.shape[2], self.coordinates)
        figure, axes = canvas.figure(D, 3.2 * D + 0.5, 1.9 * n + 0.6, rows=n)
        for axis, i, d in ((axes.reshape(n, D)[i, d], i, d) for i in range(n) for d in range(D)):
            for k, path in enumerate(members[i, :, :, d]):
                label = "members" if k == 0 else None
                axis.plot(range(T), path, color=style.MODEL, alpha=0.35, linewidth=0.6, label=label)
            axis.plot(range(T), members[i, :, :, d].mean(0), color=style.MODEL, label="their mean")
            axis.plot(range(T), truth[i, :, d], color=style.ink(), label="truth")
            axis.set_ylabel(names[d])
            if i == n - 1:
                axis.set_xlabel("steps")
        axes.reshape(n, D)[0, 0].legend()
        return figure


def _views(truth: Tensor, members: Tensor) -> list[tuple[str, Tensor]]:
    """What is shown of a start: names, and states (T, *)."""
    return [
        ("truth", truth),
        ("a member", members[0]),
        (f"mean of {len(members)}", members.mean(0)),
        ("deviation", members.std(0)),
    ]


def _fields(truth: Tensor, members: Tensor) -> Any:
    """Truth (n, T, D) and members (n, K, T, D) as fields over time and place, a row a start."""
    n = len(truth)
    figure, axes = canvas.figure(4, 11, 2.2 * n + 0.8, rows=n)
    for row, own, others in zip(axes.reshape(n, 4), truth, members, strict=True):
        low, high = float(own.min()), float(own.max())
        for axis, (name, states) in zip(row, _views(own, others), strict=True):
            limits = {} if name == "deviation" else {"vmin": low, "vmax": high}
            shown = axis.imshow(states, aspect="auto", interpolation="nearest", **limits)
            axis.set_title(name)
            figure.colorbar(shown, ax=axis)
        row[0].set_ylabel("steps")
    for axis in axes.reshape(n, 4)[-1]:
        axis.set_xlabel("coordinate")
    return figure


def _images(truth: Tensor, members: Tensor) -> Any:
    """Truth (n, T, C, H, W) and members (n, K, T, C, H, W): the first channel at some leads, of the first start."""
    own, others = truth[0, :, 0], members[0, :, :, 0]
    T, (H, W) = len(own), own.shape[1:]
    leads = torch.linspace(0, T - 1, min(LEADS, T)).round().long().tolist()
    wide = 1.9
    figure, axes = canvas.figure(len(leads), wide * len(leads) + 0.8, 4 * wide * H / W + 0.8, rows=4)
    axes = axes.reshape(4, len(leads))
    low, high = float(own.min()), float(own.max())
    for row, (name, states) in zip(axes, _views(own, others), strict=True):
        limits = {"vmin": 0, "vmax": float(states.max())} if name == "deviation" else {"vmin": low, "vmax": high}
        for axis, lead in zip(row, leads, strict=True):
            shown = axis.imshow(states[lead], interpolation="nearest", **limits)
            axis.set_xticks([])
            axis.set_yticks([])
            if name == "truth":
                axis.set_title("1 step" if lead == 0 else f"{lead + 1} steps")
        row[0].set_ylabel(name)
        figure.colorbar(shown, ax=list(row))
    return figure
