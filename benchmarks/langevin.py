"""An MLP energy 2-128-128-1: 1,000 chains of 100 Langevin steps, and training by CD-10 at batch 256.

gencli's sampler and trainer against what a researcher writes by hand, and against torchebm where it is installed, in
one run on one thread. Rounds are interleaved and medians of CPU seconds compared: only the ratios mean something.

    pip install --target=peers --no-deps torchebm
    PYTHONPATH=peers python -m benchmarks.langevin
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.racing import Report, benchmark, race, stepper, training
from gencli.core.noise import RowNoise
from gencli.models.base import Unnormalized
from gencli.samplers.langevin import Langevin

CHAINS, MOVES, STEP = 1000, 100, 0.01
BATCH, K, STEPS = 256, 10, 40
ROUNDS = 11

Walk = Callable[[Tensor, int], Tensor]
"""From x (n, 2), so many Langevin steps, to x (n, 2)."""


class Bare(nn.Module):
    """The energy as a tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]

    def walk(self, x: Tensor, moves: int) -> Tensor:
        x = x.detach()
        for _ in range(moves):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(self(x).sum(), x)
            x = (x - STEP * gradient + math.sqrt(2 * STEP) * torch.randn_like(x)).detach()
        return x


def divergence(energy: nn.Module, walk: Walk) -> Callable[[Tensor], Tensor]:
    """The loss of CD-10 by hand."""
    return lambda x: energy(x).mean() - energy(walk(x, K)).mean()


def torchebm_parts() -> tuple[nn.Module, Walk, Callable[[Tensor], Tensor]] | None:
    """The same network, chains and loss in torchebm; or None, and a line that says so."""
    try:
        from torchebm.core import BaseModel
        from torchebm.losses import ContrastiveDivergence
        from torchebm.samplers import LangevinDynamics
    except ImportError as error:
        print(f"torchebm is not compared: {error}. The head of this script says how to have it.")
        return None

    class Energy(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.bare = Bare()

        def forward(self, x: Tensor) -> Tensor:
            return self.bare(x)

    model = Energy()
    sampler = LangevinDynamics(model, step_size=STEP, noise_scale=1.0)
    loss = ContrastiveDivergence(model, sampler, k_steps=K, energy_reg_weight=0.0)
    return model, lambda x, moves: sampler.sample(x=x, n_steps=moves), lambda x: loss(x)[0]


def main(report: Report) -> None:
    overrides = [
        *("model=ebm", "model.base=none", "model.net.vector.hidden=[128,128]", "model.net.vector.activation=silu"),
        *("objective=cd", f"objective.steps={K}", f"objective.step={STEP}", f"trainer.batch_size={BATCH}"),
        *("data=eight_gaussians", f"data.train={STEPS * BATCH}", "optimizer=adam"),
    ]
    with training(overrides) as trainer:
        x = trainer.train.gather(torch.arange(len(trainer.train))).x
        sampler, start, noise = Langevin(step=STEP, steps=MOVES), x[:CHAINS], RowNoise(0, torch.arange(CHAINS))
        bare, energy = Bare(), trainer.parts.model
        assert isinstance(energy, Unnormalized)
        chains: dict[str, Callable[[], object]] = {
            "gencli": lambda: sampler.run(energy, start, None, noise, lambda at, e: None),
            "bare loop": lambda: bare.walk(start, MOVES),
        }
        learning = {
            "gencli": lambda: trainer.steps(STEPS),
            "bare loop": stepper(bare, divergence(bare, bare.walk), x, STEPS, BATCH),
        }
        peer = torchebm_parts()
        if peer is not None:
            model, walk, loss_of = peer
            chains["torchebm"] = lambda: walk(start, MOVES)
            learning["torchebm"] = stepper(model, loss_of, x, STEPS, BATCH)
        report.table(f"{CHAINS} chains of {MOVES} Langevin steps", race(chains, ROUNDS))
        report.table(f"training by CD-{K}, batch {BATCH}", race(learning, ROUNDS), STEPS)


if __name__ == "__main__":
    with benchmark("langevin") as report:
        main(report)
