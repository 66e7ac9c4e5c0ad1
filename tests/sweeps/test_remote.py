"""Sweeps on clusters: a job that is taken from its node goes on in its folder, to the same bits."""

import importlib.util
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import gencli
from gencli.cli.main import main
from gencli.config import clusters
from gencli.config.clusters import Local, Ray, Slurm
from gencli.config.compose import compose
from gencli.core.errors import UsageError
from gencli.sweeps import node, remote, submitted
from gencli.sweeps.child import Request
from gencli.sweeps.jobs import Job
from gencli.sweeps.node import NodeJob
from gencli.training.signals import StopRequest
from tests.conftest import TINY
from tests.runs import ROOT, same, tensors
from tests.sweeps import slurm
from tests.sweeps.test_killed import FLOW

LIMIT = 60


@pytest.mark.parametrize(
    ("words", "cluster", "rest"),
    [
        (["seed=1,2"], None, ["seed=1,2"]),
        (["hydra/launcher=basic", "hydra.launcher.x=1"], None, ["hydra/launcher=basic", "hydra.launcher.x=1"]),
        (["hydra/launcher=submitit_local", "seed=1"], Local(), ["seed=1"]),
        (
            ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.setup=[a b,c]", "n=1"],
            Slurm(partition="gpu", setup=["a b", "c"]),
            ["n=1"],
        ),
        (["hydra/launcher=ray", "hydra.launcher.num_gpus=0.5"], Ray(num_gpus=0.5), []),
    ],
)
def test_a_launcher_of_our_own_is_told_from_those_of_hydra(words, cluster, rest):
    assert clusters.split(words) == (cluster, rest)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hydra.launcher.partitionn=x", "Did you mean 'partition'?"),
        ("hydra.launcher.timeout_min=0", "hydra.launcher.timeout_min=0: an integer of at least 1 is needed"),
        ("hydra.launcher.timeout_min=1,2", "a key of the launcher has one value"),
        ("seed=1", "there is no srun here"),
    ],
)
def test_what_no_launcher_can_do_is_refused_before_anything_is_written(word, says, capsys, monkeypatch, tmp_path):
    pytest.importorskip("submitit")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["train", *TINY, "-m", "hydra/launcher=submitit_slurm", word]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        remote.require(Ray())
    assert str(error.value) == "hydra/launcher=ray: the package ray is not installed: pip install 'gencli-nll[ray]'"


def test_the_signal_of_a_batch_script_is_heard():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.signal == signal.SIGUSR1


# --- on the node -----------------------------------------------------------------------------------------------------


def job_of(run, **config):
    request = Request(config=config, folder=str(run), log=str(run) + ".log", threads=1)
    return NodeJob(request, (), str(Path.cwd()), None, forwards=True)


def test_what_is_done_is_not_done_again(tiny_run):
    assert job_of(tiny_run)() == {"exit_code": 0, "cause": "", "seconds": 0.0, "interrupted": False}


def test_a_job_that_was_stopped_goes_on(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"status": "interrupted", "seal": None}))
    config = compose("train", TINY)
    begun = job_of(run, **config)._begin()
    assert begun.config["resume"] == str(run)
    assert begun.config["trainer"] == {**config["trainer"], "batch_size": 128}  # auto, as the run settled it


def test_a_job_that_left_no_checkpoint_begins_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").touch()
    job = job_of(tmp_path / "run", seed=1)
    assert job._begin().config == {"seed": 1}
    assert not (tmp_path / "run").exists()


def test_a_node_that_is_not_taken_away_goes_on(tmp_path, monkeypatch):
    """Of a SIGTERM that the cluster sent to all processes, and nothing followed."""
    ends = [node.Outcome(143, "stopped by SIGTERM", 1.0, True), node.Outcome(0, "", 1.0)]
    monkeypatch.setattr(NodeJob, "_once", lambda self: ends.pop(0))
    monkeypatch.setattr(node, "PATIENCE", 0.0)
    assert job_of(tmp_path)()["exit_code"] == 0
    assert ends == []


# --- by submitit -----------------------------------------------------------------------------------------------------


def until(what):
    end = time.monotonic() + LIMIT
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def ended(pool):
    found = {}
    while pool.running:
        found |= pool.wait(0.1)
    return found


def node_of(controller):
    children = Path(f"/proc/{controller}/task/{controller}/children")
    return int(until(lambda: children.read_text().split())[0])


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_a_job_that_is_preempted_goes_on_to_the_same_bits(tmp_path, importable):
    """And another process of the sweep finds it, as after the end of the one that started it."""
    pytest.importorskip("submitit")
    words = [*FLOW, "trainer.max_steps=400", "trainer.eval_every=50", "trainer.log_every=50"]
    run, found = tmp_path / "run", remote.backend(Local(), tmp_path)
    first, job = remote.Remote(found, 1, ()), Job("a", (), {}, run=run)
    first.start(job, Request(config=compose("train", words), folder="run", log="a.log", threads=1))
    assert not first.free
    place = json.loads(json.dumps(first.place(job)))
    until(lambda: (run / "checkpoints" / "best.safetensors").exists())

    pool = remote.Remote(remote.backend(Local(), tmp_path), 1, ())
    assert pool.adopt(job, place)
    os.kill(node_of(place["pid"]), signal.SIGUSR2)
    (outcome,) = ended(pool).values()
    assert outcome.exit_code == 0, (tmp_path / "a.log").read_text()
    assert not pool.adopt(job, place)
    assert "resuming run at step" in (run / "train.log").read_text()
    gencli.train([*words, "run_dir=alone"])
    assert same(tensors(run), tensors("alone")) == []


@pytest.fixture
def of_slurm(tmp_path, importable, monkeypatch):
    """The commands of Slurm, which answers at once."""
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(submitted, "LOOK", 0.1)


def test_what_sbatch_refuses_is_said_in_its_words_and_nothing_is_left(of_slurm, capsys, tmp_path):
    words = ["-m", "seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=nowhere"]
    assert main(["train", *TINY, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: sbatch refuses it: invalid partition specified: nowhere; Batch job submission")
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_what_waits_in_the_queue_leaves_it_when_the_sweep_is_stopped(of_slurm, tmp_path):
    """Nothing ever comes back of such a job, and no accounts may be there to say that it has gone."""
    pool = remote.Remote(remote.backend(Slurm(additional_parameters={"hold": True}), tmp_path), 1, ())
    pool.start("a", Request(config={}, folder="run", log="a.log", threads=1))
    assert pool.wait(0.3) == {}
    pool.stop(signal.SIGINT)
    outcome = ended(pool)["a"]
    assert (outcome.exit_code, outcome.cause, outcome.interrupted) == (130, "stopped", True)


def test_an_end_without_a_result_has_the_word_of_slurm(of_slurm, tmp_path, monkeypatch):
    """One that is not there yet comes within seconds, over a network."""
    monkeypatch.setattr(submitted, "LATE", 1.0)
    pool = remote.Remote(remote.backend(Slurm(setup=["exit 3"]), tmp_path), 1, ())
    pool.start("a", Request(config={}, folder="run", log="a.log", threads=1))
    began = time.monotonic()
    outcome = ended(pool)["a"]
    assert time.monotonic() - began > 1
    assert (outcome.exit_code, outcome.cause, outcome.interrupted) == (1, "the cluster ended it (completed)", False)


def test_nobody_answering_says_nothing_of_the_jobs(of_slurm, tmp_path):
    queue = submitted.Queue()
    queue.watch("1")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert queue.state("1") == "PENDING"
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho 2 RUNNING\n")
    queue.look_soon()
    assert queue.state("1") == "FORGOTTEN"


@pytest.mark.slow
def test_a_job_that_slurm_takes_no_more_fails_alone(of_slurm, capsys, monkeypatch):
    monkeypatch.setenv("TEST_SLURM_TAKES", "1")
    words = ["train", *TINY, "-m", "seed=0,1", "hydra/launcher=submitit_slurm"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "1 of 2 jobs done" in said.out
    assert "sbatch refuses it: Batch job submission failed: Job violates accounting/QOS policy" in said.err
    monkeypatch.delenv("TEST_SLURM_TAKES")
    assert main(words) == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "scancel --signal=TERM 1; "])
def test_a_signal_to_all_processes_of_a_job_has_it_saved_and_queued_again(first, of_slurm, tmp_path):
    """Slurm tells the training itself, too: it is to leave SIGUSR2 to its parent, and to be told SIGTERM only once."""
    words = [*FLOW, "trainer.max_steps=2000000", "trainer.eval_every=1000000", "trainer.log_every=50"]
    run, pool = tmp_path / "run", remote.Remote(remote.backend(Slurm(), tmp_path), 1, ())
    pool.start("a", Request(config=compose("train", words), folder="run", log="a.log", threads=1))
    try:
        until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text())
        os.system(f"{first}scancel --signal=USR2 1")
        until(lambda: "resuming run at step" in (run / "train.log").read_text())
        assert "stopped by SIGTERM after step" in (run / "train.log").read_text()
    finally:
        pool.stop(signal.SIGINT)
        outcome = ended(pool)["a"]
    assert outcome.interrupted


@pytest.mark.slow
def test_jobs_of_slurm(tmp_path, of_slurm):
    """Handed over with the options of the command, queued again when told, found again, stopped."""
    cluster = Slurm(partition="gpu", mem_gb=1.5, timeout_min=600, additional_parameters={"reservation": "mine"})
    remote.require(cluster)
    backend = remote.backend(cluster, tmp_path)
    one, two = (backend.submit(slurm.Waits(str(tmp_path / name))) for name in "ab")
    text = (tmp_path / "bin" / "jobs" / "1.sh").read_text()
    for line in ("partition=gpu", "mem=1536MB", "time=600", "reservation=mine", "signal=USR2@90", "cpus-per-task=1"):
        assert f"#SBATCH --{line}\n" in text
    assert "#SBATCH --requeue\n" in text  # without it, a Slurm of JobRequeue=0 refuses what submitit asks for

    until(lambda: all((tmp_path / f"{name}.starts").exists() for name in "ab"))
    os.system("scancel --signal=USR2 1")  # what Slurm does before the time is over
    until(lambda: (tmp_path / "a.starts").read_text() == "xx")
    assert not backend.done(one)
    again = remote.backend(cluster, tmp_path)
    found = again.find(json.loads(json.dumps(backend.place(one))))
    (tmp_path / "a").touch()
    until(lambda: again.done(found))
    assert again.find(backend.place(one)) is None
    assert again.find({"job": "1", "folder": "../x"}) is None

    backend.stop(two)
    until(lambda: backend.done(two))
    assert backend.result(two)["interrupted"]


# --- by Ray ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_of_ray(tmp_path, importable):
    ray = pytest.importorskip("ray")
    try:
        pool = remote.Remote(remote.backend(Ray(), tmp_path), 2, ())
        config = compose("train", [*TINY, "trainer.max_steps=2000000"])
        short = compose("train", [*TINY, "seed=1"])
        for name, own in (("long", config), ("short", short)):
            pool.start(name, Request(config=own, folder=name, log=f"{name}.log", threads=1))
        found = {}
        while "short" not in found:
            found |= pool.wait(0.1)
        assert found["short"].exit_code == 0
        until(lambda: (tmp_path / "long" / "checkpoints" / "best.safetensors").exists())
        pool.stop(signal.SIGINT)
        (outcome,) = ended(pool).values()
        assert outcome.interrupted
        until(lambda: json.loads((tmp_path / "long" / "run.json").read_text())["status"] == "interrupted")
    finally:
        ray.shutdown()
