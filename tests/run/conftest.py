"""Shared fixtures of tests about runs."""

import shutil

import pytest
from hostile.base import unseal


@pytest.fixture
def stranger(tiny_run, tmp_path):
    folder = tmp_path / "stranger"
    shutil.copytree(tiny_run, folder)
    unseal(folder)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/__init__.py").write_text("open('ran', 'w').close()\nclass Model: pass\n")
    return folder
