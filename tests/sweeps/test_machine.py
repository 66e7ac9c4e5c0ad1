"""How jobs share a machine."""

import pytest
import torch

from gencli.sweeps import machine

AUTO, CPU, ONE = {"device": "auto"}, {"device": "cpu"}, {"device": "cuda:1"}


@pytest.fixture(autouse=True)
def eight(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.delenv(machine.THREADS, raising=False)
    monkeypatch.delenv(machine.VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("configs", "workers", "asked", "slots", "threads"),
    [
        ([CPU] * 24, "auto", None, 8, 1),
        ([CPU] * 3, "auto", None, 3, 2),
        ([AUTO], "auto", None, 1, 8),
        ([AUTO] * 24, 2, None, 2, 4),
        ([AUTO] * 24, 99, None, 24, 1),
        ([AUTO] * 24, "auto", "2", 4, 2),
        ([AUTO] * 24, "auto", "16", 1, 16),
        ([AUTO] * 24, 3, "1", 3, 1),
        ([ONE] * 24, "auto", None, 1, 8),
    ],
)
def test_cores(monkeypatch, configs, workers, asked, slots, threads):
    if asked:
        monkeypatch.setenv(machine.THREADS, asked)
    found = machine.on_cores(configs, workers)
    assert (len(found.slots), found.threads) == (slots, threads)


def test_gpus(monkeypatch):
    assert machine.on_gpus([CPU, AUTO], "auto") is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.on_gpus([AUTO, ONE], "auto") is None
    found = machine.on_gpus([AUTO] * 9, "auto")
    assert found.slots == [{machine.VISIBLE: "0"}, {machine.VISIBLE: "1"}]
    assert found.what == "2 at a time on 2 GPUs, 4 threads each"
    assert len(machine.on_gpus([AUTO] * 9, 5).slots) == 5
    monkeypatch.setenv(machine.VISIBLE, "6, GPU-ab")
    assert machine.on_gpus([AUTO] * 9, 2).slots == [{machine.VISIBLE: "6"}, {machine.VISIBLE: "GPU-ab"}]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert machine.on_gpus([AUTO], "auto") is None
