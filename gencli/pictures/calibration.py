"""Whether held-out data look like samples of the model, by ranks.

If x comes from the model, the rank of a statistic T(x) among those of independent samples is uniform, whatever T is:
the probability integral transform, with the model's distribution of T known by its samples. T = log p(x) asks whether
data are as likely as samples are, T = x_d whether the marginal of a column is right. Ties are broken at random. With N
examples and S samples the largest difference between the two distribution functions is below
1.358 sqrt(1/N + 1/S) with probability 0.95 (Kolmogorov and Smirnov), if data come from the model.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from gencli.core.errors import UsageError
from gencli.core.noise import Noise, Purpose, RowNoise, stream
from gencli.core.options import Range
from gencli.core.spec import Batch
from gencli.models.base import Unnormalized
from gencli.pictures import canvas, style
from gencli.pictures.base import Drawn, Picture
from gencli.pictures.caption import columns_of, title
from gencli.run.assembly import Parts
from gencli.run.nll import prepare
from gencli.run.reporter import Reporter
from gencli.run.sampling import draw, held_out
from gencli.run.scoring import Score, score_rows

KS_95 = 1.358
"""The 0.95 quantile of the Kolmogorov distribution."""

COLUMNS, CHUNK = 6, 500
"""Columns whose ranks are drawn; rows scored at a time."""


@dataclass(frozen=True, kw_only=True)
class Calibration(Picture):
    """Ranks of held-out examples among samples of the run's sampler: of log p(x), and of the columns of a table.

    At the left a histogram of the ranks of log p, with the band that 95 of 100 bars lie in if data come from the model;
    at the right the differences of distribution functions, with the band that a whole line lies in 95 times of 100.
    Many low ranks: data are less likely than what the model draws, as where it is overfitted or too narrow; many high
    ranks: it is too wide. Only bounded or estimated, log p stands for itself on both sides alike. A conditional model
    draws for the y of the examples. ``.npz`` holds the ranks.

    Args:
        samples: S.
        examples: N at most, of the test split.
        bins: of the histogram.
    """

    samples: Annotated[int, Range(low=20)] = 1000
    examples: Annotated[int, Range(low=20)] = 1000
    bins: Annotated[int, Range(low=2)] = 20

    def make(self, parts: Parts, n: int, seed: int) -> Drawn:
        if parts.dataset.per is not None or parts.dataset.spec.graph is not None:
            raise UsageError(f"picture=calibration needs independent examples; data={parts.dataset.name} has none")
        if not isinstance(parts.model, Unnormalized) and parts.estimator is None:
            raise UsageError("picture=calibration needs a model with an NLL; this run has none (estimator=null)")
        if parts.sampler is None or parts.sampler.given is not None:
            raise UsageError("picture=calibration needs a sampler of whole examples")
        split = held_out(parts)
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
        real = split.gather(order[: self.examples])
        drawn = self._drawn(parts, real, seed)
        own, others = _log_p(parts, real, seed), _log_p(parts, drawn, seed + 1)
        random = RowNoise(stream(seed, Purpose.PICTURES), torch.arange(len(real.x)))
        ranks = {"log p(x)": ranks_of(own, others, random)}
        if parts.dataset.spec.kind == "vector":
            x, y = real.x.cpu().flatten(1), drawn.x.cpu().flatten(1)
            for k, name in enumerate(columns_of(parts)[:COLUMNS]):
                ranks[name] = ranks_of(x[:, k], y[:, k], random)
        figure = self._figure(ranks, len(drawn.x))
        figure.suptitle(title(parts), wrap=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{key: u.numpy() for key, u in ranks.items()})  # type: ignore[arg-type]
        return Drawn({".npz": buffer.getvalue()}, _said(ranks, len(drawn.x)), figures={"": figure})

    def _drawn(self, parts: Parts, real: Batch, seed: int) -> Batch:
        """Samples, of a conditional model for the y of examples in turn."""
        y = None
        if parts.model.conditional:
            assert real.y is not None
            y = real.y[torch.arange(self.samples) % len(real.y)]
        with Reporter().progress("samples", self.samples) as bar:
            return Batch(draw(parts, self.samples, seed, y, tick=bar.at).x.cpu(), y)

    def _figure(self, ranks: dict[str, Tensor], samples: int) -> Any:
        figure, (left, right) = canvas.figure(2, 10, 4.4)
        first = ranks["log p(x)"]
        n, share = len(first), 1 / self.bins
        error = math.sqrt(share * (1 - share) * (1 / n + 1 / samples)) / share
        low, high = max(0.0, 1 - 1.96 * error), 1 + 1.96 * error
        left.axhspan(low, high, color=style.faint(), linewidth=0, label="95 % of bars, if right")
        left.axhline(1.0, color=style.ink(), linewidth=0.8)
        left.hist(first.numpy(), bins=self.bins, range=(0, 1), density=True, color=style.DATA, alpha=0.8)
        left.set_xlim(0, 1)
        left.set_ylim(bottom=0)
        left.set_xlabel(f"rank of log p(x) of {n} held-out examples among {samples} samples")
        left.set_ylabel("density")
        left.legend(loc="lower center")
        band = KS_95 * math.sqrt(1 / n + 1 / samples)
        right.axhspan(-band, band, color=style.faint(), linewidth=0, label="95 % of lines, if right")
        right.axhline(0.0, color=style.ink(), linewidth=0.8)
        for name, u in ranks.items():
            at, gap = differences(u)
            right.plot(
                at, gap, linewidth=1.8 if name == "log p(x)" else 1.0, label=f"{name}: {float(gap.abs().max()):.3f}"
            )
        right.set_xlim(0, 1)
        right.set_xlabel("rank u")
        right.set_ylabel("share of held-out ranks below u, minus u")
        right.legend(title="largest difference", loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _said(ranks: dict[str, Tensor], samples: int) -> str:
    """A line for the terminal."""
    n = len(ranks["log p(x)"])
    largest = ", ".join(f"{name} {float(differences(u)[1].abs().max()):.3f}" for name, u in ranks.items())
    band = KS_95 * math.sqrt(1 / n + 1 / samples)
    return f"largest difference from uniform ranks: {largest}; of a right model below {band:.3f} in 95 of 100 cases"


def ranks_of(real: Tensor, drawn: Tensor, noise: Noise) -> Tensor:
    """Ranks (N,) in [0, 1] of values among others (S,), ties at random; missing values come first.

    (number below + a uniform share of (number equal + 1)) / (S + 1), uniform if all are of one distribution.
    """
    real, ordered = (values.double().nan_to_num(nan=-math.inf) for values in (real, drawn))
    ordered = ordered.sort().values
    below = torch.searchsorted(ordered, real, side="left")
    equal = torch.searchsorted(ordered, real, side="right") - below
    share = noise.rand(len(real), 1)[:, 0].double()
    return (below + share * (equal + 1)) / (len(drawn) + 1)


def differences(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Where the distribution function of ranks jumps, from below and above, and how far it lies from uniform there.

    Both begin at 0 and end at 1, where all distribution functions agree.
    """
    n, at = len(ranks), ranks.sort().values
    below = torch.arange(n, dtype=torch.float64) / n - at
    gaps = torch.stack([below, below + 1 / n], 1).flatten()
    return torch.nn.functional.pad(at.repeat_interleave(2), (1, 1)).index_fill(0, torch.tensor([2 * n + 1]), 1.0), (
        torch.nn.functional.pad(gaps, (1, 1))
    )


@torch.no_grad()
def _log_p(parts: Parts, batch: Batch, seed: int) -> Tensor:
    """log p (B,) in data space, up to a constant that all rows share."""
    score = _score(parts)
    found = []
    with Reporter().progress("log p", len(batch.x)) as bar:
        for ids in torch.arange(len(batch.x)).split(CHUNK):
            rows = batch.rows(ids).to(parts.device)
            streams = [stream(seed, Purpose.PICTURES)]
            found.append(-score_rows(parts.preprocess, score, rows, ids.to(parts.device), streams).nll)
            bar.at(int(ids[-1]) + 1)
    return torch.cat(found)


def _score(parts: Parts) -> Score:
    """E of an energy, whose log Z all rows share, else what the run's own estimator says."""
    model, estimator = parts.model, parts.estimator
    if isinstance(model, Unnormalized):
        energy = model.energy
        return lambda batch, noise: energy(batch.x, batch.y)
    assert estimator is not None
    coarse = estimator.coarse()
    shared = prepare(parts, coarse, type(coarse).__name__.lower(), 0)
    return lambda batch, noise: coarse.nll(model, batch, noise, shared)
