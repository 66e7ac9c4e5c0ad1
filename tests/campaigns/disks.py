"""Disks that are full, read-only, out of quota or broken; rights that lack; folders that go; several at one run."""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from campaigns import faults, ledger, meetings
from campaigns.children import Ended
from campaigns.faulty import READING, STEPS, VERBS, WORDS, Room, Server, Try
from campaigns.ledger import Outcome

HELP = "full and broken disks, rights, folders that go, several writers"


def options(parser: argparse.ArgumentParser) -> None:
    """What this campaign may be told."""
    ledger.options(parser)


def run(args: argparse.Namespace) -> int:
    """Let every command meet every fault."""
    found = [each for each in tries(args.seed) if args.only in each.name]
    if args.failed:
        again = ledger.failed(args.failed)
        found = [each for each in found if each.name in again]
    random.Random(args.seed).shuffle(found)
    with ledger.folder() as parent:
        server = Server(parent)
        found = possible(server, found)[: args.limit]
        outcomes, broken = ledger.spread(found, lambda each: tried(server, each), parent, args)
    return ledger.told(outcomes, broken, args.report)


def possible(server: Server, found: Iterable[Try]) -> list[Try]:
    """The tries that this machine allows; it is said why the others are not."""
    lacking = {
        "small disks": (lambda each: each.pages is not None, server.no_mounts),
        "other users": (
            lambda each: each.owner is not None,
            "" if os.getuid() == 0 else "only root may become another",
        ),
        "filters of system calls": (
            lambda each: each.name.startswith("calls/"),
            "" if faults.filters() else "their numbers are known of x86-64 only",
        ),
    }
    kept = [*found]
    for what, (needs, why) in lacking.items():
        if why:
            left = [each for each in kept if not needs(each)]
            print(f"no {what} ({why}): {len(kept) - len(left)} tries are left out", flush=True)
            kept = left
    return kept


def tried(server: Server, each: Try) -> Outcome:
    """One try in a room of its own."""
    began = time.monotonic()
    with Room(server, each.base, each.pages, each.inodes, each.owner) as room:
        each.act(room)
        code = room.ended.code if room.ended else 0
        return Outcome(each.name, [*dict.fromkeys(room.failures)], room.line, code, time.monotonic() - began)


def tries(seed: int) -> list[Try]:
    """All tries; what is drawn of them is by the seed."""
    draw = random.Random(seed)
    found = [*_full(draw), *_verbs(draw), *_outputs(), *_calls(draw), *_read_only(), *meetings.tries(draw)]
    names = [each.name for each in found]
    assert len({*names}) == len(names)
    return found


# --- full disks ------------------------------------------------------------------------------------------------------


def _full(draw: random.Random) -> Iterator[Try]:
    for pages in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48):
        yield Try(f"full/new-pages{pages}", _new, "", pages)
    for inodes in (2, 3, 4, 5, 6, 8, 10, 12, 14):
        yield Try(f"full/new-files{inodes}", _new, "", 4096, inodes)
    for step in range(STEPS // 2, STEPS):
        for free in draw.sample(range(16), 3):
            yield Try(f"full/step{step}-free{free}", _at(step, _filled(free)), "half", 4096)
    for free in (0, 1, 2, 4, 8):
        yield Try(f"full/resume-free{free}", _on_resume(free), "half", 4096)
        yield Try(f"full/end-free{free}", _at_end(free), "half", 4096)


def _new(room: Room) -> None:
    """A new run on a disk that may be too small for it."""
    begin = lambda: [faults.at_step(step, lambda run: room.note()) for step in range(STEPS)]  # noqa: E731
    ended = room.command(["train", *WORDS, "run_dir=disk/run"], begin)
    room.refused(ended, "disk/run", codes=(0, 1))
    room.tidy()
    assert room.small
    room.small.grow()
    if ended.code == 0:
        room.same()
    elif (room.scratch / "saved.json").exists():
        room.keeps()


def _filled(free: int) -> Callable[[Room], None]:
    return lambda room: faults.fill(room.disk, free)


def _at(step: int, fault: Callable[[Room], object]) -> Callable[[Room], None]:
    """A fault while a run goes on."""

    def act(room: Room) -> None:
        def meets(run: Path) -> None:
            room.note()
            fault(room)

        ended = room.command(["train", "resume=disk/run", "device=cpu"], lambda: faults.at_step(step, meets))
        room.refused(ended, "disk/run", codes=(0, 1))
        room.tidy()
        if room.small:
            room.small.grow()
        room.keeps()

    return act


def _goes_on_with_room(room: Room, ended: Ended) -> None:
    """What was refused for want of room leaves nothing behind, and goes on once there is some."""
    room.refused(ended, "disk/run", codes=(0, 1))
    room.tidy()
    assert room.small
    room.small.grow()
    room.keeps()


def _on_resume(free: int) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        room.note()
        faults.fill(room.disk, free)
        ended = room.command(["train", "resume=disk/run", "device=cpu"])
        _goes_on_with_room(room, ended)

    return act


def _at_end(free: int) -> Callable[[Room], None]:
    """The disk is full when training is complete: the record and the samples are to be written."""

    def act(room: Room) -> None:
        begin = lambda: faults.before(  # noqa: E731
            "gencli.training.session", "load_weights", lambda: [room.note(), faults.fill(room.disk, free)]
        )
        ended = room.command(["train", "resume=disk/run", "n=4", "device=cpu"], begin)
        _goes_on_with_room(room, ended)

    return act


def _verbs(draw: random.Random) -> Iterator[Try]:
    for name in VERBS:
        for free in (0, draw.randint(1, 8)):
            yield Try(f"verbs/{name}-free{free}", _verb(VERBS[name], free), "whole", 4096)


def _verb(words: Sequence[str], free: int) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        before = dict(room.files())
        faults.fill(room.disk, free)
        ended = room.command(words)
        room.refused(ended, "disk", codes=(0, 1))
        room.tidy()
        _harmless(room, before, ended.code)
        assert room.small
        room.small.grow()
        if ended.code and "run_dir=disk/new" in words:
            there = (room.disk / "new" / "checkpoints" / "last.safetensors").exists()
            words_again = ["train", "resume=disk/new"] if there else READING["ls"]
        else:
            words_again = words if ended.code else READING["ls"]
        again = room.command(words_again)
        if again.code:
            room.fail(f"not with room either: {again.err.decode(errors='replace')[:200]!r}")

    return act


def _harmless(room: Room, before: dict[str, bytes], code: int = 1) -> None:
    """A command that failed has changed no file of the run; new ones are whole, and of folders for them."""
    after = dict(room.files())
    changed = [name for name in before if after.get(name) != before[name]]
    if code:
        room.failures += [f"{name} is changed" for name in changed if not name.startswith("eval/")]
    for name in after.keys() - before.keys() | {*changed}:
        if name.endswith(".json"):
            json.loads(after[name])
        elif not after[name]:
            room.fail(f"{name} is empty")


def _outputs() -> Iterator[Try]:
    """What is printed goes to a full disk."""
    for name, words in READING.items():
        yield Try(f"output/{name}", _printed(words, False), "whole", 4096)
    for name in ("sample", "eval", "new", "report", "sweep"):
        yield Try(f"output/{name}", _printed(VERBS[name], name != "report"), "whole", 4096)


def _printed(words: Sequence[str], goes_on: bool) -> Callable[[Room], None]:
    def begin() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    def act(room: Room) -> None:
        ended = room.command(words, begin)
        room.refused(ended, "standard output", codes=(0,) if goes_on else (1,))
        room.tidy()

    return act


# --- system calls that fail, read-only disks -------------------------------------------------------------------------

FAULTS = {
    "quota": ("write", errno.EDQUOT),
    "quota-files": ("make", errno.EDQUOT),
    "full-late": ("sync", errno.ENOSPC),
    "broken": ("sync", errno.EIO),
    "broken-write": ("write", errno.EIO),
    "no-rename": ("rename", errno.EIO),
    "no-links": ("link", errno.EPERM),
}


def _calls(draw: random.Random) -> Iterator[Try]:
    for name, (what, error) in FAULTS.items():
        for step in draw.sample(range(STEPS // 2, STEPS), 2):
            refuse = lambda room, what=what, error=error: faults.refuse(what, error)  # noqa: E731
            yield Try(f"calls/{name}-step{step}", _at(step, refuse), "half")
        for verb in draw.sample(sorted({*VERBS} - {"sweep", "new"}), 3):
            yield Try(f"calls/{name}-{verb}", _refused(VERBS[verb], what, error))


def _refused(words: Sequence[str], what: str, error: int) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        before = dict(room.files())
        ended = room.command(words, lambda: faults.refuse(what, error))
        room.refused(ended, "disk", codes=(0,) if what == "link" else (1,))
        room.tidy()
        _harmless(room, before, ended.code)

    return act


def _read_only() -> Iterator[Try]:
    for name in VERBS:
        yield Try(f"read-only/{name}", _unwritable(VERBS[name]), "whole", 4096)
    yield Try("read-only/resume", _unwritable(["train", "resume=disk/run", "device=cpu"]), "half", 4096)
    for name in ("compare", "card", "ls"):
        yield Try(f"read-only/{name}", _unwritable(READING[name], (0,)), "whole", 4096)


def _unwritable(words: Sequence[str], codes: Sequence[int] = (1, 2)) -> Callable[[Room], None]:
    def act(room: Room) -> None:
        assert room.small
        before = dict(room.files())
        room.small.read_only()
        ended = room.command(words)
        room.small.grow()
        room.refused(ended, "disk", codes=codes)
        room.tidy()
        if before != dict(room.files()):
            room.fail("the run is changed")

    return act
