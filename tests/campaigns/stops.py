"""Signals at every phase of a command: what is there is saved, how to go on is told, and it ends as if undisturbed."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaigns import families, kills, ledger
from campaigns.children import Ended, forked, import_everything
from campaigns.told import said

HELP = "signals and closed pipes at every phase of train, sample, eval and sweeps"
TRAINED = ("flow", "vae", "gan", "diffusion", "ergm", "text")
"""Families whose trainings are stopped; samples and numbers are those of the first."""

PHASES = {
    "train": {
        **{"composing": "gencli.config.command:prepare", "opening": "gencli.training.session:assemble"},
        **{"held": "gencli.run.folder:RunFolder.begin", "preparing": "gencli.training.loop:Trainer.prepare"},
        **{"prepared": "gencli.training.loop:Trainer.fit", "step": "gencli.training.loop:Trainer._step"},
        **{"validating": "gencli.run.scoring:score_rows", "saving": "gencli.run.checkpoint:save_file"},
        **{"previous": "gencli.run.checkpoint:_go_on_as_previous", "logging": "gencli.run.folder:append"},
        **{"measuring": "gencli.training.session:measured", "recording": "gencli.run.measure:write_whole"},
        **{"sampling": "gencli.training.session:draw", "keeping": "gencli.training.session:keep"},
        **{"picture": "gencli.pictures.style:rendered", "ending": "gencli.training.session:Session._update"},
    },
    "sample": {
        **{"composing": "gencli.config.command:prepare", "opening": "gencli.cli.sample:open_run"},
        **{"sampling": "gencli.cli.sample:draw", "keeping": "gencli.pictures.export:write_whole"},
        **{"picture": "gencli.pictures.style:rendered", "writing": "gencli.pictures.files:write_whole"},
    },
    "eval": {
        **{"composing": "gencli.config.command:prepare", "opening": "gencli.cli.eval:open_run"},
        **{"validating": "gencli.run.scoring:score_rows", "writing": "gencli.run.measure:write_whole"},
        **{"recording": "gencli.run.measure:write_sealed"},
    },
    "sweep": {
        **{"composing": "gencli.config.command:multirun", "warming": "gencli.sweeps.launcher:_warm"},
        **{"waiting": "gencli.sweeps.pool:Pool.wait", "starting": "gencli.sweeps.pool:Pool.start"},
        **{"noting": "gencli.sweeps.folder:SweepFolder.note"},
    },
}
"""Functions before or after whose calls a signal comes, by verb."""

AGAIN = (
    "gencli.run.checkpoint:save_file",
    "gencli.run.checkpoint:_go_on_as_previous",
    "gencli.run.folder:write_sealed",
)
"""Where a second signal comes: while what the first one asked for is saved."""

SIGNALS = ("INT", "TERM", "HUP", "PIPE", "LEAVE")
"""``PIPE`` is the signal itself, ``LEAVE`` the end of who reads the standard output."""
OFTEN = {"step": 10, "validating": 8, "saving": 4, "previous": 2, "logging": 12, "waiting": 6, "starting": 2}
MOST = 1.0
"""Seconds of the CPU between a signal and the end."""


@dataclass(frozen=True)
class Try:
    """A command and what happens to it.

    Args:
        call: before which call of the phase; negative: after it.
        twice: whether the signal comes again while the run is being saved.
    """

    number: int
    verb: str
    family: str
    signal: str
    phase: str
    call: int
    twice: bool = False

    @property
    def name(self) -> str:
        return (
            f"{self.verb}/{self.number:03d}-{self.family}-{self.signal}-{self.phase}{self.call}" + "-twice" * self.twice
        )


def drawn(seed: int, count: int) -> list[Try]:
    """Tries, the same for the same seed."""
    found = []
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        verb = draw.choices(("train", "sample", "eval", "sweep"), (12, 3, 3, 2))[0]
        phase = draw.choice([*PHASES[verb]])
        call = draw.choice((1, -1)) * draw.randint(1, OFTEN.get(phase, 1))
        family = draw.choice(TRAINED) if verb == "train" else TRAINED[0]
        name = draw.choices(SIGNALS, (3, 3, 3, 1, 1))[0]
        twice = verb == "train" and name in SIGNALS[:3] and draw.random() < 0.3
        found.append(Try(number, verb, family, name, phase, call, twice))
    return found


# --- in the child ----------------------------------------------------------------------------------------------------


class Moment:
    """Sends the signal, once or twice, and measures what is computed after it.

    Args:
        one: the try.
        told: a file that gets the seconds between the first signal and the end, and the steps taken meanwhile.
    """

    def __init__(self, one: Try, told: Path) -> None:
        self.one, self.told = one, told
        self.sent: float | None = None
        self.steps, self.again = 0, False
        self.reader = -1

    def begin(self) -> None:
        """The hooks, the pipe."""
        kills.patched("gencli.training.loop:Trainer._step", self._count, 0)
        kills.patched(PHASES[self.one.verb][self.one.phase], self.act, self.one.call)
        if self.one.twice:
            for place in AGAIN:
                kills.patched(place, self._again, 0)
        if self.one.signal == "LEAVE":
            self.reader, writer = os.pipe()
            os.dup2(writer, 1)
            os.close(writer)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115

    def act(self) -> None:
        """The first signal."""
        self.told.write_text("0 0")
        self.sent = time.process_time()
        if self.one.signal == "LEAVE":
            os.close(self.reader)
        else:
            os.kill(os.getpid(), getattr(signal, f"SIG{self.one.signal}"))

    def _again(self) -> None:
        if self.sent is not None and not self.again:
            self.again = True
            os.kill(os.getpid(), getattr(signal, f"SIG{self.one.signal}"))

    def _count(self) -> None:
        self.steps += self.sent is not None

    def end(self) -> None:
        """Write down what there was."""
        if self.sent is not None:
            self.told.write_text(f"{time.process_time() - self.sent} {self.steps}")


# --- one try ---------------------------------------------------------------------------------------------------------


class Stopper:
    """Makes tries, one after another; the process has to be young: it forks.

    Args:
        parent: a folder for the undisturbed runs and what is tried.
        names: of the families that are trained.
        verbs: that are tried.
    """

    def __init__(self, parent: Path, names: Sequence[str], verbs: Sequence[str]) -> None:
        import_everything()
        self.parent = parent
        self.made = families.make(parent, [*names, TRAINED[0]])
        self.good = self.made.folder
        for verb in ("sample", "eval", "sweep"):
            if verb in verbs:
                work = self._work(verb, TRAINED[0])
                (parent / verb).mkdir()
                ended = forked(lambda own=work, at=parent / verb: own(at), parent, kills.LIMIT)  # type: ignore[misc]
                if ended.code:
                    raise RuntimeError(f"{verb} fails undisturbed:\n{''.join(ended.texts)}")

    def _work(self, verb: str, family: str) -> Callable[[Path], int]:
        """The command of a try, called within a folder; a training that has begun is resumed."""

        def work(scratch: Path) -> int:
            own = families.words(family, self.good)
            if verb == "train":
                begun = (scratch / "run/config.yaml").exists()
                return families.called(["train", *(["resume=run"] if begun else [*own, "run_dir=run"])], scratch)
            if verb == "sweep":
                swept = ["seed=0,1", "sweep.dir=run", "sweep.workers=1"]
                return families.called(["train", "-m", *own, *swept], scratch)
            if not (scratch / "run").exists():
                shutil.copytree(self.good / family, scratch / "run")
            more = ["n=6"] if verb == "sample" else ["split=val", "seed=1"]
            return families.called([verb, "run=run", "device=cpu", *more], scratch)

        return work

    def run(self, one: Try) -> ledger.Outcome:
        """The command with its signal, then once more without; compare."""
        scratch = Path(tempfile.mkdtemp(prefix="try-", dir=self.parent))
        outcome, began = ledger.Outcome(one.name), time.monotonic()
        work = self._work(one.verb, one.family)
        moment = Moment(one, scratch / "told")

        def disturbed() -> int:
            try:
                return work(scratch)
            finally:
                moment.end()

        try:
            ended = forked(disturbed, scratch, kills.LIMIT, moment.begin)
            outcome.code, outcome.line = ended.code, kills.last(ended)
            outcome.failures += self._wrong(one, ended, scratch)
            ended = forked(lambda: work(scratch), scratch, kills.LIMIT)
            outcome.failures += said(ended.code, *ended.texts, kills.LIMIT)
            if ended.code:
                outcome.failures.append(f"then: code {ended.code}, {kills.last(ended)}")
            else:
                outcome.failures += self._differences(one, scratch / "run")
        finally:
            shutil.rmtree(scratch)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _differences(self, one: Try, run: Path) -> Iterator[str]:
        """What is not as without a signal."""
        if one.verb == "train":
            yield from families.differences(self.good / one.family, run)
        elif one.verb == "sweep":
            runs = [
                {path.parent.name: path.parent for path in at.glob("*/run.json")}
                for at in (self.parent / "sweep/run", run)
            ]
            yield from (f"{name}: missing or too much" for name in runs[0].keys() ^ runs[1].keys())
            for name in runs[0].keys() & runs[1].keys():
                yield from families.differences(runs[0][name], runs[1][name])
        else:
            yield from families.differences(self.parent / one.verb / "run", run)

    def _wrong(self, one: Try, ended: Ended, scratch: Path) -> Iterator[str]:
        """What is wrong with how it ended."""
        out, err = ended.texts
        hit = (scratch / "told").exists()
        stops = hit and one.signal in SIGNALS[:3]
        code = 128 + getattr(signal, f"SIG{one.signal}") if stops else 0
        if ended.code != code and not (ended.code == 0 and _is_done(one, scratch / "run")):
            yield f"exit code {ended.code}, not {code}"
        if "Traceback" in out + err:
            yield f"traceback: {kills.last(ended)}"
        if len(err.splitlines()) > 1:
            yield f"{len(err.splitlines())} lines of error"
        yield from (f"left over: {path.relative_to(scratch)}" for path in families.temporary(scratch))
        if not ended.code or not hit:
            return
        yield from self._told(one, scratch, out, err)

    def _told(self, one: Try, scratch: Path, out: str, err: str) -> Iterator[str]:
        """Of a command that was stopped: what it says, how soon it ended, what is there."""
        advice = [line for line in out.splitlines() if "go on with" in line]
        run = scratch / "run"
        if one.verb == "train" and (run / "config.yaml").exists():
            status = json.loads((run / "run.json").read_text())["status"]
            if status not in ("interrupted", "finished"):
                yield f"status {status}"
            if len(advice) != (status == "interrupted") or not all(
                "gencli train resume=run" in line for line in advice
            ):
                yield f"told: {advice}"
            yield from families.damaged(run)
        elif one.verb == "sweep" and run.exists():
            if len(advice) != 1:
                yield f"told: {advice}"
        elif err.strip() != "interrupted" and not (
            (one.verb == "eval" and "stopped" in out) or (one.verb == "sweep" and len(advice) == 1)
        ):
            yield f"told: {err.strip()!r}"
        seconds, steps = (scratch / "told").read_text().split()
        if float(seconds) > MOST:
            yield f"{seconds} s of the CPU after the signal"
        if int(steps) > 1:
            yield f"{steps} steps after the signal"


def _is_done(one: Try, run: Path) -> bool:
    """Whether the signal came so late that all was done: the end is not called off."""
    if one.verb == "train":
        return (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] == "finished"
    if one.verb == "sweep":
        return len([*run.glob("*/run.json")]) == 2
    return one.call < 0 and any(run.glob("samples/*-n=6*" if one.verb == "sample" else "eval/val*seed=1*"))


# --- the campaign ----------------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    ledger.options(parser)


def chosen(args: argparse.Namespace) -> list[Try]:
    """The tries that are asked for."""
    tries = drawn(args.seed, 200)
    again = ledger.failed(args.failed) if args.failed else {one.name for one in tries}
    return [one for one in tries if args.only in one.name and one.name in again][: args.limit]


def run(args: argparse.Namespace) -> int:
    """Stop commands, go on; say what is wrong."""
    tries = chosen(args)
    with ledger.folder() as parent:
        names = sorted({one.family for one in tries}, key=TRAINED.index)
        stopper = Stopper(parent, names, sorted({one.verb for one in tries}))
        print(f"{len(tries)} commands", flush=True)
        outcomes, broken = ledger.spread(tries, stopper.run, parent, args)
    return ledger.told(outcomes, broken, args.report)
