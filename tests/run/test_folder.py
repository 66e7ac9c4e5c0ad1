"""A run folder: one process trains it, what is damaged in it is told in one line, what can be rebuilt is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from campaigns.told import snapshot

from gencli.cli.main import main
from gencli.config import stored
from gencli.core import processes
from gencli.core.errors import RunFailed, UsageError
from gencli.core.files import inside
from gencli.run.folder import LOCK, RunFolder
from tests.conftest import TINY
from tests.runs import before_step


@pytest.fixture
def run(tiny_run, tmp_path):
    """A finished run of one's own."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


# --- two at once -----------------------------------------------------------------------------------------------------


def test_two_do_not_train_one_run(run, capsys):
    first = RunFolder(run)
    first.hold()
    first.update(**{**stored.info(run), "process": processes.this()})
    before = snapshot(run)
    assert main(["train", "resume=run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run is being trained by process {os.getpid()} on" in line
    assert snapshot(run) == before
    first.release()


def test_a_folder_that_took_its_place_is_not_written(run):
    own = RunFolder(run)
    own.hold()
    run.rename(run.with_name("elsewhere"))
    run.mkdir()
    for write in (lambda: own.update(), lambda: own.metric({"step": 1}), lambda: inside(run, "x")):
        with pytest.raises(RunFailed, match="another folder"):
            write()
    assert not any(run.iterdir())
    own.release()
    assert inside(run, "x") == run / "x"


def test_who_waited_is_refused_where_another_one_went_on(run, monkeypatch):
    told = iter([{"pid": 1}, {"pid": 2}])
    monkeypatch.setattr(RunFolder, "_process", lambda self: next(told))
    with pytest.raises(UsageError, match="process 2 on"):
        RunFolder(run).hold()


def test_what_may_not_be_read_is_not_damaged(run, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "best.safetensors")
    with pytest.raises(RunFailed, match=r"best.safetensors cannot be read: Permission denied"):
        RunFolder.check(run)


def test_a_validation_that_is_due_has_its_line_once(run):
    folder = RunFolder(run)
    (run / "metrics.jsonl").write_text('{"step": 2, "split": "train"}\n{"step": 2, "split": "val"}\n')
    folder.forget_after(2)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    folder.forget_after(2, due=True)
    assert json.loads((run / "metrics.jsonl").read_text())["split"] == "train"
    RunFolder(run).hold()


def test_two_do_not_begin_in_one_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"exists and is not empty: choose another$"):
        RunFolder(tmp_path).hold(fresh=True)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="exists and is not empty: choose another, or go on with resume="):
        RunFolder(tmp_path).hold(fresh=True)
    with pytest.raises(UsageError, match=r"notes.txt is a file: choose another$"):
        RunFolder.fresh_path({"run_dir": str(tmp_path / "notes.txt")}, None)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / LOCK).touch()  # of one that was killed before it began
    assert RunFolder.fresh_path({"run_dir": str(tmp_path / "new")}, None) == tmp_path / "new"


def test_temporary_files_of_a_live_writer_stay(run):
    (run / "samples").mkdir(exist_ok=True)
    left, live, old = run / ".run.json.1.ab.tmp", run / "samples" / ".x.npz.2.cd.tmp", run / "eval" / ".y.npz.3.ef.tmp"
    for file in (left, live, old):
        file.touch()
    os.utime(old, (0, 0))
    RunFolder(run).reopen(stored.config(run))
    assert (left.exists(), live.exists(), old.exists()) == (False, True, False)


def test_a_run_whose_process_is_gone_is_lost(run, capsys):
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = {**processes.this(), "pid": gone.pid, "start": processes._start(gone.pid)}
    assert processes.alive(process)
    gone.communicate()
    shutil.rmtree(run / "eval")

    def status(**process):
        (run / "run.json").write_text(json.dumps({"status": "running", "process": process}))
        main(["compare", "run"])
        return stored.info(run)["status"], capsys.readouterr().err

    found, told = status(**process)
    assert found == "lost"
    assert "run: lost, no result on test" in told
    assert status(**{**process, "pid": os.getpid()})[0] == "lost"  # the number went to another process
    assert status(**processes.this())[0] == "running"
    found, told = status(**{**process, "host": "elsewhere"})
    assert found == "running"
    assert "running on elsewhere, as far as its run.json tells; no result on test" in told
    assert status(pid="1", host=[], start=None)[0] == "running"


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_goes_on_without_what_can_be_made_anew(run, capsys):
    (run / "run.json").write_bytes((run / "run.json").read_bytes()[:40])
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe{}\n" + (run / "metrics.jsonl").read_bytes())
    best = run / "checkpoints" / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-1])
    assert main(["train", "resume=run", "trainer.max_steps=30"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [name for name in ("best.safetensors", "metrics.jsonl", "run.json") for line in told if name in line] == [
        "best.safetensors",
        "metrics.jsonl",
        "run.json",
    ]
    info = stored.info(run)
    assert (info["status"], info["seed"], info["progress"]["step"], info["best"]["step"]) == ("finished", 0, 30, 30)
    assert info["parameters"] > 0
    steps = [line["step"] for line in stored.metrics(run) if line["split"] == "train"]
    assert steps == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize("content", ["", "[]", '{"status": 3}'])
def test_run_json_of_any_kind_is_rebuilt(run, content):
    (run / "run.json").write_text(content)
    folder = RunFolder(run)
    assert "run.json" in (folder.reopen(stored.config(run), seed=3) or "")
    assert {"status": "running", "seed": 3}.items() <= stored.info(run).items()
    assert RunFolder(run).reopen(stored.config(run)) is None


def test_a_kill_before_the_first_validation_leaves_a_checkpoint(monkeypatch):
    seen = []
    before_step(monkeypatch, 0, lambda trainer: seen.extend(os.listdir("run/checkpoints")))
    assert main(["train", *TINY, "run_dir=run", "trainer.max_steps=1", "n=0", "~estimator"]) == 0
    assert "last.safetensors" in seen


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_a_folder_that_is_deleted_ends_the_run_and_is_not_made_again(logger, monkeypatch, capsys):
    before_step(monkeypatch, 6, lambda trainer: shutil.rmtree("run"))
    assert main(["train", *TINY, "run_dir=run", f"logger={logger}"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not Path("run").exists()
