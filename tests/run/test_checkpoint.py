"""Checkpoints: whole or not at all, and damage is seen at any byte."""

import os
import pickle

import pytest
import torch

from gencli.core.errors import RunFailed, UsageError
from gencli.run import checkpoint

TENSORS = {
    "model/w": torch.arange(6.0).view(2, 3),
    "model/n": torch.tensor(3),
    "ema/h": torch.ones(4, dtype=torch.bfloat16),
}


def test_round_trip(tmp_path):
    file = tmp_path / "checkpoints" / "last.safetensors"
    digest = checkpoint.write(file, TENSORS, {"step": 7, "best": [1.5, 3]})
    tensors, meta = checkpoint.read(file)
    assert meta == {"step": 7, "best": [1.5, 3]}
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert digest == checkpoint.file_sha256(file)
    assert list(file.parent.iterdir()) == [file]  # no temporary file is left


def test_a_checkpoint_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    file = tmp_path / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1})
    own = checkpoint._digest

    def meanwhile(tensors):
        monkeypatch.setattr(checkpoint, "_digest", own)
        checkpoint.write(file, TENSORS, {"step": 2})
        return "that of the first file's header, for tensors of the second"

    monkeypatch.setattr(checkpoint, "_digest", meanwhile)
    assert checkpoint.read(file)[1]["step"] == 2


def test_cut_short_at_any_byte_is_one_message_and_the_previous_one_loads(tmp_path):
    file = tmp_path / "checkpoints" / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1}, keep_previous=True)
    checkpoint.write(file, TENSORS, {"step": 2}, keep_previous=True)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        with pytest.raises(RunFailed, match=r"checkpoint=previous") as caught:
            checkpoint.read(file)
        assert "\n" not in str(caught.value)
    assert checkpoint.read(checkpoint.path_of(tmp_path, "previous"))[1]["step"] == 1


def test_an_altered_byte_is_seen(tmp_path):
    file = tmp_path / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1})
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(bytes(whole))
    with pytest.raises(RunFailed, match="damaged"):
        checkpoint.read(file)


def test_a_pickle_is_not_opened(tmp_path):
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    file = tmp_path / "last.safetensors"
    file.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(RunFailed, match="no checkpoint"):
        checkpoint.read(file)
    torch.save({"w": Payload()}, file)
    with pytest.raises(RunFailed, match="no checkpoint"):
        checkpoint.read(file)
    assert not marker.exists()


def test_a_missing_one_names_what_is_there(tmp_path):
    checkpoint.write(tmp_path / "checkpoints" / "last.safetensors", TENSORS, {})
    with pytest.raises(UsageError, match="This run has: last"):
        checkpoint.path_of(tmp_path, "best")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunFailed, match=r"last\.safetensors cannot be written: disk full"):
        checkpoint.write(file, TENSORS, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.read(file)[1]["step"] == 1
    assert list(tmp_path.iterdir()) == [file]


def test_optimizer_state_round_trip():
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([w], fused=True)
    w.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    tensors, scalars = checkpoint.pack("optimizer.model", state)
    again = checkpoint.unpack("optimizer.model", tensors, scalars)
    other = torch.optim.AdamW([torch.nn.Parameter(w.detach().clone())], fused=True)
    other.load_state_dict(again)
    for key, value in state["state"][0].items():
        assert torch.equal(other.state_dict()["state"][0][key], value)
