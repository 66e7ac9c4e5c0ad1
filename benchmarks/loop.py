"""Training steps of gencli against a bare PyTorch loop over the same network, batches and optimizer, in one run.

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
        turn, optimizer, clip = trainer.state.turns[0], trainer.state.optimizers[0], trainer.options.clip_norm
        x = split.gather(torch.arange(len(split))).x.flatten(1)
        shape, size = parts.dataset.spec.shape, trainer.options.rows

        def bare_steps() -> None:
            """What a researcher writes: shuffle, dequantize and transform, loss, backward, clip, step."""
            order = torch.randperm(len(x))
            for k in range(STEPS):
                at = (k * size) % max(len(x) - size, 1)
                rows = x[order[at : at + size]].view(-1, *shape)
                z, _ = parts.preprocess(rows, StepNoise(torch.device("cpu"), k))
                loss = -model.log_prob(z).mean()
                optimizer.zero_grad()
                loss.backward()
                if clip:
                    torch.nn.utils.clip_grad_norm_(turn.parameters, clip)
                optimizer.step()

        works = {"bare": bare_steps, "gencli": lambda: trainer.steps(STEPS)}
        report.table(" ".join(overrides) or "the default", race(works, ROUNDS + 1), STEPS)


if __name__ == "__main__":
    with benchmark("loop") as report:
        main(report, sys.argv[1:])
