"""A sweep that is killed, one of its jobs that is killed, Ctrl-C: in the end every record is the undisturbed one's."""

import importlib
import json
import os
import signal
import time
from contextlib import suppress

import forks
import pytest

from gencli.cli.main import main
from gencli.sweeps import launcher
from gencli.sweeps.search import launch
from tests.runs import same, tensors

TINY = (
    *("data=moons", "data.train=200", "data.val=40", "data.test=40", "trainer.batch_size=32", "trainer.eval_every=20"),
    *("trainer.log_every=10", "logger=none", "n=0", "device=cpu"),
)
FLOW = ("model=maf", "model.hidden=[8]", "model.transforms=2", *TINY)
JOBS = ("-m", *FLOW, "seed=0,1,2", "trainer.max_steps=100", "sweep.workers=2")
LIMIT = 200


def train(words):
    """The command, in a process that has computed nothing, though it has imported everything."""
    launcher.can_fork = launch.can_fork = lambda: True
    return main(["train", *words])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where sweeps lie; what they import and compose is there once they start."""
    forks.warm(importlib.import_module, "optuna")
    forks.warm_up(*FLOW, "trainer.max_steps=100")
    return tmp_path_factory.mktemp("sweeps")


class Sweep(forks.Child):
    """One start of the sweep in a folder."""

    def __init__(self, root, where, words=JOBS):
        self.folder, self.log = root / where, root / f"{where}.log"
        place = f"{'sweep.dir' if '-m' in words else 'run_dir'}={where}"
        super().__init__(train, [*words, place], log=self.log, folder=root)

    def wait_for(self, what):
        until = time.monotonic() + LIMIT
        while not (found := what(self.folder)):
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)
        return found


def runs(folder):
    return sorted(path.parent for path in folder.glob("*/config.yaml"))


def training(folder, after=0):
    """A run that is between steps ``after`` and its end."""
    for run in runs(folder):
        with suppress(OSError, KeyError):
            info = json.loads((run / "run.json").read_text())
            if info["status"] == "running" and after < info["progress"]["step"] < 90:
                return run
    return None


def finished(folder):
    """When each run that is finished was written last."""
    files = [run / "run.json" for run in runs(folder)]
    return {f: f.stat().st_mtime_ns for f in files if f.is_file() and '"finished"' in f.read_text()}


def outcome(run):
    """What a run says, without times."""
    record = json.loads((run / "eval" / "test-exact.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = ("seconds", "steps_per_second", "examples_per_second")
    return (
        {key: record[key] for key in ("value", "se_examples", "ledger", "n_examples", "split_sha256")},
        [{key: value for key, value in line.items() if key not in clocks} for line in lines],
    )


@pytest.mark.slow
def test_killed_again_and_again(root):
    undisturbed = Sweep(root, "undisturbed")
    assert undisturbed.wait() == 0, undisturbed.log.read_text()

    first = Sweep(root, "disturbed")
    first.wait_for(training)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL

    second = Sweep(root, "disturbed")
    run = second.wait_for(lambda folder: finished(folder) and training(folder))
    os.kill(json.loads((run / "run.json").read_text())["process"]["pid"], signal.SIGKILL)
    assert second.wait() == 1
    assert "killed by SIGKILL" in second.log.read_text()
    assert "2 of 3 jobs done" in second.log.read_text()
    done = finished(second.folder)

    third = Sweep(root, "disturbed")
    assert third.wait() == 0, third.log.read_text()
    assert "3 of 3 jobs done, 2 of them before" in third.log.read_text()
    assert len(done) == 2
    assert done.items() < finished(third.folder).items()  # nothing of them was touched

    assert [run.name for run in runs(third.folder)] == [run.name for run in runs(undisturbed.folder)]
    assert len(runs(third.folder)) == 3
    for one, other in zip(runs(undisturbed.folder), runs(third.folder), strict=True):
        assert outcome(one) == outcome(other)
        assert same(tensors(one), tensors(other)) == []


@pytest.mark.slow
def test_ctrl_c_saves_every_job_and_says_how_to_go_on(root):
    words = ("-m", *FLOW, "seed=0,1,2", "trainer.max_steps=100000", "sweep.workers=2")
    sweep = Sweep(root, "stopped", words)
    sweep.wait_for(
        lambda folder: len([r for r in runs(folder) if (r / "checkpoints" / "best.safetensors").exists()]) > 1
    )
    os.kill(sweep.pid, signal.SIGINT)
    assert sweep.wait() == 130
    told = sweep.log.read_text()
    assert "0 of 3 jobs done" in told
    assert told.count("stopped by SIGINT after step") + told.count("stopped at the validation after step") == 2
    assert "go on with the same command: gencli train -m model=maf" in told
    for run in runs(sweep.folder):
        info = json.loads((run / "run.json").read_text())
        assert info["status"] == "interrupted"
        assert info["progress"]["step"] > 0
    jobs = json.loads((sweep.folder / "sweep.json").read_text())["jobs"]
    assert sorted(job["state"] for job in jobs.values()) == ["interrupted", "interrupted", "waiting"]


@pytest.mark.slow
def test_a_job_is_the_training_that_train_alone_does(root):
    """With as many threads, to the bit."""
    sweep = Sweep(root, "swept", ("-m", *FLOW, "seed=3", "trainer.max_steps=20"))
    assert sweep.wait() == 0
    alone = Sweep(root, "alone", (*FLOW, "seed=3", "trainer.max_steps=20"))
    assert alone.wait() == 0
    (run,) = runs(sweep.folder)
    assert same(tensors(run), tensors(alone.folder)) == []


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_and_measures_test_once(root):
    words = ("-m", *FLOW, "search=tpe", "search.trials=2", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "search.seed=1")
    words = (*words, "trainer.max_steps=100", "sweep.workers=2")
    first = Sweep(root, "searched", words)
    killed = first.wait_for(training)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL

    second = Sweep(root, "searched", words)
    assert second.wait() == 0, second.log.read_text()
    found = runs(second.folder)
    assert len(found) == len(finished(second.folder)) == 2
    assert killed in found  # it went on where it was
    assert f"resuming searched/{killed.name}" in killed.with_name(f"{killed.name}.log").read_text()
    values = {run: json.loads((run / "eval" / "val-exact.json").read_text())["value"] for run in found}
    measured = [run for run in found if (run / "eval" / "test-exact.json").exists()]
    assert measured == [min(values, key=values.get)]
