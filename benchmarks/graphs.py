"""A training step on a GPU as one CUDA graph and kernel by kernel: milliseconds, and whether both learn alike.

The same runs with ``trainer.cuda_graph`` true and false, from the same seed: after 30 steps losses and weights are
compared, then steps are timed by the wall clock. Kernels that add in any order (of attention, of convolutions) make
last places differ.

    python -m benchmarks.graphs
    python -m benchmarks.graphs --only vae maf --root FOLDER
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from benchmarks.racing import Report, benchmark, training
from gencli.training.loop import Trainer

MOONS = "data=moons trainer.batch_size=256"
REALNVP = (
    "model=realnvp model.marginal=0 model.couplings=8 model.net.vector.hidden=[128,128] data=array "
    "data.path={array} trainer.batch_size=256"
)
CASES = {
    "realnvp": REALNVP,
    "realnvp compiled": f"{REALNVP} trainer.compile=true",
    "realnvp digits": "model=realnvp data=digits",
    "maf": f"model=maf {MOONS}",
    "nsf_coupling": f"model=nsf_coupling {MOONS}",
    "flow_matching": f"model=flow_matching net@model.net=mlp model.net.hidden=[256,256] {MOONS}",
    "cd": f"model=ebm objective=cd {MOONS}",
    "vae": "model=vae data=binarized_mnist data.root={root} data.flatten=true trainer.batch_size=100",
    "diffusion": "model=diffusion data=mnist data.root={root} trainer.batch_size=128",
    "transformer": "model=transformer data=tinyshakespeare data.root={root}",
    "glow": "model=glow data=mnist data.root={root}",
}
FIRST, COMPARED, SECONDS = 8, 22, 0.5


def weights(trainer: Trainer) -> Tensor:
    """All parameters of the model in one row."""
    return torch.cat([p.detach().float().flatten() for p in trainer.parts.model.parameters()])


def run(words: list[str], graph: bool) -> tuple[list[float], Tensor, float]:
    """Losses of some steps, the way that the weights went in them, and the seconds of a step."""
    with training([*words, f"trainer.cuda_graph={str(graph).lower()}", "trainer.log_every=1000000"], "cuda") as trainer:
        trainer.steps(FIRST)
        start, losses = weights(trainer), []
        for _ in range(COMPARED):
            trainer.state.logs = {}
            trainer.steps(1)
            losses.append(next(float(value) for name, value in trainer.state.logs.items() if name.startswith("loss")))
        way = weights(trainer) - start
        count = max(3, min(100, int(SECONDS / timed(trainer.steps, 3))))
        return losses, way, timed(trainer.steps, count)


def timed(steps: Callable[[int], None], count: int) -> float:
    """Seconds of a step by the wall clock, once the device has finished."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    steps(count)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def main(report: Report, only: list[str], root: str) -> None:
    with TemporaryDirectory() as folder:
        array = Path(folder) / "rows.npz"
        np.savez(array, train=np.random.default_rng(0).standard_normal((20_000, 64)).astype("float32"))
        for name, words in CASES.items():
            if only and name not in only:
                continue
            chosen = words.format(array=array, root=root).split()
            (one, way, slow), (other, same, fast) = (run(chosen, graph) for graph in (False, True))
            apart = max(abs(a - b) / (1 + abs(a)) for a, b in zip(one, other, strict=True))
            off = float((way - same).norm() / way.norm())
            print(f"{name}: losses differ by {apart:.1e} at most, the way of the weights by {off:.1e}")
            report.table(name, {"gencli": [fast], "gencli, kernel by kernel": [slow]}, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Steps as CUDA graphs")
    parser.add_argument("--only", nargs="*", default=[], help="names of cases")
    parser.add_argument("--root", default="data", help="folder of the data, as data.root")
    options = parser.parse_args()
    with benchmark("graphs") as report:
        main(report, options.only, options.root)
