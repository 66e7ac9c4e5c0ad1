"""No trap on a busy machine: steps a second with one thread, with two, and with ``threads=auto``, while others compute.

Threads that wait for each other lose whenever one of them has no core. So many processes as are asked for keep cores
busy meanwhile; the wall clock counts, and works take turns in processes of their own, since a process reads the policy
of its threads once.

    python -m benchmarks.threads              # beside 4 busy processes
    python -m benchmarks.threads --load 0
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.racing import Report, benchmark, training

WARM, STEPS, ROUNDS = 30, 60, 3
BUSY = "while True: pass"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def worker(asked: str) -> dict[str, Any]:
    """Seconds of so many steps of the default run, and the threads that it took."""
    with training(["model=realnvp", "data=digits", f"threads={asked}"]) as run:
        run.steps(WARM)  # auto has chosen by then
        began = time.perf_counter()
        run.steps(STEPS)
        return {"seconds": time.perf_counter() - began, "threads": torch.get_num_threads()}


def main(report: Report, load: int) -> None:
    times: dict[str, list[float]] = {"gencli": [], "gencli, one thread": [], "gencli, two threads": []}
    with busy(load):
        time.sleep(1)  # for the load to be seen
        for _ in range(ROUNDS):
            for name, asked in zip(times, ("auto", "1", "2"), strict=True):
                command = [sys.executable, "-m", "benchmarks.threads", "--worker", asked]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                times[name].append(json.loads(done.stdout.splitlines()[-1])["seconds"])
    report.table(f"the default run beside {load} busy processes, by threads (first: auto)", times, STEPS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Threads on a busy machine")
    parser.add_argument("--load", type=int, default=4, help="processes that keep cores busy")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker)))
    else:
        with benchmark("threads") as report:
            main(report, options.load)
