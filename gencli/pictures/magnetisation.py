"""The order of a lattice of spins over the coupling K: chains beside what is known exactly."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from gencli.core import ising
from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, RowNoise, stream
from gencli.core.options import Positive, Range
from gencli.models.base import Unnormalized
from gencli.models.structure import Torus
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import title
from gencli.run.assembly import Parts
from gencli.samplers.base import Sampler

COLUMNS, ROWS, CURVE = 8, 6, 200


@dataclass(frozen=True, kw_only=True)
class Magnetisation(Picture):
    """Energy per site and |m| over K: means of n draws by the run's sampler, with two standard errors.

    Beside them the energy of the torus of this size (Kaufman) and the spontaneous magnetisation of the infinite lattice
    (Onsager and Yang), which a finite one rounds off. The model's own K is marked. ``-lattices.png`` shows draws, a row
    a coupling. Where points lie off the energy's curve the sampler has not come to equilibrium: near the critical
    coupling kernel@sampler.kernel=swendsen_wang does, and gibbs needs many steps.

    Args:
        low: the smallest coupling.
        high: the largest coupling.
        points: couplings between them, both included.

    Raises:
        ValueError: low is not below high.
    """

    requires = (Torus,)
    low: Positive = 0.2
    high: Positive = 0.7
    points: Annotated[int, Range(low=2)] = 11

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"picture.low={self.low} is not below picture.high={self.high}")

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        sampler, model = parts.sampler, copy.deepcopy(parts.model)
        assert isinstance(model, Torus)
        assert isinstance(model, Unnormalized)
        found = model.torus()
        if found is None or 1 in found[1:]:
            raise UsageError("picture=magnetisation is for a torus with model.couplings=shared and model.fields=none")
        if not isinstance(sampler, Sampler):
            raise UsageError("picture=magnetisation needs a sampler, such as sampler=chain")
        parameter, height, width = found
        own = float(parameter.detach())
        couplings = torch.linspace(self.low, self.high, self.points, dtype=torch.float64)
        energies, orders, lattices = [], [], []
        for i, K in enumerate(couplings.tolist()):
            with torch.no_grad():
                parameter.fill_(K)
            noise = RowNoise(stream(seed, Purpose.PICTURES, i), torch.arange(n, device=parts.device))
            x = sampler.sample(model, n, None, noise).x
            with torch.no_grad():
                energies.append(model.energy(x).double().cpu() / (K * height * width))
            orders.append((2 * x.double() - 1).flatten(1).mean(1).abs().cpu())
            lattices.append(x[:COLUMNS].cpu())
        figures = {"": self._curves(couplings, torch.stack(energies), torch.stack(orders), own, (height, width))}
        kept = torch.linspace(0, self.points - 1, min(ROWS, self.points)).long().tolist()
        images = torch.cat([lattices[i] for i in kept]).view(-1, 1, height, width)
        names = [f"K = {couplings[i]:.3f}" for i in kept]
        figures["-lattices"] = canvas.labelled(images, min(n, COLUMNS), rows=names, title="draws")
        figures[""].suptitle(title(parts), wrap=True)
        return Drawn(figures=figures)

    def _curves(self, K: Tensor, energies: Tensor, orders: Tensor, own: float, sides: tuple[int, int]) -> Any:
        """Both panels, of draws (points, n)."""
        figure, axes = canvas.figure(2, 10, 4)
        fine = torch.linspace(self.low, self.high, CURVE, dtype=torch.float64)
        exact = [ising.torus(k, *sides)[1] for k in fine.tolist()]
        axes[0].plot(fine, exact, color=style.ink(), linewidth=1, label=f"{sides[0]} x {sides[1]} torus, exact")
        axes[1].plot(fine, ising.magnetisation(fine), color=style.ink(), linewidth=1, label="infinite lattice, exact")
        for axis, values, name in zip(axes, (energies, orders), ("energy a site, in couplings", "|m|"), strict=True):
            error = 2 * values.std(1) / values.shape[1] ** 0.5 if values.shape[1] > 1 else None
            label = f"{values.shape[1]} draws, 2 s.e."
            axis.errorbar(K, values.mean(1), yerr=error, fmt="o", markersize=3, capsize=2, label=label)
            axis.axvline(ising.CRITICAL, color=style.ink(), linestyle=":", linewidth=0.8, label="critical")
            axis.axvline(own, color=style.MODEL, linewidth=0.8, label=f"model: K = {own:.4f}")
            axis.set_xlabel("K, nats")
            axis.set_ylabel(name)
            axis.set_xlim(min(self.low, own) - 0.02, max(self.high, own) + 0.02)
        axes[0].legend(fontsize=8)
        axes[1].legend(fontsize=8)
        return figure
