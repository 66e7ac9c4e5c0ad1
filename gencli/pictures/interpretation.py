"""Fix x, find y: what a model takes examples for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Count
from gencli.models.bayes import log_posterior, prior_of
from gencli.models.structure import Classifier, HiddenUnits
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.subject import subject

SHOWN, COLUMNS = 24, 3
"""Examples at most, and how many of them stand side by side."""


@dataclass(frozen=True, kw_only=True)
class Interpretation(Picture):
    """Examples beside bars of p(y | x), the true class in another colour; of an RBM, of p(h_j = 1 | x).

    p(y | x) is the model's own, or that of Bayes' rule from K likelihoods, as ``metrics=[classification]`` has it.

    Args:
        split: where the first n examples are taken from, 24 at most.
        prior: p(y) of Bayes' rule: shares of the ``training`` split, or ``uniform``.
        units: the most hidden units that are shown.
    """

    split: Literal["train", "val", "test"] = "test"
    prior: Literal["training", "uniform"] = "training"
    units: Count = 100

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        split = parts.dataset.split(self.split)
        if split is None:
            raise UsageError(f"picture.split={self.split}: data={parts.dataset.name} has none")
        batch = split.gather(torch.arange(min(n, SHOWN, len(split))))
        model = parts.view
        if isinstance(model, HiddenUnits):
            bars, y, names = self._hidden(parts, model, batch.x, seed), None, None
        else:
            bars, y, names = self._classes(parts, batch.x, seed), batch.y, parts.dataset.class_names()
        return Drawn(figures={"": self._figure(parts, batch.x, bars, y, names)})

    @torch.no_grad()
    def _hidden(self, parts: Parts, model: HiddenUnits, x: Tensor, seed: int) -> Tensor:
        """p(h_j = 1 | x) of the first units, (n, H)."""
        rows = torch.arange(len(x), device=parts.device)
        z, _ = parts.preprocess(x.to(parts.device), RowNoise(stream(seed, Purpose.PICTURES), rows))
        return model.hidden(z)[:, : self.units].cpu()

    @torch.no_grad()
    def _classes(self, parts: Parts, x: Tensor, seed: int) -> Tensor:
        """p(y | x), (n, K)."""
        own = isinstance(parts.view, Classifier)
        if not parts.dataset.spec.classes or not (own or parts.model.conditional):
            raise UsageError(
                "picture=interpretation needs labelled data and a model of p(x given y) or of x and its class, as "
                "model=joint_ebm, or one with hidden bits, as model=rbm"
            )
        asked = subject(parts, self.split, seed)
        return log_posterior(asked, x, None if own else prior_of(asked, self.prior)).exp()

    def _figure(self, parts: Parts, x: Tensor, bars: Tensor, y: Tensor | None, names: list[str] | None) -> Any:
        images = parts.dataset.to_image(x.cpu())
        columns = min(COLUMNS, len(x))
        rows = math.ceil(len(x) / columns)
        figure, axes = canvas.figure(2 * columns, 3.6 * columns, 1.3 * rows + 0.5, rows)
        flat = [axis for row in (axes if rows > 1 else [axes]) for axis in row]
        for axis in flat:
            axis.set_axis_off()
        for k in range(len(x)):
            left, right = flat[2 * k], flat[2 * k + 1]
            if images is None:
                left.text(
                    0.5,
                    0.5,
                    "\n".join(f"{value:.3g}" for value in x[k].flatten()[:6].tolist()),
                    ha="center",
                    va="center",
                )
            else:
                left.imshow(images[k].expand(3, -1, -1).permute(1, 2, 0), interpolation="nearest")
            right.set_axis_on()
            self._bars(right, bars[k], None if y is None else int(y[k]), names)
        what = "p(h = 1 | x)" if y is None else "p(y | x)"
        figure.suptitle(title(parts, what), wrap=True)
        return figure

    def _bars(self, axis: Any, p: Tensor, y: int | None, names: list[str] | None) -> None:
        """Of one example; the colour of data marks the true class."""
        colours = [style.DATA if k == y else style.MODEL for k in range(len(p))]
        axis.bar(range(len(p)), p.tolist(), color=colours, width=0.9)
        axis.set_ylim(0, 1)
        axis.set_yticks([0, 1])
        if y is None:
            return
        axis.set_xticks(range(len(p)) if len(p) <= 10 else [y, int(p.argmax())])
        axis.tick_params(labelsize=7, length=2)
        told = [quoted(names[k], 12) if names else str(k) for k in (y, int(p.argmax()))]
        axis.set_title(f"{told[0]}" if told[0] == told[1] else f"{told[0]}, taken for {told[1]}", fontsize=8)
