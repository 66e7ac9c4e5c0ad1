"""Chains on an energy: the paths they take in the plane, and the energy as they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Count, Range
from gencli.models.base import Unnormalized
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title as title_of
from gencli.pictures.plane import draw_log, in_frame, names_of
from gencli.pictures.surface import frame, has_surface, in_plane, some_data, surface_of
from gencli.run.assembly import Parts
from gencli.samplers.chain import MarkovChain


@dataclass(frozen=True, kw_only=True)
class Chains(Picture):
    """Traces of E along n chains of the run's sampler, over its recorded steps, with the energies of data beside them.

    In two dimensions it also shows the energy surface and the paths of ``paths`` chains; of images, a grid in which
    each row is one chain at evenly spaced steps.

    Args:
        paths: chains of which the path is drawn.
        frames: steps that a row of images shows.
    """

    requires = (Unnormalized,)
    example_keys = "sampler=hmc"
    paths: Count = 8
    frames: Annotated[int, Range(low=2)] = 10

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        sampler, model = parts.sampler, parts.model
        assert isinstance(model, Unnormalized)
        if not isinstance(sampler, MarkovChain):
            raise UsageError("picture=chains needs a sampler that is a chain, such as sampler=hmc")
        if model.conditional:
            raise UsageError("picture=chains is for models without y")
        noise = RowNoise(stream(seed, Purpose.SAMPLING), torch.arange(n, device=parts.device))
        energies: list[Tensor] = []
        walked: list[Tensor] = []

        def visit(x: Tensor, e: Tensor) -> None:
            energies.append(e.cpu())
            walked.append(x[: self.paths].detach())

        said = sampler.run(model, sampler.first(model, n, None, noise), None, noise, visit).diagnostics
        figures = {"": self._traces(parts, model, torch.stack(energies, 1), walked, said)}
        steps = torch.linspace(0, len(walked) - 1, min(self.frames, len(walked))).long().tolist()
        x = torch.stack([walked[i] for i in steps], 1)  # (paths, frames, *)
        images = parts.dataset.to_image(parts.preprocess.inverse(x.flatten(0, 1)).cpu())
        if images is not None:
            heads = [str(i + 1) for i in steps]
            title = "chains from left to right, at recorded steps"
            figures["-images"] = canvas.labelled(images, len(steps), heads=heads, title=title)
        return Drawn(figures=figures)

    @torch.no_grad()
    def _traces(
        self, parts: Parts, model: Unnormalized, energies: Tensor, walked: list[Tensor], said: dict[str, float]
    ) -> Any:
        surface = has_surface(parts)
        figure, axes = canvas.figure(2 if surface else 1, 11 if surface else 6, 4.5)
        trace = axes[-1]
        trace.plot(energies[:20].T.numpy(), linewidth=0.6, alpha=0.7)
        split = parts.dataset.split("val") or parts.dataset.split("train")
        assert split is not None
        ids = torch.arange(min(500, len(split)))
        z, _ = parts.preprocess(
            split.gather(ids).x.to(parts.device), RowNoise(stream(0, Purpose.PICTURES), ids.to(parts.device))
        )
        of_data = model.energy(z).cpu()
        low, middle, high = torch.quantile(of_data.double(), torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
        trace.axhspan(low, high, color=style.ink(), alpha=0.1, linewidth=0, label="data, 5 to 95 %")
        trace.axhline(middle, color=style.ink(), linewidth=0.8)
        trace.set_xlabel("recorded step")
        trace.set_ylabel("E(x), nats")
        trace.legend(loc="upper right")
        told = (f"{key.replace('_', ' ')} {value:.3g}" for key, value in said.items())
        trace.set_title(", ".join(told), fontsize=8)
        if surface:
            data = in_plane(parts.dataset, some_data(parts))
            assert data is not None
            low_corner, high_corner = frame(data)
            draw_log(figure, axes[0], surface_of(parts, low_corner, high_corner))
            points = [in_plane(parts.dataset, parts.preprocess.inverse(x)) for x in walked]
            for path in torch.stack([cloud for cloud in points if cloud is not None], 1):
                axes[0].plot(path[:, 0], path[:, 1], linewidth=0.6, color=style.MODEL)
                axes[0].plot(path[-1:, 0], path[-1:, 1], "o", markersize=4, color="white", markeredgecolor=style.MODEL)
            in_frame(axes[0], low_corner, high_corner, names_of(parts))
        figure.suptitle(title_of(parts), wrap=True)
        return figure
