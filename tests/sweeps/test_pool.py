"""Processes of jobs: whatever becomes of one, it is named, and the others go on."""

import faulthandler
import io
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import forks
import pytest
import torch

from gencli.cli import job
from gencli.cli.main import _report, _run_verb
from gencli.config.compose import compose
from gencli.core.errors import Interrupted, RunFailed, UsageError
from gencli.sweeps import pool as pools
from gencli.sweeps.child import Request
from gencli.sweeps.pool import Pool
from tests.sweeps.test_killed import TINY


def raises(error):
    raise error


def hang(obey):
    """Wait for ever; obey: save and end when asked to."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    while not (asked and obey):
        time.sleep(0.01)
    raise Interrupted("stopped by SIGTERM after step 7, saved", signal.SIGTERM)


WORKS = {
    "done": lambda: None,
    "raises": lambda: raises(ValueError("a bug\nwith a second line")),
    "nan": lambda: raises(RunFailed("the loss is not finite at step 3")),
    "key": lambda: raises(UsageError("model.nope: there is no such key in model")),
    "memory": lambda: torch.ones(2**27, dtype=torch.float64),
    "bytes": lambda: bytearray(2**30),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)),  # pytest would tell of it
    "exit": lambda: os._exit(3),
    "hangs": lambda: hang(obey=False),
    "late": lambda: hang(obey=True),
}


def run(tmp_path, names, slots=3, **limits):
    """(outcomes by name, order in which they ended)."""
    pool = Pool(
        [{"SLOT": str(k)} for k in range(slots)],
        lambda verb, config, folder: WORKS[config["work"]](),
        _report,
        **limits,
    )
    waiting, ended, until = [*names], {}, time.monotonic() + 60
    try:
        while waiting or pool.running:
            assert time.monotonic() < until
            while waiting and pool.free:
                name = waiting.pop(0)
                log = str(tmp_path / f"{name}.log")
                pool.start(name, Request(config={"work": name}, folder="x", log=log, threads=1))
            ended |= pool.wait(0.05)
    finally:
        pool.kill()
    return ended


@pytest.mark.slow
def test_each_is_named_with_its_cause_and_the_others_finish(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "GRACE", 0.5)
    found = run(tmp_path, [*WORKS], minutes=0.03, memory=0.5)
    assert {name: (outcome.exit_code, outcome.cause) for name, outcome in found.items()} == {
        "done": (0, ""),
        "raises": (1, "ValueError: a bug"),
        "nan": (1, "the loss is not finite at step 3"),
        "key": (2, "model.nope: there is no such key in model"),
        "memory": (1, found["memory"].cause),
        "bytes": (1, "out of memory (sweep.memory=0.5): MemoryError"),
        "killed": (137, "killed by SIGKILL: by the system for want of memory, or by someone"),
        "crash": (139, "ended by SIGSEGV"),
        "exit": (3, "exit code 3"),
        "hangs": (137, "took longer than sweep.minutes=0.03: it did not stop when asked and was killed"),
        "late": (143, "took longer than sweep.minutes=0.03: its checkpoint is saved"),
    }
    assert found["memory"].cause.startswith("out of memory (sweep.memory=0.5): RuntimeError: ")
    assert not any(outcome.interrupted for outcome in found.values())
    assert "a bug\nwith a second line" in (tmp_path / "raises.log").read_text()
    assert "error: the loss is not finite" in (tmp_path / "nan.log").read_text()


def test_who_is_told_to_stop_was_interrupted(tmp_path):
    pool = Pool([{}, {}], lambda *_: hang(obey=True), _report)
    try:
        for name in "ab":
            pool.start(name, Request(config={}, folder="x", log=str(tmp_path / "log"), threads=1))
        assert not pool.free
        assert pool.wait(0.5) == {}
        pool.stop(signal.SIGINT)
        pool.stop(signal.SIGINT)  # once is enough
        ended = {}
        while pool.running:
            ended |= pool.wait(1)
    finally:
        pool.kill()
    assert [ended[name].interrupted for name in "ab"] == [True, True]
    assert ended["a"].cause == "stopped by SIGTERM after step 7, saved"


def test_killing_leaves_no_process_and_no_child_of_one(tmp_path):
    def work(*_):
        if os.fork() == 0:
            time.sleep(100)
        (tmp_path / "here").touch()
        time.sleep(100)

    pool = Pool([{}], work, _report)
    pool.start("a", Request(config={}, folder="x", log=str(tmp_path / "log"), threads=1))
    (process,) = pool.running.values()
    while not (tmp_path / "here").exists():
        time.sleep(0.01)
    pool.kill()
    assert pool.running == {}
    until = time.monotonic() + 20
    while any_of_group(process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def any_of_group(group):
    """Whether a process of the group lives; one that has ended and that nobody has waited for does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(group) and fields[0] not in "ZX":
            return True
    return False


def test_a_job_has_its_share_of_the_machine(tmp_path, monkeypatch):
    """Threads, variables of its slot, a group and an output of its own; the process that forked it keeps its own."""
    monkeypatch.delenv("SLOT", raising=False)

    def work(verb, config, folder):
        print(torch.get_num_threads(), os.environ["SLOT"], os.getpgrp() == os.getpid(), os.read(0, 9), flush=True)

    pool = Pool([{"SLOT": "0"}, {"SLOT": "1"}], work, _report)
    for k in range(2):
        pool.start(k, Request(config={}, folder="x", log=str(tmp_path / f"log{k}"), threads=k + 1))
    while pool.running:
        pool.wait(1)
    assert [(tmp_path / f"log{k}").read_text() for k in range(2)] == ["1 0 True b''\n", "2 1 True b''\n"]
    assert "SLOT" not in os.environ


def small(folder, **options):
    """The request for a training of a moment."""
    config = compose("train", [*TINY, "model=gaussian", "trainer.max_steps=3"]) | options
    return Request(config=config, folder=str(folder), log=f"{folder}.log", threads=1)


@pytest.mark.slow
def test_where_none_can_be_forked_each_has_a_python_of_its_own(tmp_path):
    pool = Pool([{}], _run_verb, _report, forks=False)
    try:
        pool.start("good", small(tmp_path / "good"))
        ended = {}
        while pool.running:
            ended |= pool.wait(1)
    finally:
        pool.kill()
    assert (ended["good"].exit_code, ended["good"].cause) == (0, ""), (tmp_path / "good.log").read_text()
    assert json.loads((tmp_path / "good" / "run.json").read_text())["status"] == "finished"


def begun(request, answer):
    """What that Python does."""
    sys.stdin, sys.argv = io.StringIO(request), ["job", str(os.open(answer, os.O_WRONLY | os.O_CREAT))]
    return job.main()


@pytest.mark.slow
def test_a_refusal_of_such_a_python_comes_back_in_words(tmp_path):
    request = json.dumps(asdict(small(tmp_path / "bad", device="cuda:77")))
    assert forks.Child(begun, request, str(tmp_path / "answer"), folder=tmp_path).wait() == 2
    answer = json.loads((tmp_path / "answer").read_text())
    assert answer["exit_code"] == 2
    assert answer["message"].startswith("device=cuda:77 is not to be had here")
    assert not (tmp_path / "bad").exists()
