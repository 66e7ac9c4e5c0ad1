"""Parzen window: the density of samples blurred by a normal kernel. A poor stand-in for a model's own density.

    log p(x | y) ~ logmeanexp_i [ log N(x; s_i, h^2 I) ],    s_i ~ model(y)

It is neither the model's NLL nor a bound of it: it is far off in more than a few dimensions however many samples are
drawn, and may rank models wrongly ("A note on the evaluation of generative models", Theis, van den Oord and Bethge,
2016). It is here because the first adversarial papers report it, and because it is right in one or two dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count, Range
from gencli.core.spec import Batch
from gencli.estimators.base import Estimate, Estimator, Shared
from gencli.models.base import DirectSampling
from gencli.models.trained import Learned

CHUNK = 1000
"""Samples drawn at a time."""

STEPS = (4.0, 1.4, 1.1, 1.03)
"""Ratios of neighbours in the four grids of nine bandwidths, each about the best of the one before."""


@dataclass(frozen=True)
class Window:
    """Samples and the width of their kernels.

    Args:
        samples: (n, D) of the model.
        y: (n,) classes that they were drawn of; None: an unconditional model.
        bandwidth: h.
    """

    samples: Tensor
    y: Tensor | None = None
    bandwidth: float = math.nan

    def squares(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """|x - s_i|^2 of rows and samples (B, n), infinite for another class, and how many are finite (B,)."""
        squares = torch.cdist(batch.x.flatten(1), self.samples, compute_mode="donot_use_mm_for_euclid_dist").square_()
        if self.y is not None:
            assert batch.y is not None
            squares.masked_fill_(batch.y[:, None] != self.y, math.inf)
        return squares, squares.isfinite().sum(1)

    def log_p(self, squares: Tensor, n: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """log p of each row at bandwidth h, (B,) nats, and the effective number of samples that it rests on."""
        D = self.samples.shape[1]
        nearest = squares.amin(1)
        kernels = (squares - nearest[:, None]).mul_(-0.5 / (h * h)).exp_()
        total = kernels.sum(1)
        log_p = total.log() - n.log() - 0.5 * (nearest / (h * h) + D * math.log(2 * math.pi * h * h))
        return log_p, total.square() / kernels.square_().sum(1)


@dataclass(frozen=True, kw_only=True)
class Parzen(Estimator[DirectSampling]):
    """Gaussian kernels on samples of the model; their width is the best of a grid on validation rows.

    Of a class-conditional model the samples are dealt to the classes in turn, and a row is compared with its own class.
    The record's ``se_estimator`` holds the error due to the finite number of samples, measured on the validation rows.

    Args:
        n: number of samples.
        rows: validation rows on which the bandwidth is chosen.
    """

    n: Annotated[int, Range(low=2)] = 10_000
    rows: Count = 500

    bound = "estimate"

    @property
    def examples(self) -> int:  # type: ignore[override]
        return self.rows

    def check(self, model: DirectSampling, learned: Learned) -> None:
        if model.spec.support.kind != "real":
            raise ValueError(f"estimator=parzen needs a model of reals; this one models {model.spec.support}")
        if model.conditional and not model.spec.classes:
            raise ValueError("estimator=parzen: under a vector context no two rows share samples")
        if model.conditional and model.spec.classes and self.n < 2 * model.spec.classes:
            raise ValueError(f"estimator.n={self.n}: at least 2 for each of the {model.spec.classes} classes")

    def prepare(self, model: DirectSampling, examples: Batch | None, noise: Noise) -> Shared:
        """Draw the samples and choose h; the state is a ``Window``."""
        assert examples is not None
        device = examples.x.device
        classes = model.spec.classes if model.conditional else None
        y = torch.arange(self.n, device=device) % classes if classes else None
        with torch.no_grad():
            parts = [
                model.sample(len(i), None if y is None else y[i], noise=noise)
                for i in torch.arange(self.n, device=device).split(CHUNK)
            ]
        window = Window(torch.cat(parts).flatten(1).to(examples.x), y)

        squares, n = window.squares(examples)
        h = float(window.samples.std(0).square().mean().sqrt()) or 1.0
        for step in STEPS:
            widths = [h * step**k for k in range(-4, 5)]
            h = max(widths, key=lambda width: float(window.log_p(squares, n, width)[0].mean()))

        # Every sample serves all rows, so their errors do not average out: with w_i the share of sample i in a row's
        # sum, the mean over rows of logmeanexp has the variance sum_i (mean w_i)^2 - 1/n to first order.
        share = (-squares / (2 * h * h)).softmax(1).mean(0)
        variance = float((share.square().sum() - 1 / self.n).clamp(min=0))
        return Shared(self.bound, replace(window, bandwidth=h), variance, diagnostics={"bandwidth": h})

    def nll(self, model: DirectSampling, batch: Batch, noise: Noise, shared: Shared) -> Estimate:
        window: Window = shared.state
        log_p, counted = window.log_p(*window.squares(batch), window.bandwidth)
        return Estimate(-log_p, torch.zeros_like(log_p), diagnostics={"samples_in_window": counted})
