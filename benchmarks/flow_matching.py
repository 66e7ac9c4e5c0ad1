"""Flow matching on moons, batch 256: training steps a second, 10,000 samples by 100 Euler steps, optimal pairs.

Equal on both sides: the data, the batch, two hidden layers of 256 with SiLU, times uniform, Adam, fp32, no spread
around the line (``sigma=0``), exact pairs where pairs are optimal. Not equal: the networks of the peers and the floors
see the time itself (3-256-256-2), gencli's 34 features of it (36-256-256-2), and gives what normal data leave of the
velocity; gencli's steps also clip, average weights, watch for numbers that are none, and keep logs. gencli draws as
``gencli sample`` does, 500 rows at a time and back in the units of the data; the peers all rows at once, as their
examples do. Floors are loops by hand over the peers' network: with torch's Adam, with the fused one, 500 rows at a
time, and under ``--compile`` compiled, as gencli is too. With ``--same`` all networks see gencli's features of time.

    python -m benchmarks.flow_matching
    python -m benchmarks.flow_matching --same --compile
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.racing import Report, Work, arguments, benchmark, peers, race, stepper, training
from gencli.models.diffusion.field import RANGE
from gencli.nn.fourier import Fourier
from gencli.run.sampling import draw
from gencli.samplers.diffusion.ode import ODE

STEPS, BATCH = 40, 256
SAMPLES, ROWS, EULER = 10_000, 500, 100

Flow = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Noise and data -> times, points and velocities."""


class Velocity(nn.Module):
    """The network of peers and floors.

    Args:
        same: it sees t and log SNR = 2 log t / (1 - t), with sines and cosines of both, as that of gencli does.
    """

    def __init__(self, same: bool) -> None:
        super().__init__()
        self.time = Fourier() if same else None
        wide = 2 + (2 * Fourier().size if same else 1)
        self.net = nn.Sequential(nn.Linear(wide, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.reshape(-1, 1)
        if self.time:
            t = self.time(torch.cat([t, (2 * torch.log(t / (1 - t))).clamp(-RANGE, RANGE) / RANGE], 1))
        return self.net(torch.cat([x, t.expand(len(x), -1)], 1))


def learner(flow: Flow, x: Tensor, same: bool, *, fused: bool = False, compiled: bool = False) -> Work:
    """Training steps by hand on what a library says of noise and data."""
    net = Velocity(same)
    call = torch.compile(net) if compiled else net

    def loss(rows: Tensor) -> Tensor:
        t, x_t, velocity = flow(torch.randn_like(rows), rows)
        return F.mse_loss(call(x_t, t), velocity)

    return stepper(net, loss, x, STEPS, BATCH, fused=fused)


def straight(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.rand(len(x1))
    return t, torch.lerp(x0, x1, t[:, None]), x1 - x0


def torchcfm(x: Tensor, same: bool) -> Mapping[str, Work]:
    """torchcfm with torchdiffeq's solver, as its examples have it."""
    from torchcfm.conditional_flow_matching import (
        ConditionalFlowMatcher,
        ExactOptimalTransportConditionalFlowMatcher,
    )
    from torchdiffeq import odeint

    net, grid = Velocity(same), torch.linspace(0, 1, EULER + 1)

    @torch.no_grad()
    def sample() -> Tensor:
        return odeint(lambda t, x: net(x, t), torch.randn(SAMPLES, 2), grid, method="euler")[-1]

    return {
        "train": learner(ConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow, x, same),
        "pairs": learner(
            ExactOptimalTransportConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow, x, same
        ),
        "sample": sample,
    }


def flow_matching(x: Tensor, same: bool) -> Mapping[str, Work]:
    """flow_matching with its own solver."""
    from flow_matching.path import CondOTProbPath
    from flow_matching.solver import ODESolver

    path, net = CondOTProbPath(), Velocity(same)
    solver = ODESolver(velocity_model=net)

    def flow(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said = path.sample(t=torch.rand(len(x1)), x_0=x0, x_1=x1)
        return said.t, said.x_t, said.dx_t

    def sample() -> Tensor:
        return solver.sample(x_init=torch.randn(SAMPLES, 2), method="euler", step_size=1 / EULER)

    return {"train": learner(flow, x, same), "sample": sample}


def euler(same: bool, rows: int = SAMPLES, *, compiled: bool = False) -> Work:
    """Samples by a loop by hand, so many rows at a time."""
    net = Velocity(same)
    call = torch.compile(net) if compiled else net

    @torch.no_grad()
    def sample() -> None:
        for _ in range(0, SAMPLES, rows):
            x, dt = torch.randn(rows, 2), 1 / EULER
            for i in range(EULER):
                x = x + dt * call(x, torch.tensor(i * dt))

    return sample


def main(report: Report, rounds: int, compiled: bool, same: bool) -> None:
    overrides = ["model=flow_matching", "net@model.net=mlp", "model.net.hidden=[256,256]", "data=moons"]
    overrides += [f"data.train={STEPS * BATCH}", f"trainer.batch_size={BATCH}"]
    with (
        training(overrides) as trainer,
        training([*overrides, "objective.coupling=optimal"]) as paired,
        training([*overrides, "trainer.compile=true"]) if compiled else nullcontext() as quick,
    ):
        x = trainer.train.gather(torch.arange(len(trainer.train))).x
        others = peers({"torchcfm": lambda: torchcfm(x, same), "flow_matching": lambda: flow_matching(x, same)})
        parts = replace(trainer.parts, sampler=ODE(method="euler", steps=EULER))

        def of_peers(work: str) -> dict[str, Work]:
            return {name: works[work] for name, works in others.items() if work in works}

        learning = {
            "gencli": lambda: trainer.steps(STEPS),
            **of_peers("train"),
            "bare loop": learner(straight, x, same),
            "bare loop, fused": learner(straight, x, same, fused=True),
        }
        sampling: dict[str, Work] = {
            "gencli": lambda: draw(parts, SAMPLES, 0, batch_size=ROWS),
            **of_peers("sample"),
            "bare loop": euler(same),
            "bare loop, 500 rows at a time": euler(same, ROWS),
        }
        if quick:
            learning["gencli, compiled"] = lambda: quick.steps(STEPS)
            learning["bare loop, fused, compiled"] = learner(straight, x, same, fused=True, compiled=True)
            sampling["bare loop, 500 rows at a time, compiled"] = euler(same, ROWS, compiled=True)
        pairing = {
            "gencli": lambda: paired.steps(STEPS),
            **of_peers("pairs"),
            "bare loop, fused, independent pairs": learner(straight, x, same, fused=True),
        }
        report.table(f"training, batch {BATCH}", race(learning, rounds), STEPS)
        report.table(f"{SAMPLES:,} samples by {EULER} Euler steps", race(sampling, rounds))
        report.table(f"training with exact optimal pairs, batch {BATCH}", race(pairing, rounds), STEPS)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--compile", action="store_true", help="gencli compiled, and floors compiled")
    parser.add_argument("--same", action="store_true", help="gencli's features of the time for all")
    options = parser.parse_args()
    with benchmark("flow_matching", options.threads) as report:
        main(report, options.rounds, options.compile, options.same)
