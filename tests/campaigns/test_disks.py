"""A part of the campaign against full disks, rights and several writers; scripts/campaign disks has the whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from campaigns import disks, faults, meetings
from campaigns.faulty import READING, STEPS, Try

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and mounts small disks"),
    pytest.mark.slow,
]
PART = (
    "full/new-pages12",
    "full/end-free0",
    "output/compare",
    "gone/replaced-",
    "rights/none-run/checkpoints/best",
    "writers/killed-",
)
"""Beginnings of names: something of each kind."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from campaigns.faulty import Server

    parent = tmp_path_factory.mktemp("disks")
    for folder in (parent, *parent.parents[:2]):
        folder.chmod(0o755)  # some commands are those of another user
    return Server(parent)


@pytest.fixture(scope="module")
def every():
    return disks.tries(0)


@pytest.mark.parametrize("beginning", PART)
def test_a_fault_is_told_in_one_line_and_nothing_is_lost(server, every, beginning):
    found = disks.possible(server, [next(each for each in every if each.name.startswith(beginning))])
    if not found:
        pytest.skip("not possible here")
    outcome = disks.tried(server, found[0])
    assert not outcome.failures, (outcome.code, outcome.line)


def planted(act):
    """A try in which the command itself does what it must not, half-way."""

    def meets(run: Path) -> None:
        act(run)
        raise OSError(28, "No space left on device", str(run / "x"))

    def tried(room):
        def both(run: Path) -> None:
            room.note()
            meets(run)

        room.refused(room.command(meetings.RESUME, lambda: faults.at_step(STEPS - 2, both)), "disk/run")
        room.tidy()
        room.keeps()

    return Try("self/test", tried, "half")


def cut(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


PLANTED = {
    "nothing": (lambda run: None, None),
    "temporary": (lambda run: (run / ".x.1.tmp").touch(), "left behind"),
    "metrics": (lambda run: cut(run / "metrics.jsonl", 10), "lines of metrics are lost"),
    "traceback": (lambda run: 1 / 0, "traceback"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_checker_sees(server, what):
    act, told = PLANTED[what]
    failures = disks.tried(server, planted(act)).failures
    assert any(told in failure for failure in failures) if told else not failures


def test_what_was_said_is_looked_at(server):
    wrong = Try("self/test", lambda room: room.refused(room.command(READING["card"]), "no such path", codes=(1,)))
    assert disks.tried(server, wrong).failures == ["exit code 0, not 1"]


def test_the_campaign_is_large(every):
    assert len(every) >= 200
    assert [each.name for each in disks.tries(1)] != [each.name for each in every]
