"""What a command costs before it does anything: CPU seconds of a fresh process, beside those of its largest imports.

python -m benchmarks.start
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.racing import Report, arguments, benchmark

FIRST_STEP = """
import os, sys, time
from gencli.cli.main import main
from gencli.training.loop import Trainer
def stop(trainer, count, steps=Trainer.steps):
    steps(trainer, 1)
    os._exit(0)
Trainer.steps = stop
sys.exit(main(sys.argv[1:]))
"""
"""Runs a command up to the end of its first training step."""

FLOORS = {"bare python": "pass", "bare import of hydra": "import hydra", "bare import of torch": "import torch"}


def seconds(words: Sequence[str], folder: str) -> float:
    """CPU seconds of a process of its own, user and system.

    Raises:
        CalledProcessError: it failed.
    """
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=folder, env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(report: Report, rounds: int) -> None:
    """Take turns; the first round compiles what was not compiled yet, and is left out."""
    with TemporaryDirectory() as folder:
        run = str(Path(folder, "run"))
        train = ["trainer.max_steps=1", "device=cpu"]
        seconds(["-m", "gencli", "train", *train, "trainer.eval_examples=1", f"run_dir={run}"], folder)
        commands = {
            "gencli --help": ["-m", "gencli", "--help"],
            "gencli list model": ["-m", "gencli", "list", "model"],
            "gencli list model maf": ["-m", "gencli", "list", "model", "maf"],
            "gencli train, up to its first step": ["-c", FIRST_STEP, "train", *train],
            "gencli sample": ["-m", "gencli", "sample", f"run={run}", "n=64", "device=cpu"],
        }
        commands |= {name: ["-c", code] for name, code in FLOORS.items()}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(rounds):
            for name, words in commands.items():
                took = seconds(words, folder)
                if turn:
                    times[name].append(took)
        floors = {name: times.pop(name) for name in FLOORS}
        for name, own in times.items():
            report.table(name, {"gencli": own, **floors})


if __name__ == "__main__":
    args = arguments(__doc__)
    args.set_defaults(rounds=6)
    options = args.parse_args()
    with benchmark("start", options.threads) as report:
        main(report, options.rounds)
