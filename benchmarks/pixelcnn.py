"""Cached decoding against a full pass for every coordinate, in one run: the same samples, how much sooner.

    python -m benchmarks.pixelcnn [whole]

The naive way is timed on its first passes and scaled to all of them, since each costs the same; ``whole`` runs all.
"""

from __future__ import annotations

import contextlib
import sys
import time
from operator import methodcaller

import torch

from benchmarks.racing import Report, benchmark
from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.autoregressive.pixelcnn import PixelCNN, PixelCNNPP
from gencli.models.base import Autoregressive
from gencli.models.distributions import Conditional

PASSES = 8
"""Naive passes that are timed."""


class _Enough(Exception):
    """Ends a naive decoding early."""


def cached(model: Autoregressive, n: int) -> tuple[torch.Tensor, float]:
    """Samples and CPU seconds, the better of two goes."""
    seconds = []
    for _ in range(2):
        pick = methodcaller("sample", RowNoise(0, torch.arange(n)))
        began = time.process_time()
        x = model.decode(n, pick=pick)
        seconds.append(time.process_time() - began)
    return x, min(seconds)


def naive(model: Autoregressive, n: int, passes: int) -> tuple[torch.Tensor, float]:
    """The values of the first ``passes`` coordinates (passes, n), and the seconds that all coordinates take."""
    noise = RowNoise(0, torch.arange(n))
    values: list[torch.Tensor] = []

    def pick(conditional: Conditional) -> torch.Tensor:
        if len(values) == passes:
            raise _Enough
        values.append(conditional.sample(noise))
        return values[-1]

    began = time.process_time()
    with contextlib.suppress(_Enough):
        model.decode(n, pick=pick, cached=False)
    return torch.stack(values), (time.process_time() - began) * model.spec.dim / passes


def compare(report: Report, name: str, model: Autoregressive, n: int, whole: bool) -> None:
    """A model whose coordinates are decoded in the order in which they lie."""
    model.eval()
    x, fast = cached(model, n)
    values, slow = naive(model, n, model.spec.dim if whole else min(PASSES, model.spec.dim))
    same = torch.equal(x.flatten(1).T[: len(values)].long(), values.long())
    title = f"{name}: {n} samples of {model.spec.dim} coordinates, {'the same' if same else 'OTHER'} in both"
    report.table(title, {"every coordinate a full pass": [slow], "gencli": [fast]})


def main(report: Report, whole: bool) -> None:
    torch.manual_seed(0)
    bits = Spec((1, 28, 28), Support.parse("binary"))
    levels = Spec((1, 28, 28), Support.parse("levels:256"))
    models: dict[str, Autoregressive] = {
        "pixelcnn, 5 layers x 32 channels": PixelCNN(bits, width=32, layers=5),
        "pixelcnn_pp, 4 blocks x 32 channels": PixelCNNPP(levels, width=32, blocks=4),
    }
    for name, model in models.items():
        compare(report, name, model, 16, whole)


if __name__ == "__main__":
    with benchmark("pixelcnn") as report:
        main(report, whole=sys.argv[1:] == ["whole"])
