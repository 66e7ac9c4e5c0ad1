"""SIGKILL at any moment of a training, again and again; resumed to its end, it is the undisturbed run to the bit."""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from campaigns import families, ledger
from campaigns.children import Ended, forked, import_everything
from campaigns.told import said

HELP = "trainings that are killed at random moments and resumed"
LIMIT = 120
"""Seconds of a child; longer is a hang."""

PLACES = {
    "opening": "gencli.training.session:assemble",
    "held": "gencli.run.folder:RunFolder.begin",
    "reopening": "gencli.run.folder:RunFolder.reopen",
    "preparing": "gencli.training.loop:Trainer.prepare",
    "prepared": "gencli.training.loop:Trainer.fit",
    "step": "gencli.training.loop:Trainer._step",
    "validating": "gencli.run.scoring:score_rows",
    "chosen": "gencli.training.validate:Validation.run",
    "saving": "gencli.training.state:State.save",
    "previous": "gencli.run.checkpoint:_go_on_as_previous",
    "loading": "gencli.training.state:State.load",
    "measuring": "gencli.training.session:measured",
    "sampling": "gencli.training.session:draw",
    "keeping": "gencli.training.session:keep",
    "ending": "gencli.training.session:Session._update",
}
"""Functions before or after whose calls a child dies, by a word that says when that is."""


@dataclass(frozen=True)
class Death:
    """A moment at which a training is killed.

    Args:
        kind: ``cpu``, once it has computed for a while; ``file``, before it opens, renames, links or removes a file of
            the run; ``half``, when half of what it writes is on the disk; or one of ``PLACES``.
        share: of the undisturbed run's seconds, files or writes; of a place, which call.
    """

    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind}{self.share:.3f}" if self.kind in ("cpu", "file", "half") else f"{self.kind}{self.call}"

    @property
    def call(self) -> int:
        """Which call of a place; negative: after it."""
        return 1 + int(abs(self.share)) if self.share >= 0 else -1 - int(abs(self.share))


@dataclass(frozen=True)
class Try:
    """A training and its deaths."""

    family: str
    number: int
    deaths: tuple[Death, ...]

    @property
    def name(self) -> str:
        return f"{self.family}/{self.number:03d}-{'-'.join(map(str, self.deaths))}"


def drawn(seed: int, count: int, names: Sequence[str]) -> list[Try]:
    """Tries, the same for the same seed."""
    tries = []
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        often = draw.choices((1, 2, 3), (5, 3, 2))[0]
        tries.append(Try(names[number % len(names)], number, tuple(_death(draw) for _ in range(often))))
    return tries


def _death(draw: random.Random) -> Death:
    kind = draw.choice(("cpu", "file", "half", "place"))
    if kind != "place":
        return Death(kind, draw.random())
    place = draw.choice([*PLACES])
    most = 10 if place in ("step", "validating") else 3 if place in ("saving", "chosen", "previous") else 1
    return Death(place, draw.choice((1, -1)) * draw.uniform(0.001, most))


# --- in the child ----------------------------------------------------------------------------------------------------


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class Counted:
    """Counts changes of files and writes within a run folder, and dies at one of them.

    Args:
        run: the folder.
        file: number of the change before which it dies; 0: at none.
        half: number of the write in the middle of which it dies; 0: at none.
    """

    CHANGES: ClassVar = {
        "os.rename": (0, 1),
        "os.link": (0, 1),
        "os.remove": (0,),
        "os.mkdir": (0,),
        "shutil.rmtree": (0,),
    }
    WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __init__(self, run: Path, file: int = 0, half: int = 0) -> None:
        self.run, self.file, self.half = os.path.realpath(run), file, half
        self.changes = self.writes = 0

    def begin(self) -> None:
        """Watch this process."""
        from gencli.run import checkpoint, folder, reporter

        append, write, save = folder.append, Path.write_bytes, checkpoint.save_file

        def appended(path: Path, text: str) -> None:
            if self._write():
                append(path, text[: len(text) // 2])
                _die()
            append(path, text)

        def written(path: Path, data: bytes) -> int:
            if self._write():
                write(path, data[: len(data) // 2])
                _die()
            return write(path, data)

        def saved(tensors: dict[str, Any], path: Path, **rest: Any) -> None:
            save(tensors, path, **rest)
            if self._write():
                os.truncate(path, path.stat().st_size // 2)
                _die()

        folder.append = reporter.append = appended
        Path.write_bytes = written  # type: ignore[method-assign,assignment]
        checkpoint.save_file = saved
        sys.addaudithook(self)

    def _write(self) -> bool:
        self.writes += 1
        return self.writes == self.half

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & self.WRITES:
                return
            paths: tuple[Any, ...] = args[:1]
        else:
            paths = tuple(args[k] for k in self.CHANGES.get(event, ()))
        if any(isinstance(path, str | os.PathLike) and self._inside(path) for path in paths):
            self.changes += 1
            if self.changes == self.file:
                _die()

    def _inside(self, path: Any) -> bool:
        return os.path.abspath(path).startswith(self.run)


def patched(place: str, act: Callable[[], None], call: int) -> None:
    """Have this process act before a call of a function, or, of a negative number, after it; 0: before each."""
    module, _, name = place.partition(":")
    owner, calls = importlib.import_module(module), 0
    *outer, name = name.split(".")
    for each in outer:
        owner = getattr(owner, each)
    own = getattr(owner, name)

    def acting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if call in (0, calls):
            act()
        found = own(*args, **kwargs)
        if calls == -call:
            act()
        return found

    setattr(owner, name, acting)


# --- one try ---------------------------------------------------------------------------------------------------------


class Killer:
    """Makes tries, one after another; the process has to be young: it forks.

    Args:
        parent: a folder for the undisturbed runs and what is tried.
        names: of the families.
    """

    def __init__(self, parent: Path, names: Sequence[str]) -> None:
        import_everything()
        self.parent = parent
        self.made = families.make(parent, names)
        self.counts = {name: self._count(name) for name in names}

    def _count(self, name: str) -> tuple[int, int]:
        """Changes of files and writes of an undisturbed run."""
        told = self.parent / "counts"

        def work() -> int:
            counted = Counted(self.parent / "counted")
            counted.begin()
            code = families.trained(families.words(name, self.made.folder), self.parent, "counted")
            told.write_text(f"{counted.changes} {counted.writes}")
            return code

        if (ended := forked(work, self.parent, LIMIT)).code:
            raise RuntimeError(f"{name} cannot be trained:\n{ended.err.decode()}")
        shutil.rmtree(self.parent / "counted")
        changes, writes = told.read_text().split()
        return int(changes), int(writes)

    def run(self, one: Try) -> ledger.Outcome:
        """Train, kill, resume, until the end; compare."""
        scratch = Path(tempfile.mkdtemp(prefix="try-", dir=self.parent))
        outcome, began, killed = ledger.Outcome(one.name), time.monotonic(), 0
        try:
            for death in (*one.deaths, None):
                ended = self._child(one.family, scratch, death)
                outcome.code, outcome.line = ended.code, last(ended)
                if death is not None and ended.code == -signal.SIGKILL and ended.seconds < LIMIT:
                    killed += 1
                    outcome.failures += families.damaged(scratch / "run")
                else:
                    outcome.failures += said(ended.code, *ended.texts, LIMIT)
                    outcome.failures += [f"code {ended.code}"] if ended.code else []
                if outcome.failures or not ended.code:
                    break
            if not outcome.failures:
                outcome.failures += families.differences(self.made.folder / one.family, scratch / "run")
            outcome.line = f"killed {killed} times; {outcome.line}"
        finally:
            shutil.rmtree(scratch)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _child(self, family: str, scratch: Path, death: Death | None) -> Ended:
        """Begin, or go on if a run is there, and die."""
        run = scratch / "run"
        if (run / "config.yaml").exists():
            command = ["train", "resume=run"]
        else:
            command = ["train", *families.words(family, self.made.folder), "run_dir=run"]
        return forked(
            lambda: families.called(command, scratch),
            scratch,
            LIMIT,
            lambda: self._arm(family, run, death),
            partial(_kill_after, self.made.seconds[family] * death.share) if death and death.kind == "cpu" else _idle,
        )

    def _arm(self, family: str, run: Path, death: Death | None) -> None:
        if death is None or death.kind == "cpu":
            return
        changes, writes = self.counts[family]
        if death.kind == "file":
            Counted(run, file=1 + int(death.share * changes)).begin()
        elif death.kind == "half":
            Counted(run, half=1 + int(death.share * writes)).begin()
        else:
            patched(PLACES[death.kind], _die, death.call)


def _idle(child: int) -> None:
    pass


def _kill_after(seconds: float, child: int) -> None:
    """SIGKILL once the child has computed that long, however busy the machine is."""
    while True:
        try:
            state, *_ = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            spent = int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            return
        if state in "ZX":
            return
        if spent >= seconds:
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(0.001)


def last(ended: Ended) -> str:
    """The last line that a child said, of its errors first."""
    return next((line for text in reversed(ended.texts) for line in reversed(text.splitlines()) if line.strip()), "")


# --- the campaign ----------------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    ledger.options(parser)


def chosen(args: argparse.Namespace) -> list[Try]:
    """The tries that are asked for."""
    tries = drawn(args.seed, 300, [*families.FAMILIES])
    again = ledger.failed(args.failed) if args.failed else {one.name for one in tries}
    return [one for one in tries if args.only in one.name and one.name in again][: args.limit]


def run(args: argparse.Namespace) -> int:
    """Kill and resume; say what is not as in the undisturbed runs."""
    tries = chosen(args)
    with ledger.folder() as parent:
        killer = Killer(parent, sorted({one.family for one in tries}, key=[*families.FAMILIES].index))
        print(f"{len(tries)} trainings of {len(killer.counts)} families", flush=True)
        outcomes, broken = ledger.spread(tries, killer.run, parent, args)
    kills = sum(_kills(outcomes))
    print(f"{kills} kills")
    return ledger.told(outcomes, broken, args.report)


def _kills(outcomes: Sequence[ledger.Outcome]) -> Iterator[int]:
    return (int(outcome.line.split()[1]) for outcome in outcomes)
