"""How training went: the loss and the validation score of one or several runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gencli.core.errors import UsageError
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.several import labels_of, opened
from gencli.run.assembly import Parts

POINTS = 2000
"""Of a line; more are averaged over neighbours."""


@dataclass(frozen=True)
class Curve:
    """Values over training: (N,) each, seconds without the time of validation."""

    step: np.ndarray
    seconds: np.ndarray
    value: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Curves(Picture):
    """The training loss and the validation score by step (left) and by seconds of training (right).

    Losses of different objectives have different units, so that only runs of one objective can be compared by them. A
    validation NLL has the entropy of the data below it where that is known. The last value of each line is dotted on.

    Args:
        runs: further runs, by their folders.
    """

    runs: Sequence[str] = ()

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        runs = opened(parts, self.runs, "curves")
        labels = labels_of(runs)
        rows = [(split, [curve_of(run.metrics, split) for run in runs]) for split in ("train", "val")]
        rows = [(split, curves) for split, curves in rows if any(curve is not None for curve in curves)]
        if not rows:
            raise UsageError("picture=curves: metrics.jsonl has no line of training yet")
        figure, axes = canvas.figure(2, 10, 0.6 + 2.9 * len(rows), len(rows))
        entropy = parts.dataset.entropy
        for (split, curves), pair in zip(rows, axes if len(rows) > 1 else [axes], strict=True):
            names = {key_of(run.metrics, split) for run in runs} - {None}
            for axis, across in zip(pair, ("step", "seconds"), strict=True):
                _lines(axis, curves, labels, across)
                if names == {"nll"} and entropy is not None:
                    axis.axhline(entropy, color=style.ink(), linestyle=":", linewidth=1, label="H of the data")
                _limits(axis, curves)
                axis.set_xlabel({"step": "step", "seconds": "seconds of training"}[across])
            pair[0].set_ylabel(f"{split} {' or '.join(sorted(map(str, names)))}, nats")
        if len(runs) > 1 or axes.flat[-1].get_legend_handles_labels()[1][1:]:
            axes.flat[-1].legend()
        figure.suptitle(f"{'runs' if len(runs) > 1 else labels[0]} on {parts.dataset.name}")
        return Drawn({"": figure})


def key_of(metrics: Sequence[Mapping[str, Any]], split: str) -> str | None:
    """What a split is followed by: ``loss`` in training, else the NLL or the objective's own score."""
    for name in ("loss",) if split == "train" else ("nll", "score", "loss"):
        if any(line.get("split") == split and name in line for line in metrics):
            return name
    return None


def curve_of(metrics: Sequence[Mapping[str, Any]], split: str) -> Curve | None:
    """The finite values of a split; None: there are none."""
    name = key_of(metrics, split)
    lines = [line for line in metrics if line.get("split") == split and isinstance(line.get(name), int | float)]
    lines = [line for line in lines if math.isfinite(line[name])]  # type: ignore[index]
    if not lines:
        return None
    columns = np.array([[line["step"], line["seconds"], line[name]] for line in lines], dtype=float)  # type: ignore[index]
    each = math.ceil(len(columns) / POINTS)
    cells = np.array([columns[i : i + each].mean(0) for i in range(0, len(columns), each)])
    return Curve(*cells.T)


def _lines(axis: Any, curves: Sequence[Curve | None], labels: Sequence[str], across: str) -> None:
    for k, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        if curve is None:
            continue
        x = getattr(curve, across)
        line = "-" if k < len(style.COLOURS) else "--"  # more runs than colours
        axis.plot(x, curve.value, line, color=f"C{k}", linewidth=1.2, label=label)
        axis.plot(x[-1:], curve.value[-1:], "o", color=f"C{k}", markersize=3)


def _limits(axis: Any, curves: Sequence[Curve | None]) -> None:
    """All of the later values, and of the first ones what does not flatten them."""
    values = np.concatenate([curve.value for curve in curves if curve is not None])
    later = np.concatenate([curve.value[len(curve.value) // 5 :] for curve in curves if curve is not None])
    low, high = values.min(), max(np.quantile(values, 0.95), later.max())
    axis.set_ylim(low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0))
