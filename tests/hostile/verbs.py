"""What other verbs read: a run that begins with a hostile one, pictures, metrics, lists, pages, cards, sweeps."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator

from hostile import classes, defaults, files, records, texts, values, weights
from hostile.base import ESCAPE, Case, Place, content, of_json

OPENED = (defaults, classes, texts, values, files, weights)
"""Kinds whose cases hurt whoever opens the run; each of them meets one of these verbs."""

OPENING = ("begin", "picture", "metrics", "samples")
TOLD = ("ls", "report", "card", "ls-json", "reports", "training")
SWEEP = ("script:sweep",)


def cases() -> Iterator[Case]:
    yield from _others(OPENED, OPENING, 4)
    yield from _others((records,), TOLD, 2)
    yield from _links()
    yield from _sweeps()


def _others(kinds: tuple, verbs: tuple[str, ...], step: int) -> Iterator[Case]:
    """Every so-manieth case of other kinds, with a verb in turn; those that are made of a run of two dimensions."""
    found = [case for kind in kinds for case in kind.cases() if case.base == "flow" and case.name_of_run == "run"]
    for k, case in enumerate(found[::step]):
        verb = verbs[k % len(verbs)]
        yield Case(f"verbs/{case.name.replace('/', '-')}", case.change, (verb,), case.base)


def _link(name: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.run / name).parent.mkdir(exist_ok=True)
        (place.outside / "victim").write_text("mine\n")
        (place.run / name).symlink_to(place.outside / "victim")

    return change


def _links() -> Iterator[Case]:
    for name, verb in {
        "samples/curves-seed0.png": "picture",
        "samples/samples-seed0.png": "samples",
        "eval/test-mmd-n=20.json": "metrics",
        "report.html": "report",
        "page.html": "reports",
    }.items():
        yield Case(f"verbs/link-{name.replace('/', '-')}", _link(name), (verb,))


# --- folders of sweeps -----------------------------------------------------------------------------------------------


def _sweep_of(name: str, make: Callable[[Place], None]) -> Case:
    """The run folder is a sweep's: of a stranger, in which the user starts one."""

    def change(place: Place) -> None:
        shutil.rmtree(place.run)
        place.run.mkdir()
        make(place)

    return Case(f"verbs/sweep-{name}", change, SWEEP)


def _record(value: object) -> Callable[[Place], None]:
    return content("sweep.json", json.dumps(value))


def _job_link(place: Place) -> None:
    """Every name that a job may have leads out."""
    from hostile.opening import sweep_jobs

    for name in sweep_jobs(place):
        (place.run / name).symlink_to(place.outside)


def _job_of_another(place: Place) -> None:
    """A job's folder holds another run, which says that it is done."""
    from hostile.opening import sweep_jobs

    for name in sweep_jobs(place):
        shutil.copytree(place.good / "flow", place.run / name)
        of_json("run.json", ["result"], {"value": ESCAPE})(
            Place(place.scratch, place.work, place.run / name, place.outside, place.path, place.good)
        )


def _sweeps() -> Iterator[Case]:
    job = {"overrides": [ESCAPE], "run": "../../outside", "state": ESCAPE, "exit_code": "x", "cause": ESCAPE}
    for name, make in {
        "record-text": content("sweep.json", "x"),
        "record-ids": _record({"jobs": {"../../outside/x": job, ESCAPE: job, "": 1}, "process": {"pid": -1}}),
        "record-types": _record({"jobs": [1], "process": 3, "sweep": {"a": 1}, "command": ESCAPE}),
        "record-link": _link("sweep.json"),
        "lock-link": _link(".lock"),
        "record-fifo": lambda place: os.mkfifo(place.run / "sweep.json"),
        "jobs-linked": _job_link,
        "jobs-foreign": _job_of_another,
    }.items():
        yield _sweep_of(name, make)
