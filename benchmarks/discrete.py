"""Gibbs sampling of 1,000 chains on a 32 x 32 Ising lattice: 100 sweeps at a coupling of 0.4.

gencli's kernel, with noise that depends on the chain alone and with a plain generator, and its sampler, which records
the energy of every sweep, against the checkerboard script that a researcher writes by hand. One run on one thread;
rounds are interleaved and medians of CPU seconds compared: only the ratios mean something.

    python -m benchmarks.discrete
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.racing import Report, benchmark, race
from gencli.core.noise import Noise, RowNoise, StepNoise
from gencli.core.spec import Spec, Support
from gencli.kernels.gibbs import Gibbs
from gencli.methods.chains import energy_of
from gencli.models.energy.ising import Ising
from gencli.samplers.chain import Chain

CHAINS, SIDE, SWEEPS, K = 1000, 32, 100, 0.4
ROUNDS = 4


def plain(s: Tensor, sweeps: int) -> Tensor:
    """Spins s (n, L, L) of -1 and 1, one colour of the checkerboard after the other."""
    index = torch.arange(s.shape[-1])
    black = (index[:, None] + index) % 2 == 0
    for _ in range(sweeps):
        for mask in (black, ~black):
            near = s.roll(1, 1) + s.roll(-1, 1) + s.roll(1, 2) + s.roll(-1, 2)
            up = torch.rand_like(s) < torch.sigmoid(2 * K * near)
            s = torch.where(mask, torch.where(up, 1.0, -1.0), s)
    return s


def main(report: Report) -> None:
    model = Ising(Spec((1, SIDE, SIDE), Support.parse("binary")), K=K)
    x = (torch.rand(CHAINS, 1, SIDE, SIDE) < 0.5).float()
    energy, kernel = energy_of(model), Gibbs()

    def swept(noise: Noise) -> Tensor:
        state = kernel.init(energy, x)
        for _ in range(SWEEPS):
            state, _ = kernel.step(energy, state, noise)
        return state.x

    of_rows, of_all = RowNoise(0, torch.arange(CHAINS)), StepNoise(torch.device("cpu"), 0)
    sampler = Chain(kernel=kernel, steps=SWEEPS, warmup=0)
    works: dict[str, Callable[[], object]] = {
        "gencli": lambda: swept(of_rows),
        "gencli, a plain generator": lambda: swept(of_all),
        "gencli, energies recorded": lambda: sampler.run(model, x, None, of_rows),
        "plain PyTorch": lambda: plain(2 * x[:, 0] - 1, SWEEPS),
    }
    ends = {name: work() for name, work in list(works.items())[:2]} | {
        "plain": (plain(2 * x[:, 0] - 1, SWEEPS) + 1) / 2
    }
    for name, end in ends.items():
        assert isinstance(end, Tensor)
        s = 2 * end.reshape(CHAINS, SIDE, SIDE) - 1
        print(f"  {name:28} energy a site {-K * float((s * (s.roll(1, 1) + s.roll(1, 2))).mean()):.4f} nats")
    report.table(f"{CHAINS} chains of {SWEEPS} Gibbs sweeps on {SIDE} x {SIDE} spins", race(works, ROUNDS))


if __name__ == "__main__":
    with benchmark("discrete") as report:
        main(report)
