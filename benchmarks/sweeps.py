"""Two jobs of a sweep at a time against one after the other, and what it takes to start a job.

A sweep of eight trainings with one thread each, by the command itself, so its start and its last lines count too. The
bar is 1.6 times the throughput on two cores. A forked job that does nothing shows what a job costs besides its work;
the bar is 0.3 s, against the import of torch that each ``gencli train`` begins with. Needs a quiet machine.

    python -m benchmarks.sweeps
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.racing import Report, benchmark, race
from gencli.sweeps.child import Request
from gencli.sweeps.pool import Pool

ROUNDS, JOBS, FORKS = 2, 8, 10
ROOT = Path(__file__).resolve().parents[1]
TRAINING = (
    *("model=maf", "data=moons", "trainer.max_steps=400", "logger=none", "device=cpu", "n=64"),
    f"seed=range({JOBS})",
)


def _sweep(folder: Path, workers: int, own: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        words = ["train", "-m", *TRAINING, f"sweep.workers={workers}", f"sweep.dir={place}/sweep"]
        subprocess.run([sys.executable, "-m", "gencli", *words], env=own, cwd=place, check=True, capture_output=True)


def _fork(folder: Path) -> None:
    pool = Pool([{}], lambda *_: None, lambda _: 1)
    for number in range(FORKS):
        pool.start(number, Request(config={}, folder="", log=str(folder / "log"), threads=1))
        ended: dict[Any, Any] = {}
        while not ended:
            ended = pool.wait(1)
        assert not ended[number].cause, ended[number].cause


def main(report: Report) -> None:
    own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        works = {"gencli": lambda: _sweep(folder, 2, own), "gencli, one at a time": lambda: _sweep(folder, 1, own)}
        report.table(f"sweep of {JOBS} jobs, two at a time", race(works, ROUNDS + 1, wall=True))
        forks = race({"gencli": lambda: _fork(folder)}, ROUNDS + 1, wall=True)
        report.table("start of a job", forks, FORKS, "jobs/s")
        words = [sys.executable, "-c", "import torch"]
        imports = race({"a Python": lambda: subprocess.run(words, check=True)}, ROUNDS + 1, wall=True)
        report.table("import torch", imports)


if __name__ == "__main__":
    with benchmark("sweeps") as report:
        main(report)
