"""Rows of data space that a user gives, checked and scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.integers import require_held
from gencli.core.noise import Noise
from gencli.core.spec import Batch, Support
from gencli.core.tensors import numbers
from gencli.data.split import storage_dtype
from gencli.estimators.base import Estimator
from gencli.models.base import ExactLikelihood, log_likelihood
from gencli.run import sampling
from gencli.run.assembly import Parts
from gencli.run.scoring import held_out_streams, score_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def checked_rows(parts: Parts, x: ArrayLike, y: ArrayLike | None, given: ArrayLike | None = None) -> Batch:
    """Rows of data space with what belongs to them.

    Args:
        parts: of the run.
        x: (B, *) in data units.
        y: (B,) labels or (B, *) contexts of a conditional model.
        given: (B,) number of leading symbols of each row that are not scored.

    Raises:
        UsageError: they are none of this data.
    """
    rows, spec = sampling.as_rows(parts.dataset, x), parts.dataset.spec
    if tuple(rows.shape[1:]) != spec.shape:
        raise UsageError(f"x has shape {tuple(rows.shape)}, this data {('B', *spec.shape)}")
    for values, support in [(rows[:, d], c) for d, c in enumerate(spec.support.columns)] or [(rows, spec.support)]:
        _refuse_values(values, support)
    if spec.support.levels:
        rows = rows.long().to(storage_dtype(spec.support))
    elif not rows.is_floating_point():
        require_held(rows.cpu().numpy(), "x")
        rows = rows.double()
    elif parts.preprocess.precise and rows.dtype != torch.float64:
        raise UsageError(f"x is {str(rows.dtype)[6:]}, which is too coarse for this data: give float64")
    if given is not None:
        if parts.dataset.per is None:
            raise UsageError("log_prob(x, given=...) needs data that is measured per symbol, such as text")
        given = numbers("given", given)
        if given.shape != rows.shape[:1] or given.is_floating_point():
            raise UsageError(f"log_prob(x, given=...): {given.numel()} for {len(rows)} rows, an integer each")
    if parts.model.conditional and y is None:
        raise UsageError("this model is conditional: log_prob(x, y) needs a label or context for each row of x")
    known = None if y is None else sampling.checked_context(parts, y, len(rows))
    return Batch(rows, known, given)


def log_prob(parts: Parts, batch: Batch, seed: int, ids: ArrayLike | None, batch_size: int) -> Tensor:
    """Log p(x given y) of rows of data space under a model with a density, (B,) nats; see ``Run.log_prob``.

    Raises:
        UsageError: ids are none.
    """
    model, rows = parts.model, torch.arange(len(batch.x))
    assert isinstance(model, ExactLikelihood)
    named = rows if ids is None else numbers("ids", ids).cpu()
    if named.shape != rows.shape or named.is_floating_point():
        raise UsageError(f"log_prob(x, ids=...): {named.numel()} ids for {len(rows)} rows, an integer each")

    def score(batch: Batch, noise: Noise) -> Tensor:
        return -log_likelihood(model, batch)

    streams = held_out_streams(seed, (parts.estimator or Estimator).draws)
    total = []
    for some in rows.split(batch_size):
        there = batch.rows(some).to(parts.device)
        total.append(-score_rows(parts.preprocess, score, there, named[some].to(parts.device), streams).nll)
    return torch.cat(total)


def _refuse_values(x: Tensor, support: Support) -> None:
    """Refuse coordinates that do not lie in their support."""
    there = x[~x.isnan()] if support.optional else x
    if support.levels:
        n = there.long()  # a byte cannot be compared with 256
        if not bool(((there == n) & (n >= 0) & (n < support.levels)).all()):
            raise UsageError(f"x is not in data units: integers 0..{support.levels - 1} ({support})")
