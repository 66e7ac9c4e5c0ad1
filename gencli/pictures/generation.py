"""Fix y, find x: what an energy of two things holds for likely in one of them, given the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gencli.core.errors import UsageError, quoted
from gencli.core.noise import Noise, Purpose, RowNoise, stream
from gencli.core.options import Count, Positive
from gencli.core.tensors import frozen
from gencli.models.base import Unnormalized
from gencli.models.structure import HiddenUnits, JointEnergy
from gencli.pictures import canvas
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.pictures.samples import of_samples
from gencli.run.assembly import Parts
from gencli.run.sampling import draw, held_out
from gencli.samplers.chain import MarkovChain

CLASSES = 10
"""Rows of classes at most."""
TRIES = 64
"""Starts of which a chain takes one that may be of its class."""


class OfClass(Unnormalized):
    """E(x, y) of a joint energy at a class y of each row, as an energy that is given y: chains draw p(x | y).

    Args:
        model: the joint energy, whose parameters these are.
    """

    def __init__(self, model: JointEnergy) -> None:
        super().__init__(model.spec)
        self.model = model

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        return self.model.joint(x).gather(1, y[:, None]).squeeze(1)

    def start(self, n: int, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        """Of ``TRIES`` starts of the model one for each row, drawn by what it says of their class, p(y | x).

        A chain does not walk from the mode of one class to that of another.
        """
        assert y is not None
        tries = torch.stack([self.model.start(n, noise=noise).to(y.device) for _ in range(TRIES)], 1)
        log_p = (-self.model.joint(tries.flatten(0, 1))).log_softmax(1).view(n, TRIES, -1)
        gumbel = -(-noise.rand(n, TRIES).to(log_p).log()).log()
        chosen = (log_p[torch.arange(n, device=y.device), :, y] + gumbel).argmax(1)
        return tries[torch.arange(n, device=y.device), chosen]


def descended(model: Unnormalized, x: Tensor, y: Tensor, steps: int, rate: float) -> Tensor:
    """Near a minimum of E(., y) from x (n, *), by steps of Adam, in which rows have no part in each other."""
    x = x.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            model.energy(x, y).sum().backward()
            optimizer.step()
            schedule.step()
    return x.detach()


@dataclass(frozen=True, kw_only=True)
class Generation(Picture):
    """Examples x for a given y, a row a class: draws of p(x | y), or minima of E(., y).

    ``chain``: chains of the run's sampler on E(x, y), from starts of the model that may be of the class; a model of
    p(x | y) with its sampler.
    ``minimum``: from the same starts down the energy by Adam, in the space of the model: likeliest x there, no samples.
    Of an energy E(x, h) with hidden bits, as an RBM's, each row has the h of a held-out example, drawn from p(h | x),
    and shows draws of p(x | h), or its minimum.

    Args:
        by: ``chain`` or ``minimum``.
        each: examples a row.
        steps: of the descent.
        rate: of its Adam, which falls to 0.
    """

    requires = (Unnormalized,)
    by: Literal["chain", "minimum"] = "chain"
    each: Count = 8
    steps: Count = 300
    rate: Positive = 0.05

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        model, spec = parts.view, parts.dataset.spec
        assert isinstance(model, Unnormalized)
        if isinstance(model, HiddenUnits):
            return self._from_hidden(parts, model, n, seed)
        if not isinstance(model, JointEnergy) and not (model.conditional and spec.classes):
            raise UsageError(
                "picture=generation fixes y or h: it needs a model of x and its class, as model=joint_ebm, or of "
                "p(x given class), or one with hidden bits, as model=rbm"
            )
        assert spec.classes
        rows = min(spec.classes, CLASSES)
        y = torch.arange(rows, device=parts.device).repeat_interleave(self.each)
        x = self._found(parts, model, y, seed).cpu()
        images = parts.dataset.to_image(x)
        if images is None:
            return Drawn(figures={"": of_samples(parts, x, y.cpu())})
        called = parts.dataset.class_names()
        names = [quoted(called[k], 12) if called else str(k) for k in range(rows)]
        what = "draws of p(x | y)" if self.by == "chain" else "minima of E(x, y), which are no samples"
        return Drawn(figures={"": canvas.labelled(images, self.each, rows=names, title=title(parts, what))})

    def _found(self, parts: Parts, model: Unnormalized, y: Tensor, seed: int) -> Tensor:
        """x (n, *) in data units for classes y (n,)."""
        chain = self.by == "chain"
        if chain and not isinstance(model, JointEnergy):
            return draw(parts, len(y), seed, y).x
        noise = RowNoise(stream(seed, Purpose.PICTURES), torch.arange(len(y), device=parts.device))
        energy = OfClass(model) if isinstance(model, JointEnergy) else model
        sampler = parts.sampler
        if chain:
            if not isinstance(sampler, MarkovChain):
                raise UsageError("picture=generation needs a sampler that is a chain, such as sampler=mala")
            x = sampler.run(energy, sampler.first(energy, len(y), y, noise), y, noise).x
        else:
            if energy.spec.support.discrete:
                raise UsageError(f"picture.by=minimum needs real x; this model's x is {energy.spec.support}")
            with torch.no_grad():
                x = energy.start(len(y), y, noise=noise)
            x = descended(energy, x, y, self.steps, self.rate)
        return parts.preprocess.inverse(x)

    @torch.no_grad()
    def _from_hidden(self, parts: Parts, model: HiddenUnits, n: int, seed: int) -> Drawn:
        split = held_out(parts)
        rows = torch.arange(min(n, CLASSES, len(split)))
        x, noise = (
            split.gather(rows).x.to(parts.device),
            RowNoise(stream(seed, Purpose.PICTURES), rows.to(parts.device)),
        )
        z, _ = parts.preprocess(x, noise)
        p = model.hidden(z)
        h = (noise.rand(*p.shape).to(p) < p).to(p)
        if self.by == "chain":
            found = [model.draw_visible(h, noise) for _ in range(self.each)]
            heads, what = ["x", *map(str, range(1, self.each + 1))], "x, and draws of p(x | h) with h of p(h | x)"
        else:
            mean = model.visible(h)
            found = [mean.round() if model.spec.support.discrete else mean]
            heads, what = ["x", "min"], "x, and the minimum of E(x, h) over x with h of p(h | x)"
        shown = torch.stack([x.float(), *(parts.preprocess.inverse(one).float() for one in found)], 1).cpu()
        images = parts.dataset.to_image(shown.flatten(0, 1))
        if images is None:
            raise UsageError(f"picture=generation of hidden bits shows images; data={parts.dataset.name} has none")
        return Drawn(figures={"": canvas.labelled(images, len(heads), heads=heads, title=title(parts, what))})
