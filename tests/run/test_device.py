"""Where a run computes, and with how many threads."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

import gencli
from gencli.core import processes
from gencli.run import device
from tests.runs import cores


@pytest.fixture
def torch_takes_four(monkeypatch):
    with cores(monkeypatch, 4):
        yield


@pytest.mark.parametrize(("others", "count"), [(0, 4), (1, 3), (9, 1)])
def test_threads_leave_busy_cores_alone(others, count, torch_takes_four, monkeypatch):
    monkeypatch.setattr(device, "_others", lambda: others)
    with device.threads("auto") as found:
        assert found.count == torch.get_num_threads() == count
        assert found.open == (count > 1)
    assert torch.get_num_threads() == 4


def test_threads_that_are_asked_for_or_kept_or_set_are_taken(torch_takes_four, monkeypatch):
    monkeypatch.setattr(device, "_others", lambda: 4)
    for asked, kept, count in ((3, None, 3), ("auto", 2, 2), ("auto", 64, 4)):
        with device.threads(asked, kept) as found:
            assert (found.count, found.open) == (count, False)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # a sweep's share, or the user's word
    with device.threads("auto") as found:
        assert (found.count, found.open) == (4, False)
    monkeypatch.setenv(processes.SHARED, "1")  # by a sweep, not by the user
    for kept, count, open_ in ((None, 4, True), (2, 2, False)):
        with device.threads("auto", kept) as found:
            assert (found.count, found.open) == (count, open_)


def test_a_run_says_how_many_threads_it_had(tiny_run):
    assert gencli.load(tiny_run).info["threads"] == torch.get_num_threads()


def test_bf16_without_units_is_warned_of(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    for flags, slow in (("fpu avx2", True), ("fpu avx512_bf16", False)):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}")
        monkeypatch.setattr(device, "Path", lambda name: tmp_path / "cpuinfo")
        assert (device.slow_precision("bf16", cpu) is not None) == slow
        assert device.slow_precision("auto", cpu) is None


def test_linear_algebra_of_numpy_and_scipy_has_as_many():
    """Those of scipy are loaded later, where they are used; threads of theirs would wait for each other, spinning."""
    script = """
        import numpy
        from threadpoolctl import threadpool_info
        from gencli.run.device import threads
        with threads(1):
            import scipy.linalg
            print({info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"})
    """
    own = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    told = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    assert told.stdout == "{1}\n"
