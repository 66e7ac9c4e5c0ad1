"""Shared fixtures: a small fast run, trained once."""

import os
from pathlib import Path

import pytest
import torch

import gencli

torch.set_num_threads(1)

TINY = [
    "data=moons",
    "model=realnvp",
    "model.net.vector.hidden=[16]",
    "trainer.max_steps=20",
    "trainer.eval_every=10",
    "trainer.log_every=5",
    "logger=none",
    "n=16",
    "device=cpu",
]
"""A run of about a second."""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Every test works in a folder of its own, so that outputs/ never lands in the tree."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A finished run; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    before = Path.cwd()
    os.chdir(folder.parent)
    try:
        gencli.train([*TINY, f"run_dir={folder}"])
    finally:
        os.chdir(before)
    return folder
