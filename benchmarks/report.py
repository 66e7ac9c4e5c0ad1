"""Tables and pages of many runs: CPU seconds of `compare` over 1,000 runs, and of `report` over a sweep of 100.

The runs are made up: folders with the files that training leaves, whose numbers follow a known law. Each command is a
process of its own, so that its seconds are those that a user waits for, imports included.

    python -m benchmarks.report
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from benchmarks.racing import Report, benchmark

CONFIG = Path(__file__).resolve().parents[1] / "tests" / "golden" / "runs" / "realnvp" / "config.yaml"
MODELS, BATCHES, SEEDS, EXAMPLES, LINES = ("maf", "realnvp", "nsf_coupling", "nice"), (64, 128, 256), 5, 2000, 300


def make(folder: Path, count: int) -> None:
    """Runs of several models, learning rates and batch sizes, seeds innermost.

    Of the numbers, learning rates explain most, models some, and batch sizes nothing.
    """
    rng = np.random.default_rng(0)
    base = rng.normal(2.4, 0.4, EXAMPLES)
    whole = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    for number in range(count):
        seed, at = number % SEEDS, number // SEEDS
        if seed == 0:
            rate, model, batch = 10 ** -rng.uniform(2, 4), rng.integers(len(MODELS)), int(rng.choice(BATCHES))
        config = whole | {
            "seed": seed,
            "choices": whole["choices"] | {"model": MODELS[model]},
            "optimizer": whole["optimizer"] | {"lr": float(rate)},
            "trainer": whole["trainer"] | {"batch_size": batch},
        }
        shift = 0.2 * (np.log10(rate) + 3) ** 2 + 0.02 * model + rng.normal(0, 0.01)
        name = f"{at:03d}-{MODELS[model]}-lr{rate:.2e}-batch_size{batch}-seed{seed}"
        write(folder / name, config, base + shift + rng.normal(0, 0.05, EXAMPLES))


def write(run: Path, config: Mapping[str, Any], nats: np.ndarray) -> None:
    """The files of one run."""
    (run / "eval").mkdir(parents=True)
    record = {
        "metric": "nll",
        "value": float(nats.mean()),
        "unit": "nats",
        "bound": "exact",
        "estimator": "exact",
        "se_examples": float(nats.std(ddof=1) / len(nats) ** 0.5),
        "split_sha256": "0" * 64,
        "n_examples": len(nats),
        "protocol": {"data": "moons", "support": "real"},
        "weights": "ema",
        "seed": config["seed"],
    }
    info = {
        "status": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seed": config["seed"],
        "parameters": 10_000,
        "device": "cpu",
        "result": record | {"split": "test"},
        "progress": {"step": 10 * LINES, "seconds": 9.0},
        "wall_seconds": 10.0 + config["trainer"]["batch_size"] / 100,
    }
    lines: list[dict[str, Any]] = []
    for k in range(1, LINES + 1):
        lines.append({"step": 10 * k, "split": "train", "seconds": 0.03 * k, "weights": "raw", "loss": 2.4 + 3 / k})
        if k % 10 == 0:
            lines.append({"step": 10 * k, "split": "val", "seconds": 0.03 * k, "weights": "ema", "nll": 2.5 + 3 / k})
    (run / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for split in ("test", "val"):
        (run / "eval" / f"{split}-exact.json").write_text(json.dumps(record | {"split": split}), encoding="utf-8")
        np.savez(run / "eval" / f"{split}-exact.npz", ids=np.arange(len(nats)), nll=nats)


def seconds(*command: str) -> float:
    """CPU seconds of a command of gencli."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "gencli", *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(report: Report) -> None:
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        make(Path("many"), 1000)
        make(Path("sweep"), 100)
        times = {
            "compare of 1,000 runs": [seconds("compare", "many")],
            "compare of 1,000 runs, seeds grouped": [seconds("compare", "many", "--group-by", "config")],
            "ls of 1,000 runs": [seconds("ls", "many", "--all")],
            "report of 100 jobs": [seconds("report", "sweep")],
        }
        size = Path("sweep/report.html").stat().st_size
        for name, taken in times.items():
            print(f"  {name:40} {taken[0]:6.2f} s")
        print(f"  {'size of that page':40} {size / 2**20:6.2f} MB")
        report.tables.append({"title": "CPU seconds", "seconds": times, "bytes": size})
        os.chdir("/")


if __name__ == "__main__":
    with benchmark("report") as report:
        main(report)
