"""Every model on every embedded data set with nothing but ``model= data=`` and a budget.

    python -m benchmarks.defaults
    python -m benchmarks.defaults --out FILE --model maf vae --data moons --steps 300
    python -m benchmarks.defaults --out FILE --table

Rows that the file has are not made again, so that it goes on where it stopped. A pair that cannot be is left out, and
what said so is kept. Each row is a process of its own, on one thread, with a bound on its processor's seconds.

Samples are not drawn. What is worse than ``model=gaussian``, or ``independent`` where x is not real, has a mean that a
few rows hold, or measured longer than it trained, is a defect of the defaults: ``--table`` says so behind its row.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from os import devnull
from pathlib import Path
from typing import Any

import torch

from benchmarks.racing import RESULTS, commit, machine
from gencli.config import catalog
from gencli.config.compose import compose
from gencli.core.bounds import SIGNS
from gencli.core.errors import GencliError, UsageError
from gencli.training.session import Session

EMBEDDED = (
    *("crabs", "moons", "circles", "rings", "spirals", "swissroll", "pinwheel", "checkerboard"),
    *("two_gaussians", "eight_gaussians", "twentyfive_gaussians", "gaussian", "gmm", "synthetic_tabular"),
    *("gray_toys", "categorical_toys", "ising", "florentine", "karate", "lazega", "hmm", "digits"),
)
"""Data that need no files, small ones first; ``mnist`` reads them."""
FIRST = ("gaussian", "independent", "ppca", "gmm", "ngram", "maf", "made", "vae")
"""Models that are held against, and cheap ones; the others follow by name."""
LESSER = ("independent", "ppca")
"""Special cases of a full Gaussian, which cannot be better."""
GRACE = 30.0
"""Seconds that a measurement may take, however short the training was."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=RESULTS / "defaults.json", help="the file of the rows, JSON")
    parser.add_argument("--model", nargs="*", default=[], help="these only")
    parser.add_argument("--data", nargs="*", default=[], help="these only")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=0.5, help="of training, where the steps take longer")
    parser.add_argument("--seconds", type=int, default=240, help="of the processor, for one row in all")
    parser.add_argument("--files", action="store_true", help="MNIST too")
    parser.add_argument("--table", action="store_true", help="print the rows that are there")
    args = parser.parse_args()
    fresh: dict[str, Any] = {
        "benchmark": "defaults",
        "arguments": sys.argv[1:],
        "machine": machine(),
        "tables": [{"rows": {}}],
    }
    kept = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else fresh
    rows: dict[str, Any] = kept["tables"][0]["rows"]
    if args.table:
        print("\n".join(line(name, rows) for name in rows if "refused" not in rows[name]))
        return
    torch.set_num_threads(1)
    for model, data in pairs(args.model, args.data, args.files):
        name = f"{model} {data}"
        if name in rows:
            continue
        rows[name] = row(model, data, args) | {"commit": commit()}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(line(name, rows), flush=True)


def pairs(only: list[str], data: list[str], files: bool) -> Iterator[tuple[str, str]]:
    """Models and data, those that cost least first."""
    models = [*FIRST, *sorted({*catalog.options("model")} - {*FIRST})]
    sets = [*EMBEDDED, *(["mnist"] * files)]
    chosen = [name for name in models if name in only or not only]
    yield from ((model, name) for name in sets if name in data or not data for model in chosen)


def row(model: str, data: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one pair gave, or why there is nothing."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(theirs, model, data, args))
    child.start()
    theirs.close()
    found: dict[str, Any] = {}
    try:
        while True:
            found |= ours.recv()
    except EOFError:
        child.join()
    if child.exitcode and "refused" not in found:
        found["failed"] = f"over {args.seconds} s" if child.exitcode < 0 else "an error"
    return found


def work(pipe: Connection, model: str, data: str, args: argparse.Namespace) -> None:
    """Train and measure in this process, and send what is known as it comes."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + args.seconds, resource.RLIM_INFINITY))
    words = [f"model={model}", f"data={data}", "logger=none", "device=cpu", "n=0"]
    words += [f"trainer.max_steps={args.steps}", f"trainer.max_minutes={args.minutes}"]
    with tempfile.TemporaryDirectory() as folder, open(devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            with Session.open(compose("train", [*words, f"run_dir={folder}/run"])) as session:
                facts = session.folder.info
                pipe.send({"parameters": facts["parameters"], "sizes": facts["sizes"]})
                began = time.process_time()
                session.fit()
                trained = time.process_time()
                pipe.send({"steps": session.trainer.state.step, "train_seconds": round(trained - began, 2)})
                record = session.finish()
                pipe.send({"measure_seconds": round(time.process_time() - trained, 2)})
                if record is not None:
                    entropy = session.parts.dataset.entropy
                    pipe.send({"nll": record.value, "unit": record.unit, "bound": record.bound, "entropy": entropy})
                    error = math.hypot(record.se_examples or 0.0, record.se_estimator or 0.0)
                    pipe.send({"se": error, "n": record.n_examples, "split": record.split})
        except UsageError as error:
            pipe.send({"refused": str(error)})
        except GencliError as error:
            pipe.send({"failed": str(error)})


def baseline(name: str, rows: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of the full Gaussian on the same data, or of independent coordinates where x is not real."""
    data = name.split()[1]
    found = (rows.get(f"{model} {data}", {}) for model in ("gaussian", "independent"))
    return next((row for row in found if "nll" in row), None)


def defects(name: str, rows: Mapping[str, Any]) -> list[str]:
    """What of a row speaks against the defaults."""
    found, base = rows[name], baseline(name, rows)
    told = [found["failed"]] if "failed" in found else []
    fair = base is not None and name.split()[0] not in LESSER and "nll" in found
    if base and fair and found["nll"] > base["nll"] + 3 * math.hypot(found["se"], base["se"]):
        told.append("worse than the baseline")
    if base and fair and found["n"] >= 1000 and found["se"] > 0.5 + 10 * base["se"]:
        told.append("a few rows are far worse than all others")
    if found.get("measure_seconds", 0) > found.get("train_seconds", math.inf) + GRACE:
        told.append("measured longer than it trained")
    return told


def line(name: str, rows: Mapping[str, Any]) -> str:
    """One row for people, with the baseline of its data beside it."""
    model, data = name.split()
    found, base = rows[name], baseline(name, rows)
    if "refused" in found:
        return f"{model:14} {data:20} refused: {found['refused'][:60]}"
    nll = f"{SIGNS[found['bound']]:>2} {found['nll']:10.3f}" if "nll" in found else f"{'-':>13}"
    beside = f"{found['nll'] - base['nll']:+10.3f}" if base and "nll" in found else " " * 10
    times = (f"{found.get(key, math.nan):8.1f}" for key in ("train_seconds", "measure_seconds"))
    size = f"{found.get('parameters', 0):>11,}"
    told = "; ".join(defects(name, rows))
    return f"{model:14} {data:20} {size} {nll} {beside} {' '.join(times)} {told}".rstrip()


def shown(tables: Sequence[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """What a document shows of a result: a line, a column for each data set, a row for each model."""
    rows = tables[0]["rows"]
    models, sets = (list(dict.fromkeys(name.split()[place] for name in rows)) for place in (0, 1))
    lines = [[f"`{model}`", *(cell(f"{model} {data}", rows) for data in sets)] for model in models]
    return "NLL in nats", ["", *(f"`{data}`" for data in sets)], [row for row in lines if any(row[1:])]


def cell(name: str, rows: Mapping[str, Any]) -> str:
    """One number with its sign and error; a star where something speaks against it; nothing where a pair cannot be."""
    found = rows.get(name, {"refused": ""})
    if "refused" in found:
        return ""
    number = f"{SIGNS[found['bound']]} {short(found['nll'], found['se'])}" if "nll" in found else "none"
    return f"{number} *" if defects(name, rows) else number


def short(value: float, error: float) -> str:
    """A number with the two digits of its error that stand in the last places.

    Example:
        >>> short(3.29309, 0.0039), short(101.0827, 0.58), short(88.486, 1.6), short(0.5, 0.0)
        ('3.2931(39)', '101.08(58)', '88.5(1.6)', '0.500')
    """
    if not error > 0:
        return f"{value:.3f}"
    if error >= 0.95:
        return f"{value:.1f}({error:.1f})"
    decimals = 1 - math.floor(math.log10(error))
    return f"{value:.{decimals}f}({error * 10**decimals:.0f})"


if __name__ == "__main__":
    main()
