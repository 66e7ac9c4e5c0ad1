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
from gencli.pictures.several import data_of, labels_of, opened
from gencli.run.assembly import Parts

POINTS = 2000
"""Of a line; more are averaged over neighbours."""

FACTS = ("step", "split", "seconds", "weights")
"""Keys of a line before its values."""

WORDS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class Curve:
    """Values over training: (N,) each, seconds without the time of validation."""

    step: np.ndarray
    seconds: np.ndarray
    value: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Curves(Picture):
    """The training loss and the validation score by step (left) and by seconds of training (right).

    Losses of different objectives have different units, so that only runs of one objective can be compared by them.
    Validation NLLs have a panel of their own, apart from the scores of objectives that are none, with the entropy of
    the data where that is known.

    Args:
        runs: further runs, by their folders.
    """

    runs: Sequence[str] = ()

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        runs = opened(parts, self.runs, "curves")
        labels, metrics, alike = labels_of(runs), [run.metrics for run in runs], len(set(data_of(runs))) == 1
        rows = [
            (split, key, curves)
            for split in WORDS
            for key in keys_of(metrics, split)
            if any(curves := [curve_of(lines, split, key) for lines in metrics])
        ]
        if not rows:
            raise UsageError("picture=curves: metrics.jsonl has no line of training yet")
        figure, axes = canvas.figure(2, 10, 0.6 + 2.7 * len(rows), len(rows))
        for (split, key, curves), pair in zip(rows, axes if len(rows) > 1 else [axes], strict=True):
            entropy = parts.dataset.entropy if key == "nll" and alike else None
            for axis, across in zip(pair, ("step", "seconds"), strict=True):
                _lines(axis, curves, labels, across)
                if entropy is not None:
                    axis.axhline(entropy, color=style.ink(), linestyle=":", linewidth=1, label="H of the data")
                _limits(axis, curves, entropy)
                axis.set_xlabel({"step": "step", "seconds": "seconds of training"}[across])
            pair[0].set_ylabel(f"{WORDS[split]} {'NLL, nats' if key == 'nll' else key}")
            pair[1].legend()
        what = "training" if len(runs) > 1 else labels[0]
        figure.suptitle(f"{what} on {parts.dataset.name}" if alike else what)
        return Drawn(figures={"": figure})


def keys_of(metrics: Sequence[Sequence[Mapping[str, Any]]], split: str) -> list[str]:
    """What lines of a split are followed by: the losses of all players, or the NLL before scores that are none."""
    lines = [line for each in metrics for line in each if line.get("split") == split]
    if split == "train":
        return sorted({name for line in lines for name in line if name.startswith("loss")})
    # the score is the first of the values, before diagnostics
    names = {next((name for name in line if name not in FACTS), None) for line in lines} - {None}
    return sorted(map(str, names), key=lambda name: (name != "nll", name))


def curve_of(metrics: Sequence[Mapping[str, Any]], split: str, key: str) -> Curve | None:
    """The finite values of a key in lines of a split; None: there are none, or the NLL stands beside it."""
    lines = [line for line in metrics if line.get("split") == split]
    if key != "nll" and any("nll" in line for line in lines):
        return None
    lines = [line for line in lines if isinstance(line.get(key), int | float) and math.isfinite(line[key])]
    if not lines:
        return None
    columns = np.array([[line["step"], line["seconds"], line[key]] for line in lines], dtype=float)
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


def _limits(axis: Any, curves: Sequence[Curve | None], entropy: float | None) -> None:
    """All of the later values, and of the first ones what does not flatten them."""
    values = np.concatenate([curve.value for curve in curves if curve is not None])
    later = np.concatenate([curve.value[len(curve.value) // 5 :] for curve in curves if curve is not None])
    low = min(values.min(), values.min() if entropy is None else entropy)
    high = max(np.quantile(values, 0.95), later.max())
    axis.set_ylim(low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0))
