"""Opens hostile runs and says what went wrong: each try is a forked child of one process that has imported everything.

A child works in a scratch folder of its own, under an audit hook that records what Python is asked to do. Nothing may
run, connect, unpickle, or write beyond the run folder; the answer is one line, or the command works. Linux only.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import composing
from campaigns.children import Ended, belongings
from campaigns.ledger import Outcome
from campaigns.prepared import Prepared, training
from campaigns.told import changed, first_line, said, snapshot
from campaigns.watched import Hook

from hostile import storage
from hostile.base import SECRET, Case, Place, unseal

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60
"""Seconds of a try; longer is a hang."""

MEMORY = 8 * 2**30
"""Address space of a child beyond what it has at its start: who asks for more is told so."""

MOONS = ("data=moons", "data.train=200", "data.val=40", "data.test=40")
TINY = (
    *("trainer.max_steps=6", "trainer.eval_every=3", "trainer.log_every=2", "trainer.batch_size=32"),
    *("logger=none", "n=4", "device=cpu"),
)
GOOD: dict[str, tuple[str, ...]] = {
    "flow": (*MOONS, "model=realnvp", "model.net.vector.hidden=[8]"),
    "tilted": (
        *(*MOONS, "model=ebm", "model.net.vector.hidden=[8]", "model.base=run", "model.run=flow", "objective=nce"),
        *("objective.noise.kind=run", "objective.noise.run=flow", "sampler.steps=4", "sampler.warmup=2"),
        *("estimator=ais", "estimator.base.kind=run", "estimator.base.run=flow", "estimator.chains=16"),
        *("estimator.betas=4", "estimator.refresh=2"),
    ),
    "field": (*MOONS, "model=flow_matching", "model.net.vector.width=8", "model.net.vector.blocks=1"),
    "student": (
        *(*MOONS, "model=flow_matching", "model.net.vector.width=8", "model.net.vector.blocks=1"),
        *("objective=reflow", "objective.teacher=field", "objective.pairs=50"),
    ),
    "digits": ("data=digits", "model=made", "model.hidden=[16]"),
}
"""The runs that cases start from; each takes a second or two to make."""


# --- verbs -----------------------------------------------------------------------------------------------------------


def _words(verb: str, place: Place, extra: Iterable[str]) -> list[str]:
    run, more = os.path.relpath(place.run, place.work), [*extra]
    named = f"'{_escaped(run)}'"
    return {
        "sample": ["sample", f"run={named}", "n=4", "device=cpu", *more],
        "eval": ["eval", f"run={named}", "device=cpu", *more],
        "resume": ["train", f"resume={named}", "device=cpu", "trainer.max_steps=8", *more],
        "again": ["train", f"resume={named}", *more],
        "latest": ["sample", "run=latest", "n=4", "device=cpu"],
        "picture": ["sample", f"run={named}", "picture=curves", "device=cpu", *more],
        "samples": ["sample", f"run={named}", "picture=samples", "n=4", "device=cpu", *more],
        "metrics": ["eval", f"run={named}", "metrics=[mmd]", "n=20", "device=cpu", *more],
        "begin": ["train", f"init_from={named}", *TINY, "run_dir=../tmp/new", *more],
        "training": ["sample", f"run={named}", "picture=training", "device=cpu", *more],
        "sweep": _sweep(named),
        "search": storage.words(named, more),
        "ls": ["ls", "outputs"],
        "ls-json": ["ls", "--json", "outputs"],
        "report": ["report", run],
        "reports": ["report", "outputs", "--out", "outputs/run/page.html"],
        "card": ["card", run],
        "compare": ["compare", "outputs/*"] if not run.startswith("-") else ["compare", "outputs"],
        "compare-json": ["compare", "--json", "outputs/*"],
        "compare-csv": ["compare", "--csv", "outputs/*"],
        "near": ["sample", "run=outputs/b"],
        "near-compare": ["compare", "outputs/b"],
        "complete": ["--complete", "sample", "run="],
        "complete-resume": ["--complete", "train", "resume=outputs/"],
        "complete-compare": ["--complete", "compare", ""],
        "complete-data": ["--complete", "train", "data.path="],
    }[verb]


COMMANDS = (
    *("sample", "eval", "resume", "again", "load", "latest", "compare", "compare-json", "compare-csv"),
    *("begin", "picture", "samples", "training", "metrics", "ls", "ls-json", "report", "reports", "card", "sweep"),
    "search",
    *("near", "near-compare", "complete", "complete-resume", "complete-compare", "complete-data"),
)
"""Verbs that a case may name; ``script:VERB`` and ``module:VERB`` start a process of their own."""


def _sweep(folder: str) -> list[str]:
    small = ("model.net.vector.hidden=[8]", "trainer.max_steps=1", "n=0", "sweep.workers=1")
    return ["train", "-m", *MOONS, "model=realnvp", *TINY[1:4], *small, "seed=1,2", f"sweep.dir={folder}"]


def sweep_jobs(place: Place) -> list[str]:
    """The folders that the jobs of the sweep above have."""
    from gencli.config.multirun import multirun
    from gencli.sweeps.ids import job_id, slug

    words = _sweep("x")[2:]
    return [f"{slug(job.swept)}-{job_id(job.config)}" for job in multirun(words, words, []).jobs if job.config]


def _escaped(text: str) -> str:
    """A text within single quotes of Hydra's grammar."""
    return re.sub(r"\\+(?='|$)", lambda m: m[0] * 2, text).replace("'", "\\'")


def _load(place: Place) -> int:
    """Everything that the Python side offers of a run; the first error is told as the command line tells it."""
    import gencli
    from gencli.cli.main import _report
    from gencli.core.errors import GencliError

    first: GencliError | None = None
    try:
        run = gencli.load(place.run, device="cpu")
        for act in (
            lambda: run.log_prob(run.sample(2).float()),
            lambda: run.info,
            lambda: run.metrics,
            lambda: run.results,
        ):
            try:
                act()
            except GencliError as error:
                first = first or error
    except GencliError as error:
        first = error
    return _report(first) if first else 0


# --- one try ---------------------------------------------------------------------------------------------------------


class Server:
    """Tries cases, one after another; the process has to be young: it forks.

    Args:
        parent: a folder for the good runs and the scratch folders.
        bases: the good runs that the cases need.
    """

    def __init__(self, parent: Path, bases: Sequence[str] = tuple(GOOD)) -> None:
        make = training({name: (*TINY, *GOOD[name]) for name in bases})
        warm = [[verb, "run=flow", "device=cpu"] for verb in ("sample", "eval")]
        self.prepared = Prepared(parent, make, warm, MEMORY)
        self.digest = snapshot(self.prepared.good)

    def run(self, case: Case, verb: str) -> Outcome:
        """Try one verb on a fresh copy of the case."""
        with self.prepared.folder() as scratch:
            place = self._place(scratch, case)
            try:
                case.change(place)
            except Exception as error:
                raise RuntimeError(f"{case.name} cannot be made: {error!r}") from error
            return self._tried(case, verb, place)

    def _place(self, scratch: Path, case: Case) -> Place:
        place = Place(
            scratch=scratch,
            work=scratch / "work",
            run=scratch / "work" / "outputs" / case.name_of_run,
            outside=scratch / "outside",
            path=scratch / "path",
            good=self.prepared.good,
        )
        for name in ("work/outputs", "outside", "path"):
            (scratch / name).mkdir()
        shutil.copytree(place.good / case.base, place.run, copy_function=shutil.copyfile)
        unseal(place.run)  # as whoever changes a run would do
        (place.outside / "mine.txt").write_text("mine\n")
        return place

    def _tried(self, case: Case, verb: str, place: Place) -> Outcome:
        kept = (os.path.realpath(place.run), str(place.scratch / "tmp"), str(place.scratch / "cache"))
        own = [place.scratch / name for name in ("log", "stdout", "stderr")]
        log = own[0]
        log.touch()
        before = snapshot(place.scratch, skip=(*kept, *map(str, own)))
        how, _, rest = verb.rpartition(":")
        if how:
            ended = self._process(how, rest, place, case)
        else:
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
            hook = Hook(place, descriptor, map(Path, kept))
            ended = self.prepared.act(
                place.scratch, lambda: _command(verb, place, case), LIMIT, begin=lambda: _begin(place, hook)
            )
            os.close(descriptor)
        out, err = ended.texts
        outcome = Outcome(f"{case.name}:{verb}", line=first_line(err, out), code=ended.code, seconds=ended.seconds)
        outcome.failures = [
            *dict.fromkeys(log.read_text(errors="replace").splitlines()),
            *said(ended.code, out.replace("\r\n", "\n") if verb == "compare-csv" else out, err, LIMIT),
            *(["an interpolation was resolved"] if SECRET in out + err else ()),
            *(_inserted(place, out) if rest.startswith("complete") else ()),
        ]
        after = snapshot(place.scratch, skip=(*kept, *map(str, own)))
        outcome.failures += [f"changed: {path}" for path in changed(before, after)[:5]]
        if Path(place.mark).exists():
            outcome.failures.append("the stranger's code ran")
        return outcome

    def _process(self, how: str, verb: str, place: Place, case: Case) -> Ended:
        """A process of its own, as a user starts it in a working directory that is the stranger's."""
        script = Path(sys.executable).with_name("gencli")
        start = [str(script)] if how == "script" else [sys.executable, "-m", "gencli"]
        environment = {key: value for key, value in os.environ.items() if key.startswith(("OMP_", "LANG", "LC_"))}
        environment |= {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", **_environment(place)}
        began = time.monotonic()
        out, err = place.scratch / "stdout", place.scratch / "stderr"
        with out.open("wb") as o, err.open("wb") as e:
            child = subprocess.Popen(
                [*start, *_words(verb, place, case.extra)],
                cwd=place.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=o,
                stderr=e,
                start_new_session=True,
            )
            try:
                code = child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                code = -9
        return Ended(code, time.monotonic() - began, out.read_bytes(), err.read_bytes())

    def good_is_untouched(self) -> bool:
        """Whether the runs that cases started from, and that some name, are as they were."""
        return snapshot(self.prepared.good) == self.digest


def _environment(place: Place) -> dict[str, str]:
    """Variables by which everything of a user lies in the scratch folder, and what no run may tell."""
    return {**belongings(place.scratch), "HOSTILE_SECRET": SECRET}


def _begin(place: Place, hook: Hook) -> None:
    """Make the child the case's own."""
    os.environ["HOSTILE_SECRET"] = SECRET
    sys.path.append(str(place.path))
    composing.forget()
    sys.addaudithook(hook)


def _command(verb: str, place: Place, case: Case) -> int:
    if verb == "load":
        return _load(place)
    from gencli.cli.main import main

    return main(_words(verb, place, case.extra))


# --- what must not be ------------------------------------------------------------------------------------------------


def _inserted(place: Place, out: str) -> Iterator[str]:
    """Put what completion offers into a shell, as if the user had pressed Enter; the mark shows whether it ran."""
    for line in filter(None, out.split("\n")):
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", f": {line}"],
            cwd=place.work,
            env={"PATH": os.environ.get("PATH", os.defpath), **_environment(place)},
            capture_output=True,
            timeout=10,
            check=False,
        )
        if done.returncode:
            yield f"a candidate is no word of a shell: {line[:80]!r}"
        if not line.startswith(("run=", "resume=", "data.path=", "--", "outputs")):
            yield f"a candidate is cut: {line[:80]!r}"


@dataclass(frozen=True)
class Pair:
    """A case and a verb."""

    case: Case
    verb: str

    @property
    def name(self) -> str:
        return f"{self.case.name}:{self.verb}"


def pairs(cases: Iterable[Case]) -> list[Pair]:
    """All that is to be tried."""
    return [Pair(case, verb) for case in cases for verb in case.verbs]
