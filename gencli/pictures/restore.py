"""What the sampler ``restore`` has made of what was observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencli.pictures import style
from gencli.pictures.base import AnswerPicture, Drawn
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.samplers.base import Answer

COLUMNS = {
    "original": "original",
    "degraded": "degraded",
    "total_variation": "total variation",
    "map": "MAP",
    "mean": "posterior mean",
    "deviation": "posterior deviation",
}
_MOST = 8  # examples in the picture


@dataclass(frozen=True, kw_only=True)
class Restored(AnswerPicture):
    """Examples in rows: original, degraded, total variation, MAP, posterior mean and deviation.

    Under each estimate stands its PSNR. Vectors are drawn as points of their coordinates, the posterior as bars of two
    deviations.
    """

    option = "restore"

    def of(self, answer: Answer, parts: Parts) -> Drawn:
        arrays = {name: x[:_MOST] for name, x in answer.arrays.items() if name in COLUMNS}
        image = parts.dataset.spec.kind == "image"
        figure = _images(arrays) if image else _vectors(arrays)
        figure.suptitle(title(parts))
        return Drawn(figures={"": figure})


def _images(arrays: dict[str, Tensor]) -> Any:
    names = [name for name in COLUMNS if name in arrays]
    n = len(arrays["degraded"])
    figure = style.blank(1.35 * len(names) + 0.5, 1.5 * n + 0.6)
    axes = figure.subplots(n, len(names), squeeze=False)
    truth = arrays.get("original")
    low, high = _range(arrays["degraded"] if truth is None else truth)
    shades = None
    for column, name in enumerate(names):
        for row, axis in enumerate(axes[:, column]):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            x = arrays[name][row]
            if name == "deviation":
                most = float(arrays[name].max())
                shades = axis.imshow(x.mean(0).numpy(), vmin=0, vmax=most or 1.0, interpolation="nearest")
            else:
                shown = ((x - low) / (high - low)).clamp(0, 1).expand(3, -1, -1)
                axis.imshow(shown.permute(1, 2, 0).numpy(), interpolation="nearest")
                if truth is not None and name != "original":
                    axis.set_xlabel(f"{_psnr(truth[row], x, high - low):.1f} dB", fontsize=7, labelpad=1)
        axes[0, column].set_title(COLUMNS[name], fontsize=8)
    if shades is not None:
        figure.colorbar(shades, ax=axes[:, -1].tolist(), shrink=0.6, aspect=30)
    return figure


def _range(x: Tensor) -> tuple[float, float]:
    """[0, 1] of images that lie in it, else from the least to the greatest value."""
    low, high = float(x.min()), float(x.max())
    return (0.0, 1.0) if low > -1 and high < 2 else (low, high)


def _psnr(truth: Tensor, x: Tensor, span: float) -> float:
    return float(10 * torch.log10(span**2 / (truth - x).square().mean()))


def _vectors(arrays: dict[str, Tensor]) -> Any:
    n, D = arrays["degraded"].flatten(1).shape
    figure = style.blank(max(4.0, min(0.25 * D, 10.0)), 1.5 * n + 0.5)
    axes = figure.subplots(n, 1, squeeze=False, sharex=True)[:, 0]
    at = torch.arange(D).numpy()
    for row, axis in enumerate(axes):
        if "mean" in arrays:
            mean, deviation = arrays["mean"][row].numpy(), arrays["deviation"][row].numpy()
            axis.errorbar(at, mean, 2 * deviation, fmt="o", ms=3, lw=1, color=style.MODEL, label=COLUMNS["mean"])
        for name, sign, colour in (("original", "_", style.ink()), ("map", "x", "C2"), ("degraded", ".", style.DATA)):
            if name in arrays:
                axis.plot(at, arrays[name][row].numpy(), sign, color=colour, label=COLUMNS[name])
    axes[0].legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes[-1].set_xlabel("coordinate")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure
