"""A posterior: every parameter, and every pair of them, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from gencli.core.options import Range
from gencli.pictures import canvas, style
from gencli.pictures.base import AnswerPicture, Drawn
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.samplers.base import Answer


@dataclass(frozen=True, kw_only=True)
class Corner(AnswerPicture):
    """Marginals on the diagonal, pairs below it: draws of the model, of the true posterior, and the true theta.

    The reference lies above the diagonal, so that neither hides the other. Limits are those of the middle 99.6 % of
    both.

    Args:
        most: parameters at most, the first ones.
        points: draws at most.
    """

    option = "corner"
    question = "posterior"
    most: Annotated[int, Range(low=1, high=12)] = 6
    points: Annotated[int, Range(low=10)] = 2000

    def of(self, answer: Answer, parts: Parts) -> Drawn:
        task = parts.dataset.task
        assert task is not None
        names = task.parameter_names[: self.most]
        drawn = {key: self._rows(answer.arrays.get(key)) for key in ("posterior", "reference")}
        truth = answer.arrays.get("truth")
        figure = self._corner(names, drawn["posterior"], drawn["reference"], None if truth is None else truth.numpy())
        total = task.prior.dim
        shown = "posterior" if len(names) == total else f"posterior: {len(names)} of {total} parameters"
        figure.suptitle(title(parts, shown), wrap=True)
        return Drawn(figures={"": figure})

    def _rows(self, draws: Tensor | None) -> np.ndarray | None:
        return None if draws is None else draws[: self.points, : self.most].numpy()

    def _corner(self, names: list[str], own: Any, other: np.ndarray | None, truth: np.ndarray | None) -> Any:
        size = len(names)
        both = own if other is None else np.concatenate([own, other])
        low, high = np.quantile(both, [0.002, 0.998], axis=0)
        if truth is not None:
            low, high = np.minimum(low, truth[:size]), np.maximum(high, truth[:size])
        margin = 0.05 * (high - low) + 1e-12
        low, high = low - margin, high + margin
        figure, grid = canvas.figure(size, max(5.0, 1.7 * size), max(5.0, 1.7 * size) + 0.5, size)
        axes = np.asarray(grid, dtype=object).reshape(size, size)
        for i in range(size):
            for j in range(size):
                axis = axes[i][j]
                axis.set_xlim(low[j], high[j])
                axis.tick_params(labelbottom=i == size - 1, labelleft=j == 0 and i > 0, labelsize=7)
                if i == j:
                    self._marginal(axis, own[:, i], None if other is None else other[:, i], (low[i], high[i]))
                    if truth is not None:
                        axis.axvline(truth[i], color=style.ink(), linewidth=1)
                else:
                    shown, colour = (own, style.MODEL) if i > j else (other, style.DATA)
                    if shown is None:
                        axis.axis("off")
                        continue
                    few = 2 if len(shown) > 400 else 6
                    axis.scatter(*shown[:, [j, i]].T, s=few, alpha=0.4, linewidths=0, color=colour, rasterized=True)
                    axis.set_ylim(low[i], high[i])
                    if truth is not None:
                        axis.plot(truth[j], truth[i], "+", color=style.ink(), markersize=10, markeredgewidth=1.5)
                if i == size - 1:
                    axis.set_xlabel(names[j])
                if j == 0:
                    axis.set_ylabel(names[i])
        kinds = [("model, below the diagonal", style.MODEL, "o")]
        kinds += [("true posterior, above it", style.DATA, "o")] if other is not None else []
        kinds += [("truth", style.ink(), "+")] if truth is not None else []
        handles = [
            axes[0][0].plot([], [], mark, markersize=5, color=colour, label=name)[0] for name, colour, mark in kinds
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        return figure

    @staticmethod
    def _marginal(axis: Any, own: np.ndarray, other: np.ndarray | None, limits: tuple[float, float]) -> None:
        if other is not None:
            axis.hist(other, bins=40, range=limits, density=True, color=style.DATA, alpha=0.5)
        axis.hist(own, bins=40, range=limits, density=True, color=style.MODEL, histtype="step", linewidth=1.2)
        axis.set_yticks([])
