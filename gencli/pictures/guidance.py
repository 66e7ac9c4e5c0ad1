"""The same noise under more and more guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Count, Finite, Range
from gencli.models.base import VelocityField
from gencli.pictures import canvas
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.pictures.path import walker
from gencli.run.assembly import Parts


@dataclass(frozen=True, kw_only=True)
class Guidance(Picture):
    """A grid of samples: a column a class, rows by guidance weight w, all rows from the same noise.

    Row w = 0 does not know its column's class, w = 1 is the conditional model.

    Args:
        weights: w of the rows.
        each: samples of a class at each w, one below the other.
    """

    layouts = ("image",)
    requires = (VelocityField,)
    weights: Annotated[Sequence[Finite], Range(low=1)] = (0, 1, 2, 4)
    each: Count = 2

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        sampler, spec = walker(parts, "guidance"), parts.dataset.spec
        if not (parts.model.conditional and spec.classes):
            raise UsageError("picture=guidance needs a model of classes, trained with model.conditional=true")
        classes = sampler.classes or list(range(spec.classes))
        y = torch.tensor(classes, device=parts.device).repeat(self.each)
        rows: list[Tensor] = []
        for w in self.weights:
            guided = replace(sampler, guidance=w)
            try:
                guided.check(parts.view, parts.learned)
            except ValueError as error:
                raise UsageError(str(error)) from error
            noise = RowNoise(stream(seed, Purpose.SAMPLING), torch.arange(len(y), device=parts.device))
            with torch.no_grad():
                x = parts.preprocess.inverse(guided.sample(parts.view, len(y), y, noise).x).cpu()
            images = parts.dataset.to_image(x)
            if images is None:
                raise UsageError(f"picture=guidance shows images; data={parts.dataset.name} has none")
            rows.append(images)
        names = [name for w in self.weights for name in [f"w = {w:g}", *[""] * (self.each - 1)]]
        called = parts.dataset.class_names()
        heads = [quoted(called[c] if called and isinstance(c, int) else c, 12) for c in classes]
        return Drawn(
            figures={"": canvas.labelled(torch.cat(rows), len(classes), rows=names, heads=heads, title=title(parts))}
        )
