"""Checkpoints: whole or not at all, and damage is seen at any byte."""

import hashlib
import json
import os
import pickle
import random

import pytest
import torch
from safetensors.torch import save

from gencli.core.errors import RunFailed, UsageError
from gencli.run import checkpoint

TENSORS = {
    "model/w": torch.arange(6.0).view(2, 3),
    "model/n": torch.tensor(3),
    "ema/h": torch.ones(4, dtype=torch.bfloat16),
}


@pytest.fixture
def last(tmp_path):
    """Where a run has its last checkpoint."""
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / "last.safetensors"


def test_round_trip(last):
    file = last
    checkpoint.write(file, TENSORS, {"step": 7, "best": [1.5, 3]})
    tensors, meta = checkpoint.read(file)
    assert meta == {"step": 7, "best": [1.5, 3]}
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == checkpoint.file_sha256(file)
    assert list(file.parent.iterdir()) == [file]  # no temporary file is left


def test_tensors_that_share_memory_are_kept_each(last):
    whole = torch.arange(6.0)
    views = {"whole": whole, "again": whole, "end": whole[4:], "turned": whole.view(2, 3).T, "none": torch.zeros(0)}
    checkpoint.write(last, views, {})
    found = checkpoint.read(last)[0]
    assert all(torch.equal(found[name], views[name]) for name in views)


def test_a_checkpoint_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    file = tmp_path / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1})
    own = checkpoint._digest

    def meanwhile(tensors, header):
        monkeypatch.setattr(checkpoint, "_digest", own)
        checkpoint.write(file, TENSORS, {"step": 2})
        return "that of the first file's header, for tensors of the second"

    monkeypatch.setattr(checkpoint, "_digest", meanwhile)
    assert checkpoint.read(file)[1]["step"] == 2


def test_cut_short_at_any_byte_is_one_message_and_the_previous_one_loads(tmp_path, last):
    file = last
    checkpoint.write(file, TENSORS, {"step": 1}, keep_previous=True)
    checkpoint.write(file, TENSORS, {"step": 2}, keep_previous=True)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        with pytest.raises(RunFailed, match=r"checkpoint=previous") as caught:
            checkpoint.read(file)
        assert "\n" not in str(caught.value)
    assert checkpoint.read(checkpoint.path_of(tmp_path, "previous"))[1]["step"] == 1


def test_a_flipped_bit_is_seen_wherever_it_is(tmp_path):
    file = tmp_path / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1, "seconds": 2.5})
    whole = file.read_bytes()
    rng = random.Random(0)
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1 << rng.randrange(8)
        file.write_bytes(bytes(altered))
        with pytest.raises(RunFailed, match=r"damaged|no gencli checkpoint|not a gencli checkpoint|newer gencli"):
            checkpoint.read(file)


def test_an_edited_step_is_seen_and_checkpoints_of_format_1_still_open(tmp_path):
    file = tmp_path / "last.safetensors"
    checkpoint.write(file, TENSORS, {"step": 1})
    whole = file.read_bytes()
    assert rb"\"step\": 1" in whole
    file.write_bytes(whole.replace(rb"\"step\": 1", rb"\"step\": 2"))
    with pytest.raises(RunFailed, match="does not match its hash"):
        checkpoint.read(file)
    header = {"format": "1", "meta": '{"step": 3}', "sha256": checkpoint._digest(TENSORS, {})}
    file.write_bytes(save(TENSORS, metadata=header))
    assert checkpoint.read(file)[1] == {"step": 3}


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


def test_a_missing_one_names_what_is_there(tmp_path, last):
    checkpoint.write(last, TENSORS, {})
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


@pytest.mark.slow
def test_a_learning_rate_that_is_a_tensor_is_kept_as_a_number():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=torch.tensor(0.25), fused=True)
    _, scalars = checkpoint.pack("optimizer.model", optimizer.state_dict())
    assert json.loads(json.dumps(scalars))["param_groups"][0]["lr"] == 0.25


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
