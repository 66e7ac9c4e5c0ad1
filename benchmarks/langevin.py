"""An MLP energy 2-128-128-1: 1,000 chains of 100 Langevin steps, and training by CD-10 at batch 256.

gencli's sampler and trainer beside torchebm, and a bare loop over the same architecture whose parameters are frozen
while its chains run. Its loss takes data and chains through the network together.

    python -m benchmarks.langevin
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks.racing import Report, Work, arguments, benchmark, peers, race, stepper, training
from gencli.core.noise import RowNoise
from gencli.core.tensors import frozen
from gencli.models.base import Unnormalized
from gencli.samplers.langevin import Langevin

CHAINS, MOVES, STEP = 1000, 100, 0.01
BATCH, K, STEPS = 256, 10, 40


class Bare(nn.Module):
    """The energy as a tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, 0]

    def walk(self, x: Tensor, moves: int) -> Tensor:
        """So many Langevin steps from x (n, 2)."""
        with frozen(self):
            for _ in range(moves):
                x = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self(x).sum(), x)
                x = x.detach() - STEP * gradient + math.sqrt(2 * STEP) * torch.randn_like(x)
        return x.detach()

    def divergence(self, x: Tensor) -> Tensor:
        """The loss of CD-10."""
        of_data, of_chains = self(torch.cat([x, self.walk(x, K)])).chunk(2)
        return of_data.mean() - of_chains.mean()


def torchebm(x: Tensor) -> Mapping[str, Work]:
    """The same network, chains and loss in torchebm."""
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence
    from torchebm.samplers import LangevinDynamics

    class Energy(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.bare = Bare()

        def forward(self, x: Tensor) -> Tensor:
            return self.bare(x)

    model = Energy()
    sampler = LangevinDynamics(model, step_size=STEP, noise_scale=1.0)
    loss = ContrastiveDivergence(model, sampler, k_steps=K, energy_reg_weight=0.0)
    return {
        "chains": lambda: sampler.sample(x=x[:CHAINS], n_steps=MOVES),
        "train": stepper(model, lambda rows: loss(rows)[0], x, STEPS, BATCH),
    }


def main(report: Report, rounds: int) -> None:
    overrides = [
        *("model=ebm", "model.base=none", "model.net.vector.hidden=[128,128]", "model.net.vector.activation=silu"),
        *("objective=cd", f"objective.steps={K}", f"objective.step={STEP}", f"trainer.batch_size={BATCH}"),
        *("data=eight_gaussians", f"data.train={STEPS * BATCH}", "optimizer=adam"),
    ]
    with training(overrides) as trainer:
        x = trainer.train.gather(torch.arange(len(trainer.train))).x
        sampler, start, noise = Langevin(step=STEP, steps=MOVES), x[:CHAINS], RowNoise(0, torch.arange(CHAINS))
        bare, fused, energy = Bare(), Bare(), trainer.parts.model
        assert isinstance(energy, Unnormalized)
        chains: dict[str, Work] = {
            "gencli": lambda: sampler.run(energy, start, None, noise),
            "bare loop": lambda: bare.walk(start, MOVES),
        }
        learning: dict[str, Work] = {
            "gencli": lambda: trainer.steps(STEPS),
            "bare loop": stepper(bare, bare.divergence, x, STEPS, BATCH),
            "bare loop, fused": stepper(fused, fused.divergence, x, STEPS, BATCH, fused=True),
        }
        for name, works in peers({"torchebm": lambda: torchebm(x)}).items():
            chains[name], learning[name] = works["chains"], works["train"]
        report.table(f"{CHAINS} chains of {MOVES} Langevin steps", race(chains, rounds))
        report.table(f"training by CD-{K}, batch {BATCH}", race(learning, rounds), STEPS)


if __name__ == "__main__":
    asked = arguments(__doc__).parse_args()
    with benchmark("langevin", asked.threads) as report:
        main(report, asked.rounds)
