"""Flow matching on moons, a network of two layers of 256, batch 256: training steps a second by coupling.

gencli's trainer with independent and with optimal pairs, a loop that a researcher writes by hand, and that loop with
the exact coupling of torchcfm where it is installed, in one run on one thread. Rounds are interleaved and medians of
CPU seconds compared: only the ratios mean something.

    python -m benchmarks.coupling
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.racing import Report, benchmark, race, stepper, training

STEPS, BATCH, ROUNDS = 40, 256, 8

Flow = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Noise and data -> times, points and velocities."""


def bare(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.rand(len(x1))
    return t, torch.lerp(x0, x1, t[:, None]), x1 - x0


def torchcfm_flow() -> Flow | None:
    """torchcfm's pairs by POT's exact solver, or None."""
    try:
        from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
    except ImportError:
        return None
    return ExactOptimalTransportConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow


def main(report: Report) -> None:
    overrides = ["model=flow_matching", "net@model.net=mlp", "model.net.hidden=[256,256]", "data=moons"]
    overrides += [f"data.train={STEPS * BATCH}", f"trainer.batch_size={BATCH}"]
    with training(overrides) as trainer, training([*overrides, "objective.coupling=optimal"]) as coupled:
        x = trainer.train.gather(torch.arange(len(trainer.train))).x

        def by_hand(flow: Flow) -> Callable[[], None]:
            net = nn.Sequential(nn.Linear(3, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 2))

            def loss(rows: Tensor) -> Tensor:
                t, x_t, velocity = flow(torch.randn_like(rows), rows)
                return (net(torch.cat([x_t, t[:, None]], 1)) - velocity).square().mean()

            return stepper(net, loss, x, STEPS, BATCH)

        works = {
            "gencli": lambda: coupled.steps(STEPS),
            "gencli, independent": lambda: trainer.steps(STEPS),
            "bare loop, independent": by_hand(bare),
        }
        peer = torchcfm_flow()
        if peer is None:
            print("torchcfm is not installed: without it (pip install torchcfm pot)")
        else:
            works["torchcfm"] = by_hand(peer)
        report.table(f"optimal pairs but where it says independent, batch {BATCH}", race(works, ROUNDS + 1), STEPS)


if __name__ == "__main__":
    with benchmark("coupling") as report:
        main(report)
