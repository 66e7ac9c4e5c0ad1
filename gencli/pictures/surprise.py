"""Where held-out data surprise a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.spec import Batch
from gencli.models.base import Autoregressive
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts

SHOWN = 64
"""Images at most."""


@dataclass(frozen=True, kw_only=True)
class Surprise(Picture):
    """Images of a split beside -log p of each pixel given those before it, which add up to the image's NLL: ``.png``.

    Args:
        split: where the first n examples are taken from.
        unit: of the surprise.
    """

    layouts = ("image",)
    requires = (Autoregressive,)
    split: Literal["train", "val", "test"] = "test"
    unit: Literal["bits", "nats"] = "bits"

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        split = parts.dataset.split(self.split)
        if split is None:
            raise UsageError(f"picture.split={self.split}: data={parts.dataset.name} has none")
        batch = split.gather(torch.arange(min(n, SHOWN, len(split))))
        images = parts.dataset.to_image(batch.x.cpu())
        if images is None or parts.dataset.spec.kind != "image":
            raise UsageError(f"picture=surprise needs images; data={parts.dataset.name} has none")
        if not parts.preprocess.untouched:
            raise UsageError("picture=surprise needs a model of the data themselves, not of their transform to reals")
        figure = self._image(images, self._surprise(parts, batch))
        figure.suptitle(title(parts), wrap=True)
        return Drawn(figures={"": figure})

    @torch.no_grad()
    def _surprise(self, parts: Parts, batch: Batch) -> Tensor:
        """-log p of each pixel, all its channels together: (n, H, W)."""
        assert isinstance(parts.model, Autoregressive)
        there, _ = parts.preprocess.batch(batch.to(parts.device))
        log_p = parts.model.log_conditionals(there.x, there.y)
        log_p = log_p.reshape(len(batch.x), *parts.dataset.spec.shape).sum(1).cpu().double()
        return -log_p / (math.log(2) if self.unit == "bits" else 1)

    def _image(self, images: Tensor, surprise: Tensor) -> Any:
        n, (height, width) = len(images), surprise.shape[1:]
        columns = math.ceil(math.sqrt(n))
        margin = max(1, width // 10)  # both panels are laid out alike
        paper = int(style.paper()[1:3], 16) / 255
        left = canvas.tiles(images.expand(-1, 3, -1, -1), columns, paper, margin).permute(1, 2, 0)
        right = canvas.tiles(surprise[:, None], columns, math.nan, margin)[0]
        inches = 6.2 / left.shape[1]
        figure, axes = canvas.figure(2, 13.6, max(2.5, left.shape[0] * inches + 0.4))
        axes[0].imshow(left, interpolation="nearest")
        axes[0].set_title(f"{self.split} images")
        high = float(torch.quantile(surprise.flatten()[:1_000_000], 0.998))
        shown = axes[1].imshow(right, cmap="inferno", vmin=0, vmax=high, interpolation="nearest")
        axes[1].set_title(f"-log p of each pixel, and their sum in {self.unit}")
        size = min(9.0, 72 * inches * 2 * margin * 0.8)
        for k, total in enumerate(surprise.sum((1, 2)).tolist()):
            x = (k % columns) * (width + 2 * margin) + margin - 0.5
            y = (k // columns) * (height + 2 * margin) + margin - 0.8
            axes[1].text(x, y, f"{total:.0f}", fontsize=size, va="bottom", ha="left")
        for axis in axes:
            axis.set_axis_off()
        figure.colorbar(shown, ax=axes[1], shrink=0.8, extend="max", label=f"{self.unit} a pixel")
        return figure
