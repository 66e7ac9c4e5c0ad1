"""What benchmarks share: interleaved rounds, gencli's own training loop, peers by their public API, results as JSON.

Machines drift, so works that are compared take turns, and medians are compared: of a result only ratios mean something,
and the file of a result says on which machine they were seen. On one thread the processor's seconds are counted, which
other processes lengthen little; on several the wall's.

Names of works say what they are: ``gencli`` and ``gencli, ...`` are ours, ``bare ...`` are floors, loops by hand over
the architecture of the peers, and all others are peers. Peers are installed by ``pip install 'gencli-nll[bench]'``.
"""

from __future__ import annotations

import argparse
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
PACKAGES = (
    *("torch", "numpy", "nflows", "normflows", "zuko", "FrEIA", "pythae", "torchebm", "torchcfm", "pot"),
    *("flow_matching", "denoising-diffusion-pytorch", "diffusers"),
)
"""Whose versions a result names, where they are installed."""

OURS, FLOOR = "gencli", "bare"
"""How names of works begin."""

Work = Callable[[], object]


def race(works: Mapping[str, Work], rounds: int, wall: bool = False) -> dict[str, list[float]]:
    """Seconds of each work in interleaved rounds; of several rounds the first warms up and is left out.

    Who begins changes from round to round, so that nobody always follows the same work.

    Args:
        works: by name.
        rounds: of all of them.
        wall: count the seconds of the clock, as for work of other processes; they count with several threads too.
    """
    clock = time.perf_counter if wall or torch.get_num_threads() > 1 else time.process_time
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        names = list(works)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began = clock()
            works[name]()
            if turn or rounds == 1:
                times[name].append(clock() - began)
    return times


def peers(makers: Mapping[str, Callable[[], Mapping[str, Work]]]) -> dict[str, Mapping[str, Work]]:
    """The works of each peer that is installed, by the peer's name; of the others a line says that they are missing.

    Args:
        makers: by name; each imports its package and gives its works, such as ``{"train": ..., "sample": ...}``.
    """
    found = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        try:
            found[name] = make()
        except ImportError as error:
            print(f"without {name}: {error}")
    return found


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
        """Print medians with their spread, and how many times as fast gencli is as each.

        Args:
            title: what was done.
            times: seconds of each round, by name; the others are compared with ``gencli`` if it is among them.
            count: how many units of work took so long; 0 prints seconds.
            unit: of ``count`` a second.
        """
        print(title)
        seconds = {name: statistics.median(rounds) for name, rounds in times.items()}
        for name, value in seconds.items():
            shown = f"{count / value:8.2f} {unit:8}" if count else f"{value:8.4f} s"
            spread = (max(times[name]) - min(times[name])) / value
            ratio = f"  gencli is {value / seconds[OURS]:.2f} times as fast" if OURS in seconds else ""
            print(f"  {name:36} {shown} +-{spread / 2:4.0%}{ratio}")
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


def ratios(median: Mapping[str, float]) -> dict[str, float]:
    """How many times as fast gencli is as the best peer, and as each floor: {"peer": ..., "bare loop": ...}."""
    others = [value for name, value in median.items() if not name.startswith((OURS, FLOOR))]
    best = {"peer": min(others) / median[OURS]} if others else {}
    return best | {name: value / median[OURS] for name, value in median.items() if name.startswith(FLOOR)}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark may be asked: ``--threads`` and ``--rounds``."""
    head = (description or "").strip().partition("\n")[0]
    parser = argparse.ArgumentParser(description=head)
    parser.add_argument("--threads", type=int, default=1, help="of torch; with more than one the wall clock counts")
    parser.add_argument("--rounds", type=int, default=8, help="of which the first warms up and is left out")
    return parser


@contextmanager
def benchmark(name: str, threads: int = 1) -> Iterator[Report]:
    """So many threads, and a report that is written at the end."""
    torch.set_num_threads(threads)
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
    model: nn.Module, loss_of: Callable[[Tensor], Tensor], x: Tensor, steps: int, batch: int, *, fused: bool = False
) -> Callable[[], None]:
    """Plain training steps as a tutorial has them: a random batch, loss, backward, Adam.

    Args:
        model: whose parameters move.
        loss_of: loss of a batch.
        x: examples.
        steps: a call takes.
        batch: examples a step.
        fused: whether Adam is one kernel; torch's default on a CPU is a loop over parameters.
    """
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)

    def work() -> None:
        for _ in range(steps):
            rows = x[torch.randint(len(x), (batch,))].float()
            optimizer.zero_grad()
            loss_of(rows).backward()
            optimizer.step()

    return work


@contextmanager
def training(overrides: list[str], device: str = "cpu") -> Iterator[Trainer]:
    """The trainer of ``gencli train OVERRIDES``, whose ``steps`` are raced; its folder is thrown away."""
    with TemporaryDirectory() as folder:
        quiet = ["trainer.max_steps=1000000", "logger=none", f"device={device}"]
        with Session.open(compose("train", [*quiet, *overrides, f"run_dir={folder}/run"])) as session:
            session.trainer.prepare()
            yield session.trainer
