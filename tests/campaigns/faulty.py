"""Rooms in which commands meet a fault: a good run on a disk of its own, and what must be true of it afterwards."""

from __future__ import annotations

import codecs
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaigns.children import BELONGINGS, Ended, forked, settle
from campaigns.faults import Disk, at_step, own_mounts
from campaigns.prepared import Prepared, remove
from campaigns.told import first_line, metrics, records, said

LIMIT = 90
"""Seconds of a command; longer is a hang."""

STEPS = 12
WORDS = (
    *("model=realnvp", "model.net.vector.hidden=[8]", "data=moons", "data.train=200", "data.val=40", "data.test=40"),
    *(f"trainer.max_steps={STEPS}", "trainer.eval_every=3", "trainer.log_every=2", "trainer.batch_size=32"),
    *("trainer.ema_decay=0.9", "logger=none", "n=0", "device=cpu"),
)
NOBODY = 65534


def told(run: Path) -> list[dict[str, Any]]:
    """What a run says, without times: its metrics and its records."""
    return metrics(run) + records(run)


class Server:
    """Good runs, and what every command imports; the process has to be young: it forks.

    Args:
        parent: a folder for the runs and the rooms.
    """

    def __init__(self, parent: Path) -> None:
        parent.chmod(0o755)  # some commands are those of another user
        self.parent = parent
        self.no_mounts = own_mounts()
        words = [*(VERBS[name] for name in ("sample", "eval", "report")), READING["compare"], READING["ls"]]
        warm = [[word.replace("disk/run", "whole").replace("disk", ".") for word in each] for each in words]
        self.good = Prepared(parent, _make, warm).good
        for name in ("ascii", "latin-1", "utf-8", "idna"):
            codecs.lookup(name)  # another user may not read where Python lies
        self.same = (_tensors(self.good / "whole"), told(self.good / "whole"))


def _make() -> int:
    """A run that is whole, and one that is stopped half-way."""
    from gencli.cli.main import main

    if code := main(["train", *WORDS, "run_dir=whole"]):
        return code
    at_step(STEPS // 2 - 1, lambda run: os.kill(os.getpid(), signal.SIGTERM))  # after the step it stops
    return abs(main(["train", *WORDS, "run_dir=half"]) - 128 - signal.SIGTERM)


class Room:
    """Everything of one try.

    Args:
        server: has the good runs.
        base: the one that is copied to ``disk/run``; empty: none is.
        pages: of a small disk at ``disk``; None: an ordinary folder.
        inodes: of the small disk.
        owner: whose the run is.
    """

    def __init__(
        self, server: Server, base: str, pages: int | None = None, inodes: int = 0, owner: int | None = None
    ) -> None:
        self.server = server
        self.scratch = Path(tempfile.mkdtemp(prefix="room-", dir=server.parent))
        self.disk, self.run = self.scratch / "disk", self.scratch / "disk" / "run"
        self.failures: list[str] = []
        self.ended: Ended | None = None
        self.line = ""
        for path in (self.scratch, *(self.scratch / name for name in ("disk", *BELONGINGS.values()))):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        self.small = Disk(self.disk, pages, inodes) if pages is not None else None
        if base:
            shutil.copytree(server.good / base, self.run)
        if owner is not None:
            for path in (self.run, *self.run.rglob("*")):
                os.chown(path, owner, owner)

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *error: object) -> None:
        if self.small:
            self.small.end()
        remove(self.scratch)

    # --- commands ------------------------------------------------------------------------------------------------

    def work(self, words: Sequence[str], begin: Callable[[], object] = lambda: None, user: int | None = None) -> int:
        """A command, within its child."""
        from gencli.cli.main import main

        settle(self.scratch, self.scratch)
        if user is not None:
            os.setgid(user)
            os.setuid(user)
        begin()
        return main(words)

    def command(
        self,
        words: Sequence[str],
        begin: Callable[[], object] = lambda: None,
        *,
        user: int | None = None,
        meanwhile: Callable[[int], None] = lambda child: None,
        place: str = "",
    ) -> Ended:
        """Run one command in a child; what is wrong with what it says is kept.

        Args:
            words: after ``gencli``.
            begin: what the child does first.
            user: whose command it is.
            meanwhile: what is done while it runs.
            place: a folder for what it says, where several run at once.
        """
        folder = self.scratch / place
        folder.mkdir(exist_ok=True)
        ended = forked(lambda: self.work(words, begin, user), folder, LIMIT, meanwhile=meanwhile)
        out, err = ended.texts
        if self.ended is None or (ended.code and not self.ended.code):
            self.ended = ended
            self.line = first_line(err, out)
        wrong = said(ended.code, out, err, LIMIT, stopped=128 + signal.SIGTERM)
        self.failures += [f"{' '.join(words[:2])}: {each}" for each in wrong]
        return ended

    def at_once(self, count: int, words: Callable[[int], Sequence[str]], begin: Callable[[int], object]) -> list[Ended]:
        """Run commands that begin at the same moment."""
        go, found = self.scratch / "go", []

        def wait(number: int) -> None:
            while not go.exists():
                os.sched_yield()
            begin(number)

        def start(number: int) -> None:
            if number == count:
                go.touch()
                return
            following = lambda child: start(number + 1)  # noqa: E731
            found.append(self.command(words(number), lambda: wait(number), meanwhile=following, place=f"child{number}"))

        start(0)
        go.unlink()
        return found[::-1]

    # --- what must be true ---------------------------------------------------------------------------------------

    def fail(self, what: str) -> None:
        """Keep a failure."""
        self.failures.append(what)

    def refused(self, ended: Ended, *named: str, codes: Sequence[int] = (1,)) -> None:
        """A command ended with one line that names a path."""
        err = ended.err.decode(errors="replace")
        if ended.code not in codes:
            self.fail(f"exit code {ended.code}, not {' or '.join(map(str, codes))}")
        if ended.code and not any(name in err for name in named):
            self.fail(f"no {' or '.join(named)} in: {err[:200]!r}")

    def tidy(self) -> None:
        """No temporary file stays."""
        places = (self.disk, self.scratch / "tmp")
        left = [str(path) for place in places for path in place.rglob(".*.tmp")]
        left += [str(path) for path in (self.scratch / "tmp").iterdir()]
        if left:
            self.fail(f"left behind: {left[:3]}")

    def note(self) -> None:
        """Write down what is saved, before a fault; within the child too."""
        from gencli.run import checkpoint

        last, metrics = self.run / "checkpoints" / "last.safetensors", self.run / "metrics.jsonl"
        step = checkpoint.read(last)[1]["step"] if last.exists() else None
        lines = metrics.read_text() if metrics.exists() else ""
        (self.scratch / "saved.json").write_text(json.dumps([step, lines]))

    def keeps(self, run: Path | None = None) -> None:
        """What was saved before the fault is there, and goes on to the bits of a run that met none."""
        from gencli.run import checkpoint

        run = run or self.run
        step, lines = json.loads((self.scratch / "saved.json").read_text())
        if step is None:
            return
        metrics = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
        if not metrics.startswith(lines):
            self.fail("lines of metrics are lost")
        found = checkpoint.read(run / "checkpoints" / "last.safetensors")[1]["step"]
        if found < step:
            self.fail(f"the last checkpoint was of step {step}, is of {found}")
        if json.loads((run / "run.json").read_text())["status"] == "finished":
            self.same(run)
        else:
            self.resumes(run)

    def resumes(self, run: Path | None = None) -> None:
        """A run goes on, and ends as one that met no fault."""
        run = run or self.run
        ended = self.command(["train", f"resume={run}", "n=0", "device=cpu"])
        if ended.code:
            self.fail(f"cannot be resumed: {ended.err.decode(errors='replace')[:200]!r}")
        else:
            self.same(run)

    def same(self, run: Path | None = None) -> None:
        """A run is the undisturbed one to the bit: weights, optimizers, metrics, records."""
        import torch

        run = run or self.run
        for name, one, other in zip(("last", "best"), self.server.same[0], _tensors(run), strict=True):
            wrong = [key for key in one.keys() | other.keys() if not (key in one and key in other)]
            wrong += [key for key in one.keys() & other.keys() if not torch.equal(one[key], other[key])]
            self.failures += [f"{name}: tensor {key} differs" for key in sorted(wrong)[:2]]
        pairs = itertools.zip_longest(self.server.same[1], told(run))
        self.failures += [f"told {b}, not {a}"[:300] for a, b in pairs if a != b][:2]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """What lies in the run folder, but its lock."""
        for path in sorted(self.run.rglob("*")):
            if path.is_file() and path.name != ".lock":
                yield str(path.relative_to(self.run)), path.read_bytes()


def _tensors(run: Path) -> list[dict[str, Any]]:
    from gencli.run import checkpoint

    return [checkpoint.read(run / "checkpoints" / f"{name}.safetensors")[0] for name in ("last", "best")]


VERBS: dict[str, list[str]] = {
    "sample": ["sample", "run=disk/run", "n=4", "device=cpu"],
    "samples-csv": ["sample", "run=disk/run", "n=400", "format=csv", "device=cpu"],
    "picture": ["sample", "run=disk/run", "picture=curves", "device=cpu"],
    "eval": ["eval", "run=disk/run", "device=cpu"],
    "eval-val": ["eval", "run=disk/run", "split=val", "device=cpu"],
    "scores": ["eval", "run=disk/run", "scores=disk/scores.csv", "device=cpu"],
    "metrics": ["eval", "run=disk/run", "metrics=[mmd]", "n=20", "device=cpu"],
    "report": ["report", "disk/run"],
    "report-out": ["report", "disk/run", "--out", "disk/page.html"],
    "new": ["train", *WORDS, "run_dir=disk/new"],
    "sweep": ["train", "-m", *WORDS, "seed=1,2", "sweep.dir=disk/sweep", "sweep.workers=1"],
}
"""Commands that write."""

READING: dict[str, list[str]] = {
    "compare": ["compare", "disk/run"],
    "compare-csv": ["compare", "--csv", "disk/run"],
    "compare-json": ["compare", "--json", "disk/run"],
    "card": ["card", "disk/run"],
    "ls": ["ls", "disk"],
    "ls-json": ["ls", "--json", "disk"],
    "list": ["list"],
    "help": ["train", "--help"],
    "config": ["train", "--cfg", "job"],
    "complete": ["--complete", "train", "model="],
}
"""Commands that print."""


@dataclass(frozen=True)
class Try:
    """One try.

    Args:
        name: ``group/what``.
        act: does it in a room, and notes there what is wrong.
        base: the good run that lies in the room.
        pages: of the room's small disk; None: an ordinary folder.
        inodes: of the small disk.
        owner: whose the run is.
    """

    name: str
    act: Callable[[Room], None]
    base: str = "whole"
    pages: int | None = None
    inodes: int = 0
    owner: int | None = None
