"""Training steps of gencli against a bare PyTorch loop over the same network and batches, with fused Adam, in one run.

What differs is the tail of a step: clipping, the average of the weights, the guard, lines of metrics, the clock.

Rounds are interleaved and medians compared, since machines drift: only the ratio means something.

    python -m benchmarks.loop                       the default: RealNVP on digits
    python -m benchmarks.loop model=maf data.flatten=true trainer.batch_size=256
"""

from __future__ import annotations

import sys

import torch

from benchmarks.racing import Report, benchmark, race, training
from gencli.core.noise import StepNoise
from gencli.models.base import ExactLikelihood

ROUNDS, STEPS = 7, 60


def main(report: Report, overrides: list[str]) -> None:
    with training(["optimizer.warmup_steps=0", *overrides]) as trainer:
        parts, split, model = trainer.parts, trainer.train, trainer.parts.model
        assert isinstance(model, ExactLikelihood), "the bare loop knows no loss but -log p"
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        x = split.gather(torch.arange(len(split))).x.flatten(1)
        shape, size = parts.dataset.spec.shape, trainer.options.rows

        def bare_steps() -> None:
            """What a researcher writes: shuffle, dequantize and transform, loss, backward, step."""
            order = torch.randperm(len(x))
            for k in range(STEPS):
                at = (k * size) % max(len(x) - size, 1)
                rows = x[order[at : at + size]].view(-1, *shape)
                z, _ = parts.preprocess(rows, StepNoise(torch.device("cpu"), k))
                loss = -model.log_prob(z).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        works = {"bare fused loop": bare_steps, "gencli": lambda: trainer.steps(STEPS)}
        report.table(" ".join(overrides) or "the default", race(works, ROUNDS + 1), STEPS)


if __name__ == "__main__":
    with benchmark("loop") as report:
        main(report, sys.argv[1:])
