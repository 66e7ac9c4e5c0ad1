"""Samples of an autoregressive model as they grow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import NonNegative, Range
from gencli.models.base import Autoregressive
from gencli.models.distributions import Conditional
from gencli.pictures import canvas
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.run.sampling import labels

SHOWN = 16
"""Samples at most: more are too small to be watched."""

ROWS = 8
"""Strips one below the other, before there are two columns of them."""


@dataclass(frozen=True, kw_only=True)
class Grow(Picture):
    """The same samples after a growing number of coordinates: ``.png``, a strip for each sample, and a film of all.

    Args:
        frames: columns of the strip.
        steps: frames of the film.
        temperature: divides log-probabilities, or scales the standard deviation of reals.
    """

    layouts = ("image",)
    requires = (Autoregressive,)
    frames: Annotated[int, Range(low=2)] = 8
    steps: Annotated[int, Range(low=2)] = 40
    temperature: NonNegative = 1.0

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        n = min(n, SHOWN)
        model, spec = parts.model, parts.dataset.spec
        assert isinstance(model, Autoregressive)
        y = labels(parts, n)
        y = None if y is None else y.to(parts.device)
        z, times = trace(model, n, y, seed, parts.device, self.temperature)
        images = parts.dataset.to_image(parts.preprocess.inverse(z).cpu())
        if images is None or spec.kind != "image":
            raise UsageError(f"picture=grow needs images; data={parts.dataset.name} has none")
        set_at = times.view(n, *spec.shape).amin(1, keepdim=True).cpu()  # of a pixel: when its first channel is known
        dim = spec.dim
        shares = [(f + 1) / self.frames for f in range(self.frames)]
        strip = torch.stack([canvas.veiled(images, set_at < round(dim * share)) for share in shares], 1)
        heads = [f"{100 * share:.0f} %" for share in shares]
        halves = [strip] if n <= ROWS else [strip[: (n + 1) // 2], strip[(n + 1) // 2 :]]
        words = title(parts, f"samples after so much of {dim} coordinates")
        figure = canvas.blocks([canvas.Block(h.flatten(0, 1), self.frames, heads=heads) for h in halves], words, 64)
        film = []
        for step in range(self.steps + 1):
            known = round(dim * step / self.steps)
            block = canvas.Block(canvas.veiled(images, set_at < known), math.ceil(math.sqrt(n)))
            film.append(canvas.pixels(canvas.blocks([block], f"{known} of {dim} coordinates", 96)))
        return Drawn(figures={"": figure}, film=canvas.Film(film, pause=12))


@torch.no_grad()
def trace(
    model: Autoregressive, n: int, y: Tensor | None, seed: int, device: torch.device, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Samples z (n, *) in model space, and (n, D) the step at which each coordinate was set.

    A model may set coordinates in an order of its own, another one for each sample (masks of MADE). The order is read
    off by decoding, with the same first picks, sequences whose values spell the steps in digits.
    """
    noise, picks = RowNoise(stream(seed, Purpose.SAMPLING), torch.arange(n, device=device)), []

    def draw(conditional: Conditional) -> Tensor:
        picks.append(conditional.sample(noise, temperature))
        return picks[-1]

    z = model.decode(n, y, pick=draw)
    extra = len(picks) - model.spec.dim  # picks before the coordinates, such as that of a mask
    base = model.spec.support.levels
    times = torch.zeros(n, model.spec.dim, dtype=torch.long, device=device)
    unit = 1
    while unit < model.spec.dim:
        step = 0

        def spell(conditional: Conditional, unit: int = unit) -> Tensor:
            nonlocal step
            step += 1
            if step <= extra:
                return picks[step - 1]
            digit = (step - 1 - extra) // unit
            return torch.full((n,), digit % base if base else digit / model.spec.dim, device=device)

        spelt = model.decode(n, y, pick=spell).flatten(1)
        if base is None:
            return z, (spelt * model.spec.dim).round().long()
        times += spelt.long() * unit
        unit *= base
    return z, times
