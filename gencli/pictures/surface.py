"""The log-density of a model over the plane, by the estimator that gave the run its number.

Energies without a known Z are shown up to it, and say so. What only has a bound shows the bound, and says so too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Purpose, stream
from gencli.core.spec import Batch, Bound
from gencli.data.base import Dataset
from gencli.models.base import ExactLikelihood, LatentVariable, Unnormalized
from gencli.pictures.caption import record_of
from gencli.run.assembly import Parts
from gencli.run.nll import prepare
from gencli.run.reporter import Reporter
from gencli.run.scoring import Score, score_rows

SIDE, COARSE_SIDE = 200, 80
"""Points a side of the grid: where a point costs one pass, and where it costs a solve or hundreds of samples."""

CHUNK = 2000
"""Points scored at a time: between two of them a signal is obeyed."""

SHOWN = 5000
"""Data points in a cloud."""


@dataclass(frozen=True)
class Surface:
    """Values at the points of a grid.

    Args:
        log_p: (side, side) nats, rows from below; -E where Z is unknown.
        low: (2,) lower corner.
        high: (2,) upper corner.
        normalised: whether log_p is log p, or a bound on it or an estimate, and not only up to log Z.
        how: by what it was found, and what it is to log p; empty: exactly.
        kl: KL(data | model) where it is a sum over all examples that there are.
    """

    log_p: Tensor
    low: Tensor
    high: Tensor
    normalised: bool = True
    how: str = ""
    kl: float | None = None

    @property
    def mass(self) -> float:
        """The integral of p over the grid."""
        cell = (self.high - self.low).prod() / self.log_p.numel()
        return float(self.log_p.double().exp().sum() * cell)


def some_data(parts: Parts) -> Tensor:
    """Training examples (N, D) in data units, for a cloud."""
    split = parts.dataset.split("train")
    assert split is not None
    index = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:SHOWN]
    return split.gather(index).x.cpu().flatten(1)


def in_plane(dataset: Dataset, x: Tensor) -> Tensor | None:
    """Examples x (n, *) of data space as points (n, 2): what they stand for, or their two coordinates."""
    points = dataset.to_plane(x.cpu())
    if points is None and dataset.spec.dim == 2 and dataset.spec.alike:
        return x.cpu().flatten(1)
    return points


def frame(data: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corner (2,) of a picture of data (N, 2), with a margin."""
    data = data if data.is_floating_point() else data.double()
    low, high = data.min(0).values, data.max(0).values
    margin = torch.where(high > low, 0.1 * (high - low), 1.0)
    return low - margin, high + margin


def lacking(parts: Parts) -> str | None:
    """Why a model has no density over the plane, as the end of a sentence; None: it has one."""
    spec = parts.dataset.spec
    reals = spec.dim == 2 and spec.support.continuous
    if not reals and parts.dataset.from_plane(torch.zeros(1, 2)) is None:
        return f"data={parts.dataset.name} is not of two real columns"
    if parts.model.conditional:
        return "the model is conditional: it has a density for each y"
    if parts.preprocess.stochastic:
        return "the data are integers, which have no density"
    if not isinstance(parts.model, Unnormalized) and parts.estimator is None:
        return "this run has no estimator of its density"
    return None


def has_surface(parts: Parts) -> bool:
    """Whether the model has a density over the plane that costs about as much as a few thousand samples."""
    return lacking(parts) is None and isinstance(parts.model, Unnormalized | LatentVariable)


def surface_of(parts: Parts, low: Tensor, high: Tensor, side: int | None = None) -> Surface:
    """The density on a grid; of examples that stand for cells of the plane, that of the cell around each point.

    Args:
        parts: of the run; see ``lacking``.
        low: (2,) lower corner.
        high: (2,) upper corner.
        side: points a side; None: as many as its cost allows.

    Raises:
        UsageError: the estimator cannot measure it.
        RunFailed: a solve did not end.
    """
    side = side or (SIDE if isinstance(parts.model, Unnormalized) else COARSE_SIDE)
    points = grid_points(parts, low, high, side)
    rows = parts.dataset.from_plane(points)
    rows = points if rows is None else rows
    if isinstance(parts.model, Unnormalized):
        exact = normalised(parts)
        log_z = exact[0] if exact else _log_z(parts)
        log_p = log_density(parts, rows) - (log_z or 0.0)
        known = log_z is not None
        how = "" if exact or isinstance(parts.model, ExactLikelihood) or not known else "log Z is that of the record"
        return Surface(_square(log_p, side), low, high, known, how, exact[1] if exact else None)
    estimator = parts.estimator
    assert estimator is not None
    coarse = estimator.coarse()
    shared = prepare(parts, coarse, type(estimator).__name__.lower(), 0)
    with Reporter().progress("density", len(rows)) as bar:
        log_p = _by(parts, lambda batch, noise: coarse.nll(parts.model, batch, noise, shared), rows, bar.at)
    return Surface(_square(log_p, side), low, high, True, _words(shared.bound, type(estimator).__name__))


def _words(bound: Bound, name: str) -> str:
    """What log p by an estimator is; a bound on the NLL from above is one on log p from below."""
    kinds = {"exact": "", "upper": "a lower bound", "lower": "an upper bound", "estimate": "an estimate"}
    return f"{kinds[bound]} by {name}".strip()


def grid_points(parts: Parts, low: Tensor, high: Tensor, side: int) -> Tensor:
    """The middles (side^2, 2) of the cells of a grid, the second coordinate running fastest."""
    dtype = some_data(parts).dtype
    dtype = dtype if dtype.is_floating_point else torch.float64
    share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    each = [(low[k].double() + share * (high - low)[k].double()).to(dtype) for k in (0, 1)]
    return torch.cartesian_prod(*each)


def _square(values: Tensor, side: int) -> Tensor:
    return values.view(side, side).T


def log_density(parts: Parts, points: Tensor) -> Tensor:
    """Log p (B,) in nats, up to log Z, at examples (B, *) of data space, under an unconditional model."""
    model = parts.model
    assert isinstance(model, Unnormalized)
    return _by(parts, lambda batch, noise: model.energy(batch.x), points)


def _by(parts: Parts, score: Score, points: Tensor, tick: object = None) -> Tensor:
    """Scores of points; all have the same noise, so that what is drawn is smooth."""
    found, done = [], 0
    streams = [stream(0, Purpose.PICTURES)]
    for chunk in points.split(CHUNK if tick else 10_000):
        ids = torch.zeros(len(chunk), dtype=torch.long, device=parts.device)
        found.append(-score_rows(parts.preprocess, score, Batch(chunk.to(parts.device)), ids, streams).nll)
        done += len(chunk)
        if callable(tick):
            tick(done)
    return torch.cat(found)


def normalised(parts: Parts) -> tuple[float, float] | None:
    """log Z of an energy and KL(data | model), sums over all examples that there are; None where they are too many."""
    law = parts.dataset.law()
    if law is None:
        return None
    every, log_p = law
    log_q = log_density(parts, every)
    log_z = float(log_q.logsumexp(0))
    there = log_p.isfinite()
    return log_z, float((log_p.exp() * (log_p - log_q + log_z))[there].sum())


def _log_z(parts: Parts) -> float | None:
    """log Z of an energy: 0 of a density, else as the run's own record has it; None: nobody has measured it."""
    if isinstance(parts.model, ExactLikelihood):
        return 0.0
    found = (record_of(parts) or {}).get("diagnostics") or {}
    log_z = found.get("log_z")
    return None if log_z is None else float(log_z)


def truth_of(parts: Parts, low: Tensor, high: Tensor, side: int) -> Surface | None:
    """The density that the data were drawn from, on the same grid; None where it is not known."""
    log_p = parts.dataset.log_density(grid_points(parts, low, high, side))
    return None if log_p is None else Surface(_square(log_p, side), low, high)


def refuse_lacking(parts: Parts, picture: str) -> None:
    """Refuse a picture of a density where there is none.

    Raises:
        UsageError: says why.
    """
    if (why := lacking(parts)) is not None:
        raise UsageError(f"picture={picture} shows a density in the plane; {why}")
