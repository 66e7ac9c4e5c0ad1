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
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.methods import cubature
from gencli.methods.annealing import Density
from gencli.methods.weights import weighed
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, ModelFactory, Unnormalized
from gencli.models.trained import Learned


@dataclass(frozen=True, kw_only=True)
class PartitionEstimator(Estimator[Unnormalized]):
    """E(x) + log Z^, where log Z^ is measured once; it stands in the record as ``log_z``, with its error."""

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
    density = model.reference() if factory is None else factory(model.spec).to(x if x.is_floating_point() else x.device)
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
        found = weighed(torch.cat(parts))
        return Shared(self.bound, found.log_mean, found.variance, found.collapsed, found.diagnostics)


@dataclass(frozen=True, kw_only=True)
class Quadrature(PartitionEstimator):
    """Z in one or two dimensions by cells that are halved where log Z still moves, ``exact`` if it is found to be.

    Cells start in the box of the examples and of samples of the model, half as wide again on each side, and from those
    points and draws around them: however narrow a part is that they lie in, some cell begins at its scale. Around the
    box come frames, each twice as large, until they add less than a thousandth of the tolerance. What ``log_z_se`` says
    is no standard error, but the largest of three: what cells and frames leave open; how far ``log_z_check``, the
    importance estimate from the draws, is off beyond its own error; of a density, whose log Z is 0, the number itself.
    The result is ``exact`` if that is at most the tolerance, else an ``estimate``. A part that is narrower than the
    first cells and that holds no example and no sample is not seen.

    Args:
        tolerance: of log Z, in nats.
        points: cells are halved until the energy was asked for at as many points as a square grid of this side has.

    Raises:
        RunFailed: in ``prepare``: mass grows without end around the data, so that the energy has no Z; or the cells
            leave more than a nat open.
    """

    tolerance: Positive = 1e-3
    points: Annotated[int, Range(low=256)] = 2048

    continuous = True
    bound = "exact"
    DRAWN: ClassVar[int] = 512  # samples of the model
    AROUND: ClassVar[int] = 2048  # draws of the check
    FRAMES: ClassVar[int] = 60
    CHUNK: ClassVar[int] = 16_384
    REFUSED: ClassVar[float] = 1.0  # nats that may be left open
    DISAGREES: ClassVar[float] = 5.0  # standard errors of the check

    def check(self, model: Unnormalized, learned: Learned) -> None:
        super().check(model, learned)
        if model.spec.dim > 2:
            raise ValueError(f"estimator=quadrature is for one or two dimensions; this model has {model.spec.dim}")

    def log_density(self, model: Unnormalized, like: Tensor) -> cubature.LogDensity:
        """-E of points (n, D), asked in the precision and on the device of ``like``."""

        @torch.no_grad()
        def f(x: Tensor) -> Tensor:
            some = [model.energy(part.to(like).view(-1, *model.spec.shape)) for part in x.split(self.CHUNK)]
            return -torch.cat(some).cpu().double()

        return f

    def measure(self, model: Unnormalized, x: Tensor, noise: Noise) -> Shared:
        with torch.no_grad():
            drawn = (model.sample if isinstance(model, DirectSampling) else model.start)(self.DRAWN, noise=noise)
        known = torch.cat([x, drawn]).flatten(1).cpu().double().unique(dim=0)
        low, high = known.amin(0), known.amax(0)
        centre, half = (low + high) / 2, (0.75 * (high - low)).clamp(min=1e-6)
        near, log_q = cubature.around(known, noise, self.AROUND)
        mesh = cubature.Mesh(self.log_density(model, x), torch.cat([known, near]), 8 * torch.finfo(x.dtype).eps)
        check = weighed(mesh.heights[len(known) :] - log_q)
        cells = (32 if len(half) == 1 else 4) * (self.points // 256)  # a side, for the first look
        core = mesh.add(*cubature.grid(centre, half, cells))
        frames, tail = self._frames(mesh, centre, half, core, cells)
        mesh.refine(self.tolerance / 2, self.points**2)
        log_z, left = float(mesh.log_mass), mesh.error + tail
        if left > self.REFUSED:
            spent = mesh.evaluations > 0.9 * self.points**2
            way = "raise estimator.points" if spent else "parts are finer than the precision of the energy resolves"
            raise RunFailed(f"log Z still moves by {left:.2g} nats after {mesh.evaluations:,} evaluations: {way}")
        away = 0.0 if check.collapsed else abs(check.log_mean - log_z) - self.DISAGREES * check.variance**0.5
        error = max(left, away, abs(log_z) if isinstance(model, ExactLikelihood) else 0.0)
        inside = ((mesh.centre - centre).abs() <= half).all(1)
        said = {
            "cells": float(len(mesh.centre)),
            "evaluations": float(mesh.evaluations),
            "mass_outside_box": float((mesh.halves[~inside].flatten().logsumexp(0) - mesh.log_mass).exp()),
            "frames": float(frames),
            "log_z_check": check.log_mean,
            "log_z_check_se": math.inf if check.collapsed else check.variance**0.5,
        }
        return Shared("exact" if error <= self.tolerance else "estimate", log_z, error**2, diagnostics=said)

    def _frames(self, mesh: cubature.Mesh, centre: Tensor, half: Tensor, core: Tensor, cells: int) -> tuple[int, float]:
        """Lay frames around the box; how many, and the share of Z that lies beyond them if it goes on falling so."""
        total, last, share = core, math.inf, math.nan
        for frame in range(1, self.FRAMES + 1):
            places, sizes = cubature.grid(centre, half * 2**frame, cells)
            outer = ((places - centre).abs() > half * 2 ** (frame - 1)).any(1)
            mass = mesh.add(places[outer], sizes[outer])
            total = torch.logaddexp(total, mass)
            share = float((mass - total).exp())
            if share < 1e-3 * self.tolerance and mass < last:
                ratio = float((mass - last).exp()) if math.isfinite(last) else 0.5
                return frame, share * ratio / (1 - ratio)
            if frame > 20 and not mass < last:
                break
            last = float(mass)
        raise RunFailed(
            f"this energy has no Z that quadrature could find: boxes up to 2^{frame} times the data's still "
            f"add {share:.1%}. It does not grow away from the data: take model.base=gaussian"
        )
