"""Errors of ``ais`` and ``bridge`` on Ising tori by the same number of transitions, against the exact log Z.

Both start at independent bits, with settings that a user would take. ``bridge`` runs its chains up and down, so that
``ais`` has twice as many of them. A row tells the root mean square error of each over independent estimates, their
ratio, and the root mean square of the standard errors that were stated; and the ratio to the forward run that
``bridge`` has, ``ais`` of as many chains.

    python -m benchmarks.partition --estimates 40
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.racing import Report, benchmark
from gencli.core.noise import StepNoise
from gencli.core.spec import Batch, Spec, Support
from gencli.estimators.ais import AIS
from gencli.estimators.annealed import Annealed
from gencli.estimators.bridge import Bridge
from gencli.estimators.solved import Kaufman
from gencli.models.energy.ising import Ising
from gencli.models.energy.reference import Reference

SIDES, COUPLINGS = (4, 8, 10), (0.2, 0.4406867935)
CHAINS, BETAS = 64, 100
CPU = torch.device("cpu")


def errors(estimator: Annealed, model: Ising, exact: float, estimates: int) -> tuple[float, float]:
    """Root mean squares of the errors, and of the standard errors that were stated."""
    x = (torch.rand(2000, *model.spec.shape, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    found = [estimator.prepare(model, Batch(x), StepNoise(CPU, seed)) for seed in range(estimates)]
    away = torch.tensor([float(shared.state) - exact for shared in found])
    stated = torch.tensor([float(shared.variance) for shared in found])
    return float(away.square().mean().sqrt()), float(stated.mean().sqrt())


def shown(tables: Sequence[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """What a document shows of a result: a line, columns, rows."""
    columns = ["L", "K", "log Z", "`ais`", "it states", "`bridge`", "it states", "`ais`, half the chains", "it states"]
    columns += ["`bridge` to `ais`", "to half the chains"]
    rows = [
        [f"{value:.{7 if column == 2 else 4}g}" for column, value in enumerate(row.values())]
        for row in tables[0]["rows"]
    ]
    return f"log Z of Ising tori: {tables[0]['title']}, {CHAINS} chains each way, {BETAS} steps", columns, rows


def main(report: Report, estimates: int) -> None:
    rows = []
    for side in SIDES:
        for K in COUPLINGS:
            model = Ising(Spec((1, side, side), Support.parse("binary")), K=K)
            empty = Batch(torch.zeros(1, 1, side, side))
            exact = float(Kaufman().prepare(model, empty, StepNoise(CPU, 0)).state)
            row: dict[str, float] = {"L": side, "K": K, "log_z": exact}
            for name, kind, chains in (("ais", AIS, 2 * CHAINS), ("bridge", Bridge, CHAINS), ("forward", AIS, CHAINS)):
                estimator = kind(base=lambda spec: Reference(spec), chains=chains, betas=BETAS)
                row[name], row[f"{name}_stated"] = errors(estimator, model, exact, estimates)
            row["ratio"], row["to_forward"] = row["bridge"] / row["ais"], row["bridge"] / row["forward"]
            rows.append(row)
            print("  ".join(f"{key} {value:.5g}" for key, value in row.items()), flush=True)
    report.tables = [{"title": f"root mean square errors of {estimates} estimates", "rows": rows}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimates", type=int, default=40)
    options = parser.parse_args()
    with benchmark("partition") as report:
        main(report, options.estimates)
