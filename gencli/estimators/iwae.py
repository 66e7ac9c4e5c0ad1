"""Importance sampling: -log 1/k sum_i p(x, z_i) / q(z_i | x), an upper bound on the NLL that tightens with k."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gencli.core import tensors
from gencli.core.noise import Noise
from gencli.core.options import Auto, Count
from gencli.core.sizes import rounded
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Shared
from gencli.estimators.latent import LatentEstimator, log_z_of
from gencli.methods import weights
from gencli.models.base import LatentVariable

ACTIVE = 0.01
"""A unit is active if the variance of its code over the data exceeds this (Burda et al., 2016)."""

COARSE = 200
"""Samples of a point of a picture."""

USUAL, LEAST = 5000, 50
"""Samples where ``k`` is ``auto``, and how few they may become."""
WANTED = 1000
"""Rows that time should suffice for: with few rows the spread of the data is the larger error by far."""
TIMED = 16
"""Rows that are timed, with the least samples."""


@dataclass(frozen=True, kw_only=True)
class IWAE(LatentEstimator):
    """The k-sample importance-weighted bound, in nats; with log Z of a prior that is an energy see ``LatentEstimator``.

    Each row is encoded once and its samples are decoded in pieces, so that memory does not grow with k but for the k
    weights themselves; the pieces change no draw. The variance is that of log of a mean by the delta method,
    Var(w) / (k E[w]^2). Diagnostics: the samples that were used (``k``), their effective number (``ess``,
    (sum w)^2 / sum w^2), the shape of their tail (``pareto_k``, where k is 100 or more), whether the two say that the
    variance is too small (``collapsed``), the same bound with the first k/10 samples (``nll_tenth``: how far it has
    converged), the negative ELBO with all samples, its two parts ``distortion`` and ``rate``, and ``active_units``.

    Args:
        k: samples for each row; ``auto``: 5,000, and fewer where the measurement that training ends with would see
            fewer than 1,000 rows in its time.
        rows: samples decoded at a time, over all rows of a batch.

    References:
        Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016.
    """

    k: Auto[Count] = "auto"
    rows: Count = 2000
    _seconds: float | None = field(default=None, init=False, repr=False)

    examples = 2000

    def coarse(self) -> IWAE:
        return replace(self, k=COARSE if self.k == "auto" else min(self.k, COARSE))

    def within(self, seconds: float | None) -> IWAE:
        bounded = copy.copy(self)
        object.__setattr__(bounded, "_seconds", seconds if self.k == "auto" else None)
        return bounded

    def prepare(self, model: LatentVariable, examples: Batch | None, noise: Noise) -> Shared:
        assert examples is not None
        variance = model.encode(examples.x, examples.y).var(0)
        said = {"active_units": float((variance > ACTIVE).sum()), "latent_dim": len(variance)}
        prior = self.measure_prior(model, noise)
        prior = replace(prior, diagnostics={**said, **prior.diagnostics})
        if self.k != "auto":
            return prior
        k = self._fitting(model, examples, noise)
        fewer = (f"{k:,} of {USUAL:,} samples a row",) if k < USUAL else ()
        return replace(prior, settled={"k": k}, flags=fewer)

    def _fitting(self, model: LatentVariable, examples: Batch, noise: Noise) -> int:
        """Samples with which the wanted rows take half of the time: 1, 2 or 5 times a power of ten."""
        if self._seconds is None:
            return USUAL
        few = examples.rows(torch.arange(min(TIMED, len(examples.x)), device=examples.x.device))
        seconds = math.inf
        for _ in range(2):  # what comes first may take longer
            began = time.perf_counter()
            self.log_weights(model, few, noise, LEAST)
            seconds = min(seconds, time.perf_counter() - began)
        affordable = self._seconds / 2 / WANTED * len(few.x) * LEAST / seconds
        return USUAL if affordable >= USUAL else min(USUAL, max(LEAST, rounded(affordable)))

    def log_weights(self, model: LatentVariable, batch: Batch, noise: Noise, k: int) -> Tensor:
        """All k log weights of each row, (B, k) float64."""
        inferred = model.infer(batch.x, batch.y)
        piece = max(2, self.rows // len(batch.x) // 2 * 2)  # even: see LatentVariable.log_weights
        return torch.cat(
            [
                model.log_weights(batch.x, min(piece, k - done), batch.y, noise=noise, inferred=inferred).double()
                for done in range(0, k, piece)
            ],
            1,
        )

    def nll(self, model: LatentVariable, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        k = int(shared.settled.get("k", USUAL)) if self.k == "auto" else self.k
        log_w = self.log_weights(model, batch, noise, k)
        terms = model.elbo(batch.x, batch.y, noise=noise)
        ess, pareto_k = tensors.ess(log_w), weights.pareto_k(log_w)
        log_z, tenth = log_z_of(model, shared), max(1, k // 10)
        return Estimate(
            log_z + math.log(k) - log_w.logsumexp(1),
            ((k / ess - 1) / (k - 1)).clamp(min=0) if k > 1 else None,  # ess <= k, but for rounding
            {
                "k": torch.full_like(ess, k),
                "ess": ess,
                **({} if pareto_k.isnan().all() else {"pareto_k": pareto_k}),
                "collapsed": weights.collapsed(log_w, ess, pareto_k).double(),
                "nll_tenth": log_z + math.log(tenth) - log_w[:, :tenth].logsumexp(1),
                "negative_elbo": log_z - log_w.mean(1),
                "distortion": terms.distortion,
                "rate": terms.rate.sum(1) + log_z,
            },
        )
