"""What the benchmarks share: interleaved rounds on one thread, a trainer without its run folder, results as JSON.

Machines drift, so works that are compared take turns, and medians of the processor's seconds are compared: of a result
only ratios mean something, and the file of a result says on which machine they were seen.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import gencli
from gencli.config.compose import compose
from gencli.training.loop import Trainer
from gencli.training.session import Session

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "torchcfm", "pot", "torchebm", "denoising-diffusion-pytorch", "pythae")
"""Whose versions a result names, where they are installed."""


def race(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each work in interleaved rounds; of several rounds the first warms up and is left out."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            if turn or rounds == 1:
                times[name].append(time.process_time() - began)
    return times


@dataclass
class Report:
    """What a benchmark measured: printed as it comes, kept for the file.

    Args:
        name: of the benchmark.
        tables: one entry for each table, plain data.
    """

    name: str
    tables: list[dict[str, Any]] = field(default_factory=list)

    def table(self, title: str, times: Mapping[str, list[float]], count: int = 0, unit: str = "steps/s") -> None:
        """Print medians and how many times as fast gencli is.

        Args:
            title: what was done.
            times: seconds of each round, by name; one of the names is ``gencli``.
            count: how many units of work took so long; 0 prints seconds.
            unit: of ``count`` a second.
        """
        print(title)
        seconds = {name: statistics.median(rounds) for name, rounds in times.items()}
        for name, value in seconds.items():
            shown = f"{count / value:8.2f} {unit:8}" if count else f"{value:8.3f} s"
            print(f"  {name:28} {shown}  gencli is {value / seconds['gencli']:.2f} times as fast")
        self.tables.append({"title": title, "count": count, "unit": unit, "seconds": dict(times), "median": seconds})

    def write(self, folder: Path = RESULTS) -> Path:
        """Write the result as JSON; a file of its own for each."""
        now = datetime.now(timezone.utc)
        result = {
            "benchmark": self.name,
            "arguments": sys.argv[1:],
            "date": now.isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "tables": self.tables,
        }
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}-{now:%Y%m%d-%H%M%S}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return path


@contextmanager
def benchmark(name: str) -> Iterator[Report]:
    """One thread, and a report that is written at the end."""
    torch.set_num_threads(1)
    report = Report(name)
    yield report
    print(f"written: {report.write()}")


def machine() -> dict[str, Any]:
    """What a time depends on: processor, cores, threads and versions."""
    versions = {"python": platform.python_version(), "gencli": gencli.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def cpu() -> str:
    """The processor's model, as Linux has it; elsewhere what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of this checkout, with ``+`` where files were changed since; None outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=RESULTS.parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def stepper(
    model: nn.Module, loss_of: Callable[[Tensor], Tensor], x: Tensor, steps: int, batch: int
) -> Callable[[], None]:
    """Plain training steps as a tutorial has them: shuffle, loss, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def work() -> None:
        order = torch.randperm(len(x))
        for i in range(steps):
            rows = x[order[i * batch : (i + 1) * batch]].float()
            optimizer.zero_grad()
            loss_of(rows).backward()
            optimizer.step()

    return work


@contextmanager
def training(overrides: list[str]) -> Iterator[Trainer]:
    """The trainer of ``gencli train OVERRIDES``, whose ``steps`` are raced; its folder is thrown away."""
    with TemporaryDirectory() as folder:
        quiet = ["trainer.max_steps=1000000", "logger=none", "device=cpu"]
        with Session.open(compose("train", [*quiet, *overrides, f"run_dir={folder}/run"])) as session:
            session.trainer.prepare()
            yield session.trainer
