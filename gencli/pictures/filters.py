"""What hidden units look for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gencli.core.errors import UsageError
from gencli.core.options import Count
from gencli.models.structure import LinearFeatures
from gencli.pictures import canvas
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts


@dataclass(frozen=True, kw_only=True)
class Filters(Picture):
    """The weights of hidden units as images, those with the longest first: ``.png``.

    Blue is negative, white 0, red positive, on one scale for all that are shown; n is not used.

    Args:
        units: the most that are shown.
    """

    layouts = ("image",)
    requires = (LinearFeatures,)
    units: Count = 100

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        assert isinstance(parts.model, LinearFeatures)
        filters = parts.model.filters().cpu()
        if parts.dataset.spec.kind != "image":
            raise UsageError(f"picture=filters shows images; data={parts.dataset.name} has none")
        filters = filters.view(-1, *parts.dataset.spec.shape).sum(1, keepdim=True)
        length = filters.flatten(1).norm(dim=1)
        shown = filters[length.argsort(descending=True)[: self.units]]
        columns = math.ceil(math.sqrt(len(shown)))
        picture = canvas.tiles(shown, columns, math.nan)[0]
        figure, (axis,) = canvas.figure(1, 8, 7 * picture.shape[0] / picture.shape[1])
        bound = float(shown.abs().flatten()[:1_000_000].quantile(0.998)) or 1.0
        drawn = axis.imshow(picture, cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
        figure.suptitle(title(parts), wrap=True)
        axis.set_title(f"weights of {len(shown)} of {len(filters)} hidden units, the longest first")
        axis.set_axis_off()
        figure.colorbar(drawn, ax=axis, shrink=0.7, extend="both")
        return Drawn(figures={"": figure})
