"""Estimators of Z = integral of exp(-E(x)): NLL(x) = E(x) + log Z, with one log Z for all rows.

By Jensen's inequality every unbiased estimate of Z has E[log Z^] <= log Z, so that the NLL comes out too low on
average: those estimators are called ``lower``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from gencli.core.errors import RunFailed
from gencli.core.noise import Noise
from gencli.core.options import Positive, Range
from gencli.core.spec import Batch
from gencli.core.tensors import ess, log_mean_exp
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.methods.bridge import Density
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, ModelFactory, Unnormalized
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class PartitionEstimator(Estimator[Unnormalized]):
    """E(x) + log Z^, where log Z^ is measured once; it stands in the record as ``log_z``, with its error."""

    continuous = True
    examples = 2048

    def check(self, model: Unnormalized, learned: Learned) -> None:
        if model.conditional:
            raise ValueError("estimator: Z depends on y; for a conditional density take estimator=exact")

    @abstractmethod
    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        """log Z^ as the state, and the variance of its error, with the help of examples x (N, *) in model space."""

    def prepare(self, model: Unnormalized, examples: Batch | None, noise: Noise) -> Shared:
        """Measure log Z; the state is log Z^.

        Raises:
            RunFailed: it is not finite.
        """
        assert examples is not None
        found = self.measure(model, examples.x, noise)
        log_z: float = found.state
        if not math.isfinite(log_z):
            raise RunFailed(f"log Z came out as {log_z}: an energy was not finite where the estimator looked")
        said = {"log_z": log_z, "log_z_se": found.variance**0.5, **found.diagnostics}
        return replace(found, diagnostics=said)

    def nll(self, model: Unnormalized, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        log_z: float = shared.state
        nll = model.energy(batch.x).double() + log_z
        return Estimate(nll, torch.zeros_like(nll))


def fitted(factory: ModelFactory | None, model: Unnormalized, x: Tensor, key: str) -> Density:
    """A density with samples, fitted to examples; without a factory the model's own reference.

    Raises:
        ValueError: it is no density, or the model has no reference.
    """
    density = model.reference() if factory is None else factory(model.spec).to(x)
    if density is None:
        raise ValueError(f"{key}=null: this model has no base of its own")
    if not isinstance(density, ExactLikelihood) or not isinstance(density, DirectSampling):
        raise ValueError(f"{key} needs a density that can be drawn from, such as a Reference")
    if factory is not None and isinstance(density, DataInitialized):
        density.initialize(x)
    return density.eval().requires_grad_(False)  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Importance(PartitionEstimator):
    """Z^ = 1/N sum_i exp(-E(x_i)) / q(x_i), x_i ~ q: unbiased, and good where q covers the model; see ``ess``.

    Args:
        proposal: builds q, fitted to examples and widened; None: the model's own base.
        samples: N.
    """

    proposal: ModelFactory | None = None
    samples: Annotated[int, Range(low=2)] = 100_000

    bound = "lower"

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        if self.proposal is None and model.reference() is None:
            raise ValueError("estimator.proposal=null: this model has no base of its own")

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        q = fitted(self.proposal, model, x, "estimator.proposal")
        parts = []
        with torch.no_grad():
            for start in range(0, self.samples, 10_000):
                drawn = q.sample(min(10_000, self.samples - start), noise=noise)
                parts.append((-model.energy(drawn) - q.log_prob(drawn)).double())
        log_w = torch.cat(parts)
        value, variance = log_mean_exp(log_w)
        return Shared(self.bound, float(value), float(variance), {"ess": float(ess(log_w))})


@dataclass(frozen=True, kw_only=True)
class Quadrature(PartitionEstimator):
    """Z by the midpoint rule in one or two dimensions, exact up to an error that is measured and reported.

    The box of the data, half as wide again on each side, is cut into cells that are halved until log Z moves by less
    than ``tolerance``. Around it come frames, each twice as large, until they add less than a thousandth of the
    tolerance. ``log_z_se`` is the last movement: no standard error, but what the grid leaves open.

    Args:
        tolerance: of log Z, in nats.
        points: most cells a side.

    Raises:
        RunFailed: in ``prepare``: mass grows without end around the data, so that the energy has no Z; or the finest
            grid leaves more than ten times the tolerance open.
    """

    tolerance: Positive = 1e-3
    points: Annotated[int, Range(low=256)] = 2048

    bound = "exact"
    FIRST: ClassVar[int] = 128  # cells a side of the first grid
    FRAME: ClassVar[int] = 128
    FRAMES: ClassVar[int] = 20
    CHUNK: ClassVar[int] = 16_384
    REFUSED: ClassVar[float] = 10  # tolerances that may be left open

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        if model.spec.dim > 2:
            raise ValueError(f"estimator=quadrature is for one or two dimensions; this model has {model.spec.dim}")

    @torch.no_grad()
    def mass(self, model: Unnormalized, centre: Tensor, half: Tensor, cells: int, hole: bool = False) -> float:
        """log of the integral over the box centre +- half; ``hole``: without its inner half."""
        unit = (2 * torch.arange(cells, dtype=torch.float64, device=centre.device) + 1) / cells - 1
        grid = torch.cartesian_prod(*[unit] * len(centre)).view(-1, len(centre))
        if hole:
            grid = grid[grid.abs().amax(1) > 0.5]
        like = next(model.parameters())
        energies = [
            model.energy((centre + half * some).to(like).view(-1, *model.spec.shape)).double()
            for some in grid.split(self.CHUNK)
        ]
        cell = (2 * half / cells).log().sum()
        return float((-torch.cat(energies)).logsumexp(0) + cell)

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        rows = x.flatten(1).double()
        low, high = rows.min(0).values, rows.max(0).values
        centre, half = (low + high) / 2, (0.75 * (high - low)).clamp(min=1e-6)
        core, error, cells = self._box(model, centre, half)
        log_z, error, outside, frames = self._frames(model, centre, half, core, error)
        if error > self.REFUSED * self.tolerance:
            raise RunFailed(
                f"log Z still moves by {error:.2g} nats on a grid of {cells} cells a side: raise estimator.points, or "
                "estimator.tolerance if that is exact enough"
            )
        said = {"grid_cells": float(cells), "mass_outside_box": outside, "frames": float(frames)}
        return Shared(self.bound, log_z, error**2, said)

    def _box(self, model: Unnormalized, centre: Tensor, half: Tensor) -> tuple[float, float, int]:
        """log of the mass in the box of the data, its last movement, and the cells a side."""
        cells = self.FIRST
        core, error = self.mass(model, centre, half, cells), math.inf
        while error > self.tolerance / 2 and 2 * cells <= self.points:
            cells *= 2
            finer = self.mass(model, centre, half, cells)
            core, error = finer, abs(finer - core)
        return core, error, cells

    def _frames(
        self, model: Unnormalized, centre: Tensor, half: Tensor, core: float, error: float
    ) -> tuple[float, float, float, int]:
        """log Z and its error with the frames around the box, their share of Z, and how many there are."""
        total, outside, last = torch.tensor(core, dtype=torch.float64), 0.0, math.inf
        share = math.nan
        for frame in range(1, self.FRAMES + 1):
            wide = half * 2**frame
            coarse = self.mass(model, centre, wide, self.FRAME, True)
            mass = self.mass(model, centre, wide, 2 * self.FRAME, True)
            total = torch.logaddexp(total, torch.tensor(mass, dtype=torch.float64))
            share = float((mass - total).exp())
            error += share * abs(mass - coarse)
            outside += share
            if share < 1e-3 * self.tolerance and mass < last:
                return float(total), error, outside, frame
            last = mass
        raise RunFailed(
            f"this energy has no Z that quadrature could find: boxes up to 2^{self.FRAMES} times the data's still "
            f"add {share:.1%}. It does not grow away from the data: take model.base=gaussian"
        )
