"""What a kill or a signal may leave of a training, and how it goes on."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

import gencli
from gencli.cli.main import main
from gencli.core import distributed, processes
from gencli.core.errors import GencliError, Interrupted, RunFailed, UsageError
from gencli.run import checkpoint
from gencli.run.folder import RunFolder
from gencli.training.signals import Ended, StopRequest, ending
from tests.conftest import TINY
from tests.runs import same, tensors


def lines(run):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def test_a_run_without_a_checkpoint_begins_anew(tiny_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    for name in ("last", "previous"):
        (run / f"checkpoints/{name}.safetensors").unlink()  # best is of a start that was validated
    start = {"step": 0, "split": "val", "nll": 9.0}
    (run / "metrics.jsonl").write_text(json.dumps(start) + "\n")
    assert main(["train", f"resume={run}"]) == 0
    assert "at step 0" in capsys.readouterr().out
    assert same(tensors(tiny_run), tensors(run)) == []
    assert [line["step"] for line in lines(run)] == [line["step"] for line in lines(tiny_run)]


def test_a_final_measurement_is_noted_once_a_step(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    gencli.train([f"resume={run}"])  # nothing is left to be trained
    assert len(lines(run)) == len(lines(tiny_run))


def test_lines_of_a_final_measurement_are_told_from_the_usual_ones(tmp_path):
    usual = [{"step": 4, "split": "train", "loss": 1.0, "lr": 0.1}, {"step": 4, "split": "val", "nll": 1.0}]
    final = [{"step": 4, "split": split, "nll": 1.0} for split in ("val", "train", "test")]
    for last in final:
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*usual, last]))
        RunFolder(tmp_path).forget_after(4, measured=False)
        assert lines(tmp_path) == usual


def test_a_run_may_begin_where_one_was_killed_before_it_began(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", "run.json", "data.json", ".config.yaml.12.abcd.tmp"):
        (run / name).write_text("")
    cfg = {"run_dir": str(run)}
    assert RunFolder.fresh_path(cfg, None) == run
    RunFolder(run).begin(cfg, {})
    assert not [*run.rglob("*.tmp")]
    with pytest.raises(UsageError, match="not empty"):
        RunFolder.fresh_path(cfg, None)


@pytest.mark.parametrize("name", ["run.json", "mine.txt"])
def test_no_run_begins_among_the_files_of_a_user(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        RunFolder.fresh_path({"run_dir": str(tmp_path)}, None)


def test_a_run_that_has_lost_its_checkpoints_does_not_begin_anew(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    before = (tmp_path / "run/metrics.jsonl").read_text()
    with pytest.raises(GencliError, match="last"):
        gencli.train(["resume=run"])
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_temporary_files_go_with_the_process_that_left_them(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    pid = json.loads((run / "run.json").read_text())["process"]["pid"]
    for number in (pid, pid + 1):
        (run / f"eval/.test.json.{number}.abcd.tmp").write_text("")
    RunFolder(run).reopen({})
    assert [path.name for path in run.rglob("*.tmp")] == [f".test.json.{pid + 1}.abcd.tmp"]  # eval may be writing it


@pytest.mark.slow
def test_a_picture_that_was_due_is_drawn(monkeypatch):
    def stop(self, *rest):
        self.stop.signal = signal.SIGTERM
        return own(self, *rest)

    from gencli.training.loop import Trainer

    own = Trainer._show
    every = [*TINY, "trainer.sample_every=5", "trainer.max_steps=5", "n=4", "run_dir=run"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_show", lambda self: stop(self) if self.state.step == 5 else own(self))
        with pytest.raises(Interrupted):
            gencli.train(every)
    assert not Path("run/samples/step-0000005.npz").exists()
    gencli.train(["resume=run"])
    assert Path("run/samples/step-0000005.npz").exists()


def test_a_link_that_a_signal_leaves_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    checkpoint.write(path, {"x": torch.zeros(1)}, {})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(Interrupted("stopped at once", 2)))
    with pytest.raises(Interrupted):
        checkpoint.write(path, {"x": torch.ones(1)}, {}, keep_previous=True)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_before_there_is_a_run_is_told_like_ctrl_c(name, code, monkeypatch, capsys):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        monkeypatch.setattr("gencli.cli.main._dispatch", lambda words: os.kill(os.getpid(), number))
        assert main(["sample"]) == code
        assert capsys.readouterr().err == "interrupted\n"
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # nohup
        with ending():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert issubclass(Ended, KeyboardInterrupt)


def test_the_end_is_not_disturbed():
    with StopRequest() as stop:
        stop.deaf = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.signal


def test_a_peer_that_is_lost_is_named(monkeypatch):
    gone = processes.this() | {"pid": 7, "start": "another", "host": processes.this()["host"]}
    monkeypatch.setattr(distributed, "_peers", [processes.this(), gone])
    with (
        pytest.raises(RunFailed, match=r"^rank 1 \(process 7 on .*\) has ended \(Connection closed"),
        distributed._together(),
    ):
        raise RuntimeError("Connection closed by peer\nand more")
    monkeypatch.setattr(distributed, "_peers", [])
    with pytest.raises(RunFailed, match=r"^another process of this run has ended"), distributed._together():
        raise RuntimeError("Connection closed by peer")
