"""A part of the campaign of command lines; scripts/campaign commands has the whole."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import pytest

from campaigns import commands, lines
from campaigns.commands import SHARES, Line, drawn, line, tried
from campaigns.lines import Key
from gencli.core.options import Count, NonNegative

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    from campaigns.prepared import Prepared, training

    return Prepared(tmp_path_factory.mktemp("commands"), training({"flow": commands.RUNS["flow"]}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["train", *commands.MOONS, "model=gaussian", "model.covariance=[[1]]"],
        ["train", *commands.MOONS, "model=gaussian", "run_dir='\x1b[31m'", "seed=-1"],
        ["sample", "run=flow", "n=${seed}"],
        ["compare", "flow", "\u202etxt"],
    ],
    ids=lambda words: words[-1].encode("unicode_escape").decode(),
)
def test_a_command_is_refused_in_one_line(room, words):
    outcome = tried(room, Line("self/refused", tuple(words), beside=words[0] != "train"))
    assert not outcome.failures, outcome
    assert outcome.code == 2


@pytest.mark.slow
def test_what_training_would_find_out_is_refused_before_it(room):
    words = ["train", *lines.TINY, "data=gray_toys", "data.train=60", "data.val=16", "data.test=16", "model=rbm"]
    words += ["model.hidden=4", "objective.steps=1", "estimator=importance", "estimator.samples=3"]
    outcome = tried(room, Line("self/proposal", tuple(words)))
    assert not outcome.failures, outcome
    assert "estimator.proposal.kind=gmm: x is binary here" in outcome.line


def says(code: int, *err: str, out: str = ""):
    def main(words):
        print(out)
        print("\n".join(err), file=sys.stderr)
        return code

    return main


def writes(words):
    Path("left").touch()
    return says(2, "error: no")(words)


def warns(words):
    warnings.warn_explicit("odd", UserWarning, "/x/gencli/core/noise.py", 3)
    return 0


FAULTS = {
    "exit code": says(3, "error: no"),
    "two lines": says(2, "error: no", "more"),
    "no line": says(1),
    "traceback": lambda words: 1 / 0,
    "escape": says(0, out="\x1b[31m"),
    "written": writes,
    "warning": warns,
    "out of range": says(0),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", [*FAULTS, "nothing"])
def test_the_checker_sees(room, monkeypatch, what):
    monkeypatch.setattr("gencli.cli.main.main", FAULTS.get(what, says(2, "error: no")))
    outcome = tried(room, Line("self/test", ("train", "trainer.max_steps=0"), Key("trainer.max_steps", Count)))
    assert bool(outcome.failures) == (what in FAULTS), outcome


def deaf(words):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(20)
    return 0


def silent(words):
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(20)
    return 130


def obedient(words):
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(20)
    return says(130, "interrupted")(words)


@pytest.mark.parametrize(("main", "says"), [(deaf, "hang"), (silent, "does not say"), (obedient, "")])
def test_a_large_command_has_to_end_after_ctrl_c(room, monkeypatch, main, says):
    monkeypatch.setattr("gencli.cli.main.main", main)
    monkeypatch.setattr(commands, "LARGE", 0.2)
    monkeypatch.setattr(commands, "GRACE", 1)
    outcome = tried(room, Line("self/large", ("train", "trainer.max_steps=100000")))
    assert bool(outcome.failures) == bool(says), outcome
    assert says in "".join(outcome.failures)


@pytest.mark.parametrize(
    ("flag", "out", "right"), [("--info", "\tx", True), ("--info", "x\ty", False), ("n=1", "\tx", False)]
)
def test_tabs_indent_the_pages_of_hydra_alone(room, monkeypatch, flag, out, right):
    monkeypatch.setattr("gencli.cli.main.main", says(0, out=out))
    outcome = tried(room, Line("self/page", ("train", flag)))
    assert bool(outcome.failures) != right, outcome


@pytest.mark.slow
def test_a_try_is_had_again_by_its_name():
    found = drawn(3, 150)
    assert {each.name.partition("/")[0] for each in found} == {*SHARES}
    for each in found:
        group, _, number = each.name.partition("/")
        assert line(3, group, int(number)) == each


def test_values_at_and_beyond_the_ends_are_drawn():
    found = {lines.beyond(NonNegative, random.Random(k)) for k in range(100)}
    assert {"0", "-1", "-1e-09"} <= found
