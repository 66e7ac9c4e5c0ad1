"""Rights that lack, folders that go while they are used, several processes at one run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from campaigns import faults
from campaigns.children import Ended
from campaigns.faulty import NOBODY, READING, STEPS, VERBS, WORDS, Room, Try, told


def tries(draw: random.Random) -> Iterator[Try]:
    """All of them."""
    yield from _rights()
    yield from _gone(draw)
    yield from _writers(draw)
    yield from _readers()


# --- rights ----------------------------------------------------------------------------------------------------------

FORBIDDEN = (
    *("run", "run/checkpoints", "run/eval", "run/config.yaml", "run/run.json", "run/metrics.jsonl", "run/train.log"),
    *("run/checkpoints/last.safetensors", "run/checkpoints/best.safetensors", "run/eval/test-exact.json", "run/.lock"),
    *("run/eval/test-exact.npz", "."),
)
RESUME = ["train", "resume=disk/run", "n=0", "device=cpu"]


def _rights() -> Iterator[Try]:
    verbs = {**VERBS, **READING, "resume": RESUME}
    chosen = ("sample", "eval", "report", "compare", "card", "ls", "resume")
    for k, name in enumerate(FORBIDDEN):
        for verb in (chosen[k % 6], "resume") if name not in ("run", ".") else chosen:
            yield Try(f"rights/none-{name}-{verb}", _forbidden(name, 0, verbs[verb]), "half", owner=NOBODY)
    for name in ("run", "run/checkpoints", "run/eval", "."):
        for verb in ("sample", "eval", "report", "resume", "new"):
            if name in ("run", ".") or verb in ("eval", "resume"):
                yield Try(f"rights/reading-{name}-{verb}", _forbidden(name, 0o555, verbs[verb]), "half", owner=NOBODY)


def _forbidden(name: str, mode: int, words: Sequence[str]) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        path = room.disk / name
        if not path.exists() and name != ".":  # of a run that has not ended
            shutil.copytree(room.server.good / "whole" / "eval", room.run / "eval", dirs_exist_ok=True)
            (room.run / ".lock").touch()
            os.chown(room.run / ".lock", NOBODY, NOBODY)
        room.note()
        old = path.stat().st_mode
        path.chmod(mode)
        ended = room.command(words, user=NOBODY)
        if not path.exists():
            room.fail(f"{name} is removed")
            return
        path.chmod(old)
        room.refused(ended, "disk", path.name, codes=(0, 1, 2))
        room.tidy()
        if name.startswith("run/eval"):
            shutil.rmtree(room.run / "eval")
        room.keeps()

    return act


# --- folders that go -------------------------------------------------------------------------------------------------


def _gone(draw: random.Random) -> Iterator[Try]:
    moments = draw.choices(range(STEPS // 2, STEPS), k=8)
    for k, how in enumerate(("deleted", "renamed", "replaced")):
        for step in moments[2 * k : 2 * k + 2]:
            yield Try(f"gone/{how}-step{step}-{k}{moments.index(step)}", _left(step, how), "half")
    for k, name in enumerate(("metrics.jsonl", "run.json", "train.log", "config.yaml", "checkpoints", ".lock")):
        yield Try(f"gone/part-{name}", _without(name, moments[k]), "half")
    for verb, (module, name) in {
        "sample": ("gencli.cli.sample", "keep"),
        "eval": ("gencli.run.measure", "inside"),
        "picture": ("gencli.cli.sample", "inside"),
        "report": ("gencli.cli.report", "write_whole"),
    }.items():
        yield Try(f"gone/{verb}", _gone_before(VERBS[verb], module, name))


def _left(step: int, how: str) -> Callable[[Room], None]:
    def go(room: Room) -> None:
        if how == "deleted":
            shutil.rmtree(room.run)
            return
        room.run.rename(room.disk / "elsewhere")
        if how == "replaced":
            room.run.mkdir()
            (room.run / "mine.txt").write_text("mine")

    def act(room: Room) -> None:
        def meets(run: Path) -> None:
            room.note()
            go(room)

        ended = room.command(RESUME, lambda: faults.at_step(step, meets))
        room.refused(ended, "disk/run")
        room.tidy()
        if how == "replaced":
            found = sorted(path.name for path in room.run.iterdir())
            room.failures += [f"in the folder of another: {found}"] if found != ["mine.txt"] else []
        elif room.run.exists():
            room.fail(f"made anew: {sorted(path.name for path in room.run.iterdir())}")
        if how != "deleted":
            room.keeps(room.disk / "elsewhere")

    return act


def _without(name: str, step: int) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        def meets(run: Path) -> None:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

        ended = room.command(RESUME, lambda: faults.at_step(step, meets))
        room.refused(ended, "disk/run", codes=(0, 1))
        room.tidy()

    return act


def _gone_before(words: Sequence[str], module: str, name: str) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        begin = lambda: faults.before(module, name, lambda: shutil.rmtree(room.run, ignore_errors=True))  # noqa: E731
        room.refused(room.command(words, begin), "disk/run")
        room.tidy()
        if room.run.exists():
            room.fail("made anew")

    return act


# --- several at once -------------------------------------------------------------------------------------------------


def _writers(draw: random.Random) -> Iterator[Try]:
    for count in (2, 10):
        yield Try(f"writers/resume-{count}", _resumed(count), "half")
        yield Try(f"writers/new-{count}", _begun(count, "run_dir=disk/run"), "")
        yield Try(f"writers/default-{count}", _apart(count), "")
        for verb in ("sample", "eval", "report"):
            yield Try(f"writers/{verb}-{count}", _alike(count, VERBS[verb]))
    for step in draw.sample(range(STEPS // 2 + 1, STEPS), 3):
        yield Try(f"writers/killed-step{step}", _killed(step), "half")
    yield Try("writers/sweeps-2", _sweeps(2), "")


def _one_of(room: Room, found: Sequence[Ended]) -> None:
    """One of them has trained, and the others were refused in one line that names the run."""
    codes = sorted(ended.code for ended in found)
    if codes != [0] + [2] * (len(found) - 1):
        room.fail(f"exit codes {codes}")
    for ended in found:
        room.refused(ended, "disk/run", codes=(0, 2))
    room.tidy()
    lines = (room.run / "metrics.jsonl").read_text().splitlines()
    if len({*lines}) < len(lines):
        room.fail(f"{len(lines) - len({*lines})} lines of metrics are there twice")
    room.same()


def _slow(number: int) -> None:
    """So slow that others come while it trains."""
    for step in range(STEPS):
        faults.at_step(step, lambda run: time.sleep(0.1))


def _resumed(count: int) -> Callable[[Room], None]:
    return lambda room: _one_of(room, room.at_once(count, lambda number: RESUME, _slow))


def _begun(count: int, where: str) -> Callable[[Room], None]:
    return lambda room: _one_of(room, room.at_once(count, lambda number: ["train", *WORDS, where], _slow))


def _apart(count: int) -> Callable[[Room], None]:
    """Runs without a name that begin at once have a folder each."""

    def act(room: Room) -> None:
        found = room.at_once(count, lambda number: ["train", *WORDS], lambda number: None)
        runs = [path.parent for path in (room.scratch / "outputs").glob("*/*/run.json")]
        if len(runs) != count or any(ended.code for ended in found):
            room.fail(f"{len(runs)} runs, exit codes {[ended.code for ended in found]}")
        for run in runs:
            room.same(run)
        room.tidy()

    return act


def _alike(count: int, words: Sequence[str]) -> Callable[[Room], None]:
    """Those that write one file at once all do, and it is whole."""

    def act(room: Room) -> None:
        room.command(words)
        before = dict(room.files())
        found = room.at_once(count, lambda number: words, lambda number: None)
        if any(ended.code for ended in found):
            room.fail(f"exit codes {[ended.code for ended in found]}")
        after = dict(room.files())
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name) and not name.startswith("eval/"):
                whole = name == "report.html" and after[name].rstrip().endswith(b"</html>")  # it tells the time
                room.failures += [] if whole else [f"{name} differs"]
        if told(room.run) != room.server.same[1]:
            room.fail("records differ")
        room.tidy()

    return act


def _killed(step: int) -> Callable[[Room], None]:
    """Two at a run whose training was just killed: one goes on."""

    def act(room: Room) -> None:
        ended = room.command(RESUME, lambda: faults.at_step(step, lambda run: os.kill(os.getpid(), signal.SIGKILL)))
        room.failures.clear()  # of the kill
        if ended.code != -signal.SIGKILL:
            room.fail(f"exit code {ended.code}, not killed")
        _one_of(room, room.at_once(2, lambda number: RESUME, _slow))

    return act


def _sweeps(count: int) -> Callable[[Room], None]:
    """Sweeps of one folder at once: one runs, and starting it again finds all done."""

    def act(room: Room) -> None:
        words = VERBS["sweep"]
        found = room.at_once(count, lambda number: words, lambda number: None)
        if sorted(ended.code for ended in found) != [0] + [2] * (count - 1):
            room.fail(f"exit codes {[ended.code for ended in found]}")
        runs = sorted((room.disk / "sweep").glob("*/run.json"))
        if len(runs) != 2 or room.command(words).code:
            room.fail(f"{len(runs)} runs of 2")
        for run in runs:
            log = (run.parent / "train.log").read_text()
            if log.count(" finished: ") != 1:
                room.fail(f"{run.parent.name} ended {log.count(' finished: ')} times")

    return act


def _readers() -> Iterator[Try]:
    for verb in ("sample", "eval", "report-out", "compare", "card", "ls"):
        yield Try(f"readers/{verb}", _beside({**VERBS, **READING}[verb]), "half")


def _beside(words: Sequence[str]) -> Callable[[Room], None]:
    """One reads again and again while another trains: it never fails, and training is that of one that was alone."""

    def act(room: Room) -> None:
        shutil.copytree(room.server.good / "whole" / "eval", room.run / "eval", dirs_exist_ok=True)

        def read(child: int) -> None:
            while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                ended = room.command(words, place="reader")
                if ended.code:
                    room.fail(f"the reader: {ended.err.decode(errors='replace')[:200]!r}")

        ended = room.command(RESUME, lambda: _slow(0), meanwhile=read)
        if ended.code:
            room.fail(f"the writer: {ended.err.decode(errors='replace')[:200]!r}")
        room.same()
        room.tidy()

    return act
