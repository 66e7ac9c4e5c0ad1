"""A part of the campaign of kills; scripts/campaign kills has the whole."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from campaigns import families
from campaigns.kills import Death, Killer, Try, drawn

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="forks, and asks /proc"), pytest.mark.slow]

PART = (
    (Death("prepared", 0.5), Death("file", 0.7)),  # before the first checkpoint
    (Death("saving", -1.5), Death("half", 0.9)),
)


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    return Killer(tmp_path_factory.mktemp("kills"), ["closed"])


@pytest.mark.parametrize("deaths", PART, ids=lambda deaths: "-".join(map(str, deaths)))
def test_a_run_that_was_killed_goes_on_to_the_bit(killer, deaths):
    outcome = killer.run(Try("closed", 0, deaths))
    assert not outcome.failures, outcome.line
    assert outcome.line.startswith("killed 2 times")


def edited(run, file, change):
    text = (run / file).read_text()
    (run / file).write_text(change(text))
    assert (run / file).read_text() != text


def altered(run, name):
    import torch

    from gencli.run import checkpoint

    tensors, meta = checkpoint.read(run / f"checkpoints/{name}.safetensors")
    key = next(key for key in tensors if key.startswith("ema/"))
    checkpoint.write(
        run / f"checkpoints/{name}.safetensors", tensors | {key: torch.nextafter(tensors[key], tensors[key] + 1)}, meta
    )


FAULTS = {
    "line lost": lambda run: edited(run, "metrics.jsonl", lambda text: text[text.index("\n") + 1 :]),
    "line twice": lambda run: edited(run, "metrics.jsonl", lambda text: text + text.splitlines(keepends=True)[-1]),
    "record": lambda run: edited(run, "eval/test-exact.json", lambda text: text.replace('"value": ', '"value": 1')),
    "status": lambda run: edited(run, "run.json", lambda text: json.dumps(json.loads(text) | {"status": "lost"})),
    "last": lambda run: altered(run, "last"),
    "best": lambda run: altered(run, "best"),
    "left over": lambda run: (run / "eval/.test.json.1.ab.tmp").write_text(""),
    "samples": lambda run: (run / "samples/direct.npz").unlink(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_sees(killer, tmp_path, fault):
    good, run = killer.made.folder / "closed", tmp_path / "run"
    shutil.copytree(good, run)
    assert not [*families.differences(good, run)]
    FAULTS[fault](run)
    assert [*families.differences(good, run)]


def test_a_checkpoint_that_is_cut_is_seen(killer, tmp_path):
    shutil.copytree(killer.made.folder / "closed", tmp_path / "run")
    assert not [*families.damaged(tmp_path / "run")]
    last = tmp_path / "run/checkpoints/last.safetensors"
    last.write_bytes(last.read_bytes()[:-9])
    assert len([*families.damaged(tmp_path / "run")]) == 1


def test_tries_are_those_of_the_seed():
    tries = drawn(0, 300, [*families.FAMILIES])
    assert tries == drawn(0, 300, [*families.FAMILIES]) != drawn(1, 300, [*families.FAMILIES])
    assert {one.family for one in tries} == set(families.FAMILIES)
    assert len({one.name for one in tries}) == 300
