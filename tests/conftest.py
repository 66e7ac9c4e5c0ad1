"""Shared fixtures: a small fast run, trained once."""

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, by numpy too: threads of two workers wait for each other

import composing
import pytest
import torch

import gencli
from gencli.config import catalog

torch.set_num_threads(1)
composing.remember()

TINY = [
    "data=moons",
    "model=realnvp",
    "data.train=2000",
    "data.val=400",
    "data.test=400",
    "model.net.vector.hidden=[16]",
    "model.couplings=2",
    "trainer.max_steps=20",
    "trainer.eval_every=10",
    "trainer.log_every=5",
    "logger=none",
    "n=0",
    "device=cpu",
]
"""A run of less than a second."""


def pytest_collection_finish():
    """What is there now stays: the collector need not look through it again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Every test works in a folder of its own, so that outputs/ never lands in the tree, and waits for no disk.

    Modules that a test wrote there are forgotten after it: two tests may each call their plug-in `mine`. Weights and
    noise of torch's own generator are the same whatever ran before.
    """
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no test needs its files after a cut of power
    before = {*sys.modules}
    yield
    own = [name for name in {*sys.modules} - before if _lies_in(tmp_path, sys.modules[name])]
    for name in own:
        del sys.modules[name]
    if own:
        catalog.class_info.cache_clear()
        catalog._module.cache_clear()


def _lies_in(folder: Path, module) -> bool:
    names = getattr(module, "__dict__", {})
    places = [names.get("__file__"), *(names.get("__path__") or ())]
    return any(isinstance(place, str) and Path(place).is_relative_to(folder) for place in places)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A finished run; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    before = Path.cwd()
    os.chdir(folder.parent)
    try:
        gencli.train([*TINY, "n=16", f"run_dir={folder}"])
    finally:
        os.chdir(before)
    return folder
