"""Checkpoints that are written while training goes on are those that would have been written before it did."""

import threading

import pytest
import torch

import gencli
from gencli.core.errors import RunFailed
from gencli.run import checkpoint
from gencli.training.writer import Writer, aside
from tests.conftest import TINY
from tests.runs import same, tensors


def test_a_gpu_does_not_wait_for_the_disk():
    assert aside(torch.device("cuda", 1))
    assert not aside(torch.device("cpu"))


def test_a_checkpoint_is_what_the_tensors_were_when_it_was_given(tmp_path, monkeypatch):
    """They move before a byte of it is written."""
    moved, write = threading.Event(), checkpoint.write

    def later(*arguments, **options):
        assert moved.wait(20)
        write(*arguments, **options)

    monkeypatch.setattr("gencli.run.checkpoint.write", later)
    writer, x, path = Writer(aside=True), torch.zeros(3), tmp_path / "last.safetensors"
    writer.write(path, {"x": x, "again": x}, {"step": 1}, keep_previous=True)
    x.fill_(1)
    assert not path.exists()
    moved.set()
    writer.write(path, {"x": x}, {"step": 2}, keep_previous=True)  # waits for the first
    assert checkpoint.read(path)[1]["step"] in (1, 2)
    writer.wait()
    first, second = checkpoint.read(tmp_path / "previous.safetensors"), checkpoint.read(path)
    assert (first[1]["step"], second[1]["step"]) == (1, 2)
    assert torch.equal(first[0]["x"], torch.zeros(3))
    assert torch.equal(first[0]["again"], torch.zeros(3))
    assert torch.equal(second[0]["x"], torch.ones(3))


def test_what_cannot_be_written_is_told_once(tmp_path):
    writer = Writer(aside=True)
    (tmp_path / "there").write_text("a file")
    writer.write(tmp_path / "there" / "last.safetensors", {"x": torch.zeros(1)}, {}, keep_previous=False)
    with pytest.raises(RunFailed, match="cannot be written"):
        writer.wait()
    writer.wait()
    writer.write(tmp_path / "last.safetensors", {"x": torch.zeros(1)}, {}, keep_previous=False)
    writer.wait()
    assert (tmp_path / "last.safetensors").exists()


@pytest.mark.slow
def test_a_training_leaves_the_same_files(monkeypatch):
    gencli.train([*TINY, "run_dir=waits"])
    monkeypatch.setattr("gencli.training.loop.aside", lambda device: True)
    gencli.train([*TINY, "run_dir=aside"])
    assert same(*({k: v for k, v in tensors(run).items()} for run in ("waits", "aside"))) == []
    best = [checkpoint.read(gencli.load(run).path / "checkpoints/best.safetensors")[0] for run in ("waits", "aside")]
    assert same(*best) == []


@pytest.mark.slow
def test_a_disk_that_is_full_ends_a_training(monkeypatch):
    """The error of the thread is that of the run, also where it comes with the last checkpoint."""
    write = checkpoint.write

    def full(path, found, meta, **options):
        if meta["step"] >= 20 and path.stem == "last":
            raise RunFailed(f"{path} cannot be written: No space left on device")
        write(path, found, meta, **options)

    monkeypatch.setattr("gencli.training.loop.aside", lambda device: True)
    monkeypatch.setattr("gencli.run.checkpoint.write", full)
    with pytest.raises(RunFailed, match="No space left"):
        gencli.train([*TINY, "run_dir=full"])
    assert gencli.load("full").info["status"] == "failed"
