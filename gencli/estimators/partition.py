"""Estimators of Z = integral of exp(-E(x)): NLL(x) = E(x) + log Z, with one log Z for all rows.

By Jensen's inequality every unbiased estimate of Z has E[log Z^] <= log Z, so that the NLL comes out too low on
average: those estimators are called ``lower``.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from gencli.core.errors import RunFailed
from gencli.core.noise import Noise
from gencli.core.spec import Batch
from gencli.core.tensors import ess, log_mean_exp
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.methods.bridge import Density
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model, ModelFactory, Unnormalized
from gencli.models.trained import Learned


class PartitionEstimator(Estimator):
    """E(x) + log Z^, where log Z^ is measured once; it stands in the record as ``log_z``, with its error."""

    requires = (Unnormalized,)
    continuous = True
    examples = 2048

    def __init__(self, draws: int = 2) -> None:
        super().__init__(draws)
        self.log_z = float("nan")

    def check(self, model: Model, learned: Learned) -> None:
        if model.conditional:
            raise ValueError("estimator: Z depends on y; for a conditional density take estimator=exact")

    @abstractmethod
    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> tuple[float, float, dict[str, float]]:
        """log Z^, the variance of its error, and diagnostics, with the help of examples x (N, *) in model space."""

    def prepare(self, model: Model, examples: Batch | None, noise: Noise) -> Shared:
        assert isinstance(model, Unnormalized)
        assert examples is not None
        self.log_z, variance, diagnostics = self.measure(model, examples.x, noise)
        if not math.isfinite(self.log_z):
            raise RunFailed(f"log Z came out as {self.log_z}: an energy was not finite where the estimator looked")
        return Shared(variance, {"log_z": self.log_z, "log_z_se": variance**0.5, **diagnostics})

    def nll(self, model: Model, batch: Batch, noise: Noise) -> Estimate:
        assert isinstance(model, Unnormalized)
        nll = model.energy(batch.x).double() + self.log_z
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


class Importance(PartitionEstimator):
    """Z^ = 1/N sum_i exp(-E(x_i)) / q(x_i), x_i ~ q: unbiased, and good where q covers the model; see ``ess``.

    Args:
        proposal: builds q, fitted to examples and widened; None: the model's own base.
        samples: N.
        draws: of the dequantization.

    Raises:
        ValueError: fewer than 2 samples.
    """

    bound = "lower"

    def __init__(self, proposal: ModelFactory | None = None, samples: int = 100_000, draws: int = 2) -> None:
        super().__init__(draws)
        if samples < 2:
            raise ValueError(f"estimator.samples={samples}: at least 2")
        self.proposal, self.samples = proposal, samples

    def check(self, model: Model, learned: Learned) -> None:
        super().check(model, learned)
        assert isinstance(model, Unnormalized)
        if self.proposal is None and model.reference() is None:
            raise ValueError("estimator.proposal=null: this model has no base of its own")

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> tuple[float, float, dict[str, float]]:
        q = fitted(self.proposal, model, x, "estimator.proposal")
        parts = []
        with torch.no_grad():
            for start in range(0, self.samples, 10_000):
                drawn = q.sample(min(10_000, self.samples - start), noise=noise)
                parts.append((-model.energy(drawn) - q.log_prob(drawn)).double())
        log_w = torch.cat(parts)
        value, variance = log_mean_exp(log_w)
        return float(value), float(variance), {"ess": float(ess(log_w))}


class Quadrature(PartitionEstimator):
    """Z by the midpoint rule in one or two dimensions, exact up to an error that is measured and reported.

    The box of the data, half as wide again on each side, is cut into cells that are halved until log Z moves by less
    than ``tolerance``. Around it come frames, each twice as large, until they add less than a thousandth of the
    tolerance. ``log_z_se`` is the last movement: no standard error, but what the grid leaves open.

    Args:
        tolerance: of log Z, in nats.
        points: most cells a side.
        draws: of the dequantization.

    Raises:
        ValueError: an option out of range; the model has more than two dimensions.
        RunFailed: mass grows without end around the data: the energy has no Z; or the finest grid leaves more than ten
            times the tolerance open.
    """

    bound = "exact"
    FIRST, FRAME, FRAMES, CHUNK, REFUSED = 128, 128, 20, 16_384, 10

    def __init__(self, tolerance: float = 1e-3, points: int = 2048, draws: int = 2) -> None:
        super().__init__(draws)
        if tolerance <= 0:
            raise ValueError(f"estimator.tolerance={tolerance}: positive")
        if points < 2 * self.FIRST:
            raise ValueError(f"estimator.points={points}: at least {2 * self.FIRST}")
        self.tolerance, self.points = tolerance, points

    def check(self, model: Model, learned: Learned) -> None:
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

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> tuple[float, float, dict[str, float]]:
        rows = x.flatten(1).double()
        low, high = rows.min(0).values, rows.max(0).values
        centre, half = (low + high) / 2, (0.75 * (high - low)).clamp(min=1e-6)
        cells = self.FIRST
        core, error = self.mass(model, centre, half, cells), float("inf")
        while error > self.tolerance / 2 and 2 * cells <= self.points:
            cells *= 2
            finer = self.mass(model, centre, half, cells)
            core, error = finer, abs(finer - core)
        total, outside, last = torch.tensor(core, dtype=torch.float64), 0.0, float("inf")
        for frame in range(1, self.FRAMES + 1):
            wide = half * 2**frame
            coarse = self.mass(model, centre, wide, self.FRAME, True)
            mass = self.mass(model, centre, wide, 2 * self.FRAME, True)
            total = torch.logaddexp(total, torch.tensor(mass, dtype=torch.float64))
            share = float((mass - total).exp())
            error += share * abs(mass - coarse)
            outside += share
            if share < 1e-3 * self.tolerance and mass < last:
                break
            last = mass
        else:
            raise RunFailed(
                f"this energy has no Z that quadrature could find: boxes up to 2^{self.FRAMES} times the data's still "
                f"add {share:.1%}. It does not grow away from the data: take model.base=gaussian"
            )
        if error > self.REFUSED * self.tolerance:
            raise RunFailed(
                f"log Z still moves by {error:.2g} nats on a grid of {cells} cells a side: raise estimator.points, or "
                "estimator.tolerance if that is exact enough"
            )
        found = {"grid_cells": float(cells), "mass_outside_box": outside, "frames": float(frame)}
        return float(total), error**2, found
