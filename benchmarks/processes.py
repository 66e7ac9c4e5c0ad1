"""Weak scaling: a training step by one process, and by two that see as many examples each.

Processes average their gradients by one message a step, gloo between CPUs; with one thread each, two cores are enough.
The wall clock counts, since a process that waits computes nothing: take it on a quiet machine.

    python -m benchmarks.processes
    python -m benchmarks.processes model=vae data=digits
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.racing import Report, benchmark, training

ROUNDS, STEPS, ROWS = 5, 40, 128
USUAL = ["model=realnvp", "data=digits"]


def worker(out: Path, overrides: list[str]) -> None:
    """One process of torchrun: seconds of each round, written by the first."""
    torch.set_num_threads(1)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    with training([*(overrides or USUAL), f"trainer.batch_size={ROWS * size}"]) as trainer:
        times = []
        for turn in range(ROUNDS + 1):
            began = time.perf_counter()
            trainer.steps(STEPS)
            if turn:
                times.append(time.perf_counter() - began)
        if trainer.world.main:
            out.write_text(json.dumps(times), encoding="utf-8")


def seconds(processes: int, overrides: list[str]) -> list[float]:
    """Of each round, by so many processes."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, "-m", "benchmarks.processes", "--worker", str(out), *overrides], env=environment, check=True
        )
        times: list[float] = json.loads(out.read_text(encoding="utf-8"))
        return times


def main(report: Report, overrides: list[str]) -> None:
    times = {"gencli": seconds(1, overrides), "gencli, two processes": seconds(2, overrides)}
    report.table(f"{' '.join(overrides or USUAL)}, {ROWS} examples a process", times, STEPS)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), sys.argv[3:])
    else:
        with benchmark("processes") as report:
            main(report, sys.argv[1:])
