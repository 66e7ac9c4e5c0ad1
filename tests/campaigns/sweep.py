"""A sweep that is killed, and jobs of it: each job is done once, to the bit of an undisturbed sweep."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from campaigns import ledger
from campaigns.told import metrics, records

HELP = "a sweep that is killed, and jobs of it"
ROOT = Path(__file__).resolve().parents[2]
TINY = (
    *("model=maf", "model.hidden=[8]", "model.transforms=2", "data=moons", "data.train=200", "data.val=40"),
    *("data.test=40", "trainer.batch_size=32", "trainer.max_steps=30", "trainer.eval_every=5", "trainer.log_every=5"),
    *("logger=none", "n=0", "device=cpu"),
)


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of who is killed")


def run(args: argparse.Namespace) -> int:
    """Kill a sweep and single jobs of it at random moments, start it again until it is done, compare with another."""
    draw = random.Random(args.seed)
    words = [*TINY, "optimizer.lr=1e-3,3e-3", f"seed=range({args.jobs // 2})", "sweep.workers=2"]
    with ledger.folder() as parent:
        began = time.monotonic()
        if code := _sweep(parent, "undisturbed", words).wait():
            print((parent / "undisturbed.log").read_text())
            return code
        good = _runs(parent / "undisturbed")
        victims = ["sweep", "job", *draw.choices(["sweep", "job"], k=args.kills)][: args.kills]
        draw.shuffle(victims)
        kills = [*zip(sorted(draw.sample(range(len(good)), args.kills)), victims, strict=True)]
        print(f"{len(good)} jobs undisturbed; who is killed when so many are done: {kills}", flush=True)
        first_end: dict[str, int] = {}
        code, starts = _disturbed(parent, words, kills, draw, first_end)
        found = _runs(parent / "disturbed")
        went_on = sum("resuming" in (run / "train.log").read_text() for run in found.values())
        seconds = f"{time.monotonic() - began:.0f} s"
        print(f"{starts} starts, {went_on} jobs went on from a checkpoint, {len(found)} of {len(good)} done, {seconds}")
        wrong = _wrong(good, found, first_end)
        print("\n".join(wrong) or "every job ended once; records, metrics and weights are the same to the bit")
        return int(bool(wrong or code))


def _disturbed(
    parent: Path, words: list[str], kills: list[tuple[int, str]], draw: random.Random, first_end: dict[str, int]
) -> tuple[int, int]:
    """Start, kill, start again until the sweep is done: (last exit code, starts)."""
    process, starts = _sweep(parent, "disturbed", words), 1
    for moment, victim in kills:
        while not (target := _target(parent / "disturbed", process.pid, victim, moment, draw, first_end)):
            if process.poll() is not None:  # of a job that was killed: what is left is begun again
                process, starts = _sweep(parent, "disturbed", words), starts + 1
            time.sleep(0.02)
        os.kill(target, signal.SIGKILL)
        if victim == "sweep":
            process.wait()
            process, starts = _sweep(parent, "disturbed", words), starts + 1
    while process.wait() and starts < len(kills) + 10:
        process, starts = _sweep(parent, "disturbed", words), starts + 1
    _finished(parent / "disturbed", first_end)
    return process.returncode, starts


def _wrong(good: dict[str, Path], found: dict[str, Path], first_end: dict[str, int]) -> list[str]:
    """What differs between the two sweeps, a line each."""
    from runs import same, tensors

    wrong = [f"{name}: {'missing' if name in good else 'too much'}" for name in good.keys() ^ found.keys()]
    for name in sorted(good.keys() & found.keys()):
        one, other = good[name], found[name]
        if (ends := _ends(other)) != 1:
            wrong.append(f"{name}: ended {ends} times")
        if first_end.get(name) != _changed(other):
            wrong.append(f"{name}: touched after its end")
        wrong += [f"{name}: {a} is now {b}" for a, b in itertools.zip_longest(_told(one), _told(other)) if a != b]
        wrong += [f"{name}: tensor {key}" for key in same(tensors(one), tensors(other))]  # type: ignore[no-untyped-call]
    return wrong


def _sweep(parent: Path, name: str, words: list[str]) -> subprocess.Popen[bytes]:
    """One start of the sweep."""
    own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (parent / f"{name}.log").open("ab") as log:
        command = [sys.executable, "-m", "gencli", "train", "-m", *words, f"sweep.dir={name}"]
        return subprocess.Popen(command, cwd=parent, env=own, stdout=log, stderr=log)


def _runs(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in folder.glob("*/run.json")}


def _info(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def _changed(run: Path) -> int:
    return (run / "run.json").stat().st_mtime_ns


def _ends(run: Path) -> int:
    return sum(" finished: " in line for line in (run / "train.log").read_text().splitlines())


def _finished(folder: Path, first_end: dict[str, int]) -> int:
    """How many jobs are done; notes when each was written last when it was seen done first."""
    for name, run in _runs(folder).items():
        if name not in first_end and _info(run).get("status") == "finished":
            first_end[name] = _changed(run)
    return len(first_end)


def _target(
    folder: Path, process: int, victim: str, moment: int, draw: random.Random, first_end: dict[str, int]
) -> int | None:
    """Whom to kill now: the sweep, or a job that trains; None while too few jobs are done."""
    if _finished(folder, first_end) < moment:
        return None
    time.sleep(draw.uniform(0, 0.5))
    if victim == "sweep":
        return process
    running = [info for run in _runs(folder).values() if (info := _info(run)).get("status") == "running"]
    training = [info["process"]["pid"] for info in running if info.get("progress", {}).get("step", 0)]
    alive = [pid for pid in training if Path(f"/proc/{pid}").exists()]
    return draw.choice(alive) if alive else None


def _told(run: Path) -> list[dict[str, Any]]:
    """What a run says, without times: its metrics and its records."""
    return metrics(run) + records(run)
