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
from gencli.core.spec import Batch, Bound
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.methods import cubature, integral
from gencli.methods.annealing import Density
from gencli.methods.weights import weighed
from gencli.models.base import DataInitialized, DirectSampling, ExactLikelihood, Model, ModelFactory, Unnormalized
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
    density = _built(factory, model, key).to(x if x.is_floating_point() else x.device)
    if factory is not None and isinstance(density, DataInitialized):
        density.initialize(x)
    return density.eval().requires_grad_(False)  # type: ignore[return-value]


def check_density(factory: ModelFactory | None, model: Unnormalized, key: str) -> None:
    """Refuse before anything is trained what ``fitted`` would refuse after it.

    Raises:
        ValueError: as ``fitted``, or the factory's own.
    """
    with torch.random.fork_rng(devices=[]):  # what is built here is thrown away
        _built(factory, model, key)


def _built(factory: ModelFactory | None, model: Unnormalized, key: str) -> Model:
    density = model.reference() if factory is None else factory(model.spec)
    if density is None:
        raise ValueError(f"{key}=null: this model has no base of its own")
    if not isinstance(density, ExactLikelihood) or not isinstance(density, DirectSampling):
        raise ValueError(f"{key} needs a density that can be drawn from, such as a Reference")
    return density


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
        check_density(self.proposal, model, "estimator.proposal")

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
    CHUNK: ClassVar[int] = 16_384

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
        f, finest = self.log_density(model, x), 8 * torch.finfo(x.dtype).eps
        try:
            found = integral.log_integral(f, known, noise, self.tolerance, self.points, finest)
        except ArithmeticError as failed:
            raise RunFailed(str(failed)) from failed
        error = max(found.error, abs(found.value) if isinstance(model, ExactLikelihood) else 0.0)
        bound: Bound = "exact" if error <= self.tolerance else "estimate"
        return Shared(bound, found.value, error**2, diagnostics=found.diagnostics)
