"""Every objective of energies on four toys at one budget: NLL - H by quadrature, CPU seconds, a mode's weight.

The model is ``ebm``, a small network that tilts a Gaussian; every objective has its default options, and its own score
on the validation split chooses the checkpoint. Seconds are of the process, validation and quadrature included.
``weight`` is the mass of the half-plane of the lighter mode of two_gaussians, which holds 0.2 of the data.

    python -m benchmarks.energies                                3000 steps each
    python -m benchmarks.energies --minutes 1 --only cd nce      a minute each, two objectives
    python -m benchmarks.energies --weight outputs/two_nce       of a run on two_gaussians that is there already
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import gencli
from benchmarks.racing import benchmark
from gencli.core.errors import RunFailed
from gencli.estimators.partition import Quadrature
from gencli.methods import cubature
from gencli.models.base import Unnormalized

TOYS = ("moons", "eight_gaussians", "twentyfive_gaussians", "two_gaussians")
OBJECTIVES = (
    "cd",
    "pcd",
    "mcmc_mle",
    "nce",
    "score_matching",
    "sliced_score_matching",
    "denoising_score_matching",
    "diffusion_score_matching",
    "energy_discrepancy",
)


def left_weight(model: Unnormalized) -> float:
    """Mass of x_1 < 0 by quadrature over [-32, 32]^2."""
    f = Quadrature().log_density(model, next(model.parameters()))
    masses = []
    for side in (-16.0, 16.0):
        mesh = cubature.Mesh(f, torch.empty(0, 2, dtype=torch.float64), finest=1e-6)
        mesh.add(*cubature.grid(torch.tensor([side, 0.0]).double(), torch.tensor([16.0, 32.0]).double(), 32))
        mesh.refine(1e-4, 1_000_000)
        masses.append(mesh.log_mass)
    return float(torch.sigmoid(masses[0] - masses[1]))


def energy_of(run: gencli.Run) -> Unnormalized:
    """The energy of a run."""
    if not isinstance(run.model, Unnormalized):
        sys.exit(f"{run.path} is no run of an energy")
    return run.model


@dataclass
class Entry:
    """One run: NLL - H in nats, CPU seconds, the mass of the lighter mode; or why it failed."""

    objective: str
    toy: str
    kullback_leibler: float | None = None
    seconds: float | None = None
    weight: float | None = None
    failed: str | None = None

    def __str__(self) -> str:
        if self.failed is not None:
            return f"failed: {self.failed}"
        weight = "" if self.weight is None else f", weight {self.weight:.3f}"
        return f"{self.kullback_leibler:.3f}, {self.seconds:.0f} s{weight}"


def entry(objective: str, toy: str, budget: list[str]) -> Entry:
    """Train and measure; the first words of the error where it failed."""
    options = ["model=ebm", "model.net.vector.hidden=[64,64,64]", f"data={toy}", "data.val=5000"]
    options += ["estimator=quadrature", f"objective={objective}", "optimizer=adam", "optimizer.lr=2.0e-3"]
    options += ["trainer.eval_every=500", "logger=none", "n=0"]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        try:
            run = gencli.train([*options, *budget, f"run_dir={folder}/x"])
        except RunFailed as error:
            return Entry(objective, toy, failed=str(error).split(":")[0].split(";")[0])
        seconds = time.process_time() - began
        weight = left_weight(energy_of(run)) if toy == "two_gaussians" else None
        return Entry(objective, toy, run.results[0]["diagnostics"]["nll_minus_entropy"], seconds, weight)


def shown(tables: Sequence[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """What a document shows of a result: a line, columns, a row an objective."""
    cells: dict[str, list[str]] = {}
    for cell in tables:
        cells.setdefault(cell["objective"], []).append(str(Entry(**cell)))
    text = "NLL - H in nats of every objective of energies on four toys, one small network, with CPU seconds"
    return text, ["objective", *TOYS], [[objective, *row] for objective, row in cells.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, default=3000, help="training steps of each run")
    budget.add_argument("--minutes", type=float, help="training minutes of each run, in place of steps")
    parser.add_argument("--only", nargs="+", choices=OBJECTIVES, default=OBJECTIVES, metavar="OBJECTIVE")
    parser.add_argument("--weight", metavar="RUN", help="print the weight that a finished run on two_gaussians gives")
    arguments = parser.parse_args()
    if arguments.weight:
        print(f"weight {left_weight(energy_of(gencli.load(arguments.weight))):.4f}")
        return
    steps, minutes = (None, arguments.minutes) if arguments.minutes else (arguments.steps, None)
    limits = [f"trainer.max_steps={steps or 'null'}", f"trainer.max_minutes={minutes or 'null'}"]
    with benchmark("energies") as report:
        print("| objective | " + " | ".join(TOYS) + " |", "|---" * (1 + len(TOYS)) + "|", sep="\n", flush=True)
        for objective in arguments.only:
            row = [entry(objective, toy, limits) for toy in TOYS]
            print(f"| {objective} | " + " | ".join(map(str, row)) + " |", flush=True)
            report.tables += [asdict(cell) for cell in row]


if __name__ == "__main__":
    main()
