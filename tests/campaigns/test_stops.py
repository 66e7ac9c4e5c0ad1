"""A part of the campaign of signals; scripts/campaign signals has the whole."""

from __future__ import annotations

import json
import sys

import pytest

from campaigns.children import Ended
from campaigns.stops import PHASES, SIGNALS, Stopper, Try, drawn

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="forks"), pytest.mark.slow]

PART = (
    Try(0, "train", "flow", "TERM", "prepared", 1),
    Try(1, "train", "flow", "INT", "step", 5, twice=True),
    Try(2, "train", "flow", "LEAVE", "validating", 1),
    Try(3, "sample", "flow", "HUP", "keeping", 1),
)


@pytest.fixture(scope="module")
def stopper(tmp_path_factory):
    return Stopper(tmp_path_factory.mktemp("stops"), ["flow"], ["sample"])


@pytest.mark.parametrize("one", PART, ids=lambda one: one.name)
def test_a_command_that_is_stopped_saves_tells_and_goes_on(stopper, one):
    outcome = stopper.run(one)
    assert not outcome.failures, outcome.line


TOLD = b"stopped by SIGTERM after step 3, saved; go on with: gencli train resume=run\n"
FAULTS = {
    "": (Ended(143, 1.0, TOLD, b""), "interrupted", "0.2 1", ()),
    "another code": (Ended(1, 1.0, TOLD, b""), "interrupted", "0.2 1", ()),
    "killed": (Ended(-15, 1.0, TOLD, b""), "interrupted", "0.2 1", ()),
    "silent": (Ended(143, 1.0, b"", b""), "interrupted", "0.2 1", ()),
    "told twice": (Ended(143, 1.0, TOLD * 2, b""), "interrupted", "0.2 1", ()),
    "two lines": (Ended(143, 1.0, TOLD, b"error: a\nb\n"), "interrupted", "0.2 1", ()),
    "status": (Ended(143, 1.0, TOLD, b""), "running", "0.2 1", ()),
    "steps": (Ended(143, 1.0, TOLD, b""), "interrupted", "0.2 4", ()),
    "late": (Ended(143, 1.0, TOLD, b""), "interrupted", "3.1 1", ()),
    "left over": (Ended(143, 1.0, TOLD, b""), "interrupted", "0.2 1", (".last.safetensors.1.ab.tmp",)),
    "done all the same": (Ended(0, 1.0, b"", b""), "interrupted", "0.2 1", ()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_sees(stopper, tmp_path, fault):
    ended, status, after, more = FAULTS[fault]
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/config.yaml").write_text("")
    (tmp_path / "run/run.json").write_text(json.dumps({"status": status}))
    (tmp_path / "told").write_text(after)
    for name in more:
        (tmp_path / "run/checkpoints" / name).write_text("")
    found = [*stopper._wrong(Try(0, "train", "flow", "TERM", "step", 3), ended, tmp_path)]
    assert bool(found) == bool(fault), found


def test_tries_are_those_of_the_seed():
    tries = drawn(0, 200)
    assert tries == drawn(0, 200) != drawn(1, 200)
    assert {one.signal for one in tries} == set(SIGNALS)
    assert {(one.verb, one.phase) for one in tries} >= {("train", phase) for phase in PHASES["train"]}
