"""Search by TPE with pruning against random search: best validation bits/dim at equal total steps.

``python -m benchmarks.search --trials 30 --steps 600 --seeds 3`` trains RealNVP on the embedded digits. Random search
trains its trials to the end. TPE with successive halving may take as many steps in all: trials go on until these are
spent. Both search learning rate, weight decay, the rate of the EMA and the batch size, with one seed of training; the
table has a row for each seed of the search, and the medians. The test split is measured for what is chosen, as every
search ends; it plays no part here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from benchmarks.racing import RESULTS, Report

SPACES = (
    "optimizer.lr=tag(log,interval(1e-5,3e-2))",
    "optimizer.weight_decay=tag(log,interval(1e-6,1e-1))",
    "trainer.ema_decay=interval(0.9,0.999)",
    "trainer.batch_size=32,64,128,256",
)
FIXED = ("data=digits", "model=realnvp", "logger=none", "n=0", "seed=0", "device=cpu")


def searched(folder: Path, trials: int, steps: int, *words: str) -> optuna.Study:
    """A search, and its study; an earlier one of this folder goes on."""
    every = max(1, steps // 12)
    own = (f"trainer.max_steps={steps}", f"trainer.eval_every={every}", f"trainer.log_every={every}")
    where = (f"search.trials={trials}", f"sweep.dir={folder}", "sweep.workers=1")
    command = [sys.executable, "-m", "gencli", "train", "-m", *FIXED, *own, *SPACES, *words, *where]
    code = subprocess.run(command, check=False).returncode  # a process of its own can fork its jobs
    if code not in (0, 1):
        raise SystemExit(code)
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'search.db'}")


def spent(study: optuna.Study, folder: Path) -> int:
    """Training steps of all trials."""
    runs = [Path(trial.user_attrs["job"]["run"]) for trial in study.trials if "job" in trial.user_attrs]
    infos = [json.loads(file.read_text()) for run in runs if (file := folder / run.name / "run.json").is_file()]
    return sum((info.get("progress") or {}).get("step", 0) for info in infos)


def best(study: optuna.Study) -> float:
    """Validation bits/dim of the chosen trial."""
    return float(study.best_trial.user_attrs["result"]["bits_per_dim"])


def compare(folder: Path, seed: int, trials: int, steps: int) -> dict[str, Any]:
    """Both searches with one seed."""
    words = (f"search.seed={seed}",)
    random = searched(folder / f"random-{seed}", trials, steps, "search=random", *words)
    budget = spent(random, folder / f"random-{seed}")
    own, count = folder / f"tpe-{seed}", trials
    tpe = searched(own, count, steps, "search=tpe", "search.pruner=halving", *words)
    while spent(tpe, own) <= budget - steps and count < 20 * trials:  # a whole trial is left
        count += max(1, (budget - spent(tpe, own)) // steps)
        tpe = searched(own, count, steps, "search=tpe", "search.pruner=halving", *words)
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in tpe.trials)
    return {
        "seed": seed,
        "random": best(random),
        "tpe": best(tpe),
        "random_steps": budget,
        "tpe_steps": spent(tpe, own),
        "random_trials": len(random.trials),
        "tpe_trials": len(tpe.trials),
        "tpe_pruned": pruned,
    }


def shown(tables: Sequence[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """What a document shows of a result: a line, columns, a row a seed and one of medians."""
    columns = ["seed of the search", "random", "TPE, successive halving", "trials", "of these pruned", "steps in all"]
    rows = []
    for row in tables[0]["rows"]:
        trials, steps = (f"{row[f'random_{of}']} and {row[f'tpe_{of}']}" for of in ("trials", "steps"))
        rows.append(
            [str(row["seed"]), f"{row['random']:.4f}", f"{row['tpe']:.4f}", trials, str(row["tpe_pruned"]), steps]
        )
    medians = tables[0]["median"]
    rows.append(["median", f"{medians['random']:.4f}", f"{medians['tpe']:.4f}", "", "", ""])
    return "Validation bits/dim of the chosen trial, RealNVP on the digits, equal steps in all", columns, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6, help="of random search")
    parser.add_argument("--steps", type=int, default=60, help="of a trial that is trained to the end")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where the searches lie; the same one again goes on")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.dir or Path(scratch)).absolute()
        rows = [compare(folder, seed, options.trials, options.steps) for seed in range(options.seeds)]
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    medians = {name: statistics.median(row[name] for row in rows) for name in ("random", "tpe")}
    print(f"median validation bits/dim: random {medians['random']:.4f}, tpe with pruning {medians['tpe']:.4f}")
    report = Report("search")
    report.tables = [{"title": "validation bits/dim of the chosen trial", "rows": rows, "median": medians}]
    print(report.write(options.out))


if __name__ == "__main__":
    main()
