"""Samples as ``gencli sample`` draws them by default, with a choice of how."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Count
from gencli.models.base import LatentVariable
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.samples import image_grids, of_samples
from gencli.run.assembly import Parts
from gencli.run.sampling import draw, labels


@dataclass(frozen=True, kw_only=True)
class SamplePicture(Picture):
    """N samples beside as many training examples, without writing the samples themselves.

    A sample of a latent variable model has the noise of p(x | z), pixel by pixel. Papers often show the mean E[x | z]
    of a z from the prior instead, which looks better than what the model draws; ``means`` does, and the title says so.

    Args:
        columns: images in a row; None: a square, or a class a column.
        means: show E[x | z] of the samples' own z.
    """

    columns: Count | None = None
    means: bool = False

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        if not self.means:
            drawn = draw(parts, n, seed)
            images = parts.dataset.to_image(drawn.x.cpu())
            if images is None or (parts.sampler is not None and parts.sampler.given is not None):
                return Drawn(figures={"": of_samples(parts, drawn.x, drawn.y)})
            return Drawn(figures={"": image_grids(parts, images, drawn.y, f"{n} samples", self.columns)})
        if not isinstance(parts.model, LatentVariable):
            raise UsageError("picture.means=true needs a model with latent variables, such as vae")
        y = labels(parts, n)
        noise = RowNoise(stream(seed, Purpose.SAMPLING), torch.arange(n, device=parts.device))
        with torch.no_grad():
            codes = parts.model.codes(n, noise)
            z = parts.model.decode(codes, parts.preprocess.context(None if y is None else y.to(parts.device)))
        x = z.reshape(n, *parts.dataset.spec.shape) if parts.preprocess.untouched else parts.preprocess.inverse(z)
        images = parts.dataset.to_image(x.cpu())
        if images is None:
            raise UsageError(f"picture.means=true shows images; data={parts.dataset.name} has none")
        return Drawn(
            figures={"": image_grids(parts, images, y, f"{n} means E[x | z], which are no samples", self.columns)}
        )
