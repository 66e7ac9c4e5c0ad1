"""Where a run computes, and with how many threads."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import torch
from threadpoolctl import threadpool_limits

from gencli.core import distributed, processes
from gencli.core.errors import quoted


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, else MPS, else the CPU.

    Raises:
        ValueError: the device is not to be had on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
        near = ". Did you mean device=cuda?" if name.lower().startswith(("gpu", "nvidia")) or name.isdecimal() else ""
        raise ValueError(f"device={quoted(name)} is not to be had here: auto, cpu, cuda, cuda:1 or mps is needed{near}")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={name} is not to be had here: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # or fp32 likelihoods of convolutions would have 10 bits of mantissa
    return device


def on_this_rank(device: str, world: distributed.World) -> str:
    """Under torchrun each process takes the GPU of its local rank."""
    own = world.size > 1 and device in ("auto", "cuda") and torch.cuda.is_available()
    return f"cuda:{world.local_rank}" if own else device


class Threads:
    """How many threads of the CPU compute within ``with``, torch's and numpy's alike.

    Args:
        count: how many, at first.
        open: whether somebody who has timed the work may take fewer.
    """

    def __init__(self, count: int, *, open: bool = False) -> None:
        self.count, self.open = count, open
        self._limits = ExitStack()

    def __enter__(self) -> Threads:
        self._before = torch.get_num_threads()
        self.take(self.count)
        return self

    def __exit__(self, *_: object) -> None:
        self._limits.close()
        torch.set_num_threads(self._before)

    def take(self, count: int) -> None:
        """Compute with so many from here on."""
        self._limits.close()
        self._limits.enter_context(threadpool_limits(count, "blas"))
        self._limits.enter_context(_of_libraries_to_come(count))
        torch.set_num_threads(count)
        self.count = count


def threads(asked: int | Literal["auto"], kept: int | None = None) -> Threads:
    """The threads that were asked for.

    ``auto`` is what torch would take, ``OMP_NUM_THREADS`` where it is set; else not more than this container may use,
    and not those cores on which others compute: threads that wait for each other are slower than one. Training
    then times fewer (``training/threads``), also where a sweep has set the number.

    Args:
        asked: a number, or ``auto``.
        kept: what a run that goes on has had: another number of threads rounds otherwise.
    """
    own = torch.get_num_threads()
    if asked != "auto":
        return Threads(asked)
    shared = processes.SHARED in os.environ
    if os.environ.get("OMP_NUM_THREADS") and not shared:
        return Threads(own)
    if kept:
        return Threads(min(own, _quota(), kept))
    most = own if shared else max(1, min(own, _quota(), (os.cpu_count() or 1) - _others()))
    return Threads(most, open=most > 1)


@contextmanager
def _of_libraries_to_come(count: int) -> Iterator[None]:
    """The linear algebra that scipy brings, which is loaded where it is used, reads this once."""
    key = "OPENBLAS_NUM_THREADS"
    if key in os.environ:
        yield
        return
    os.environ[key] = str(count)
    try:
        yield
    finally:
        os.environ.pop(key, None)


def _quota() -> int:
    """Cores that a container grants."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such system, or no limit
        return os.cpu_count() or 1


def _others() -> int:
    """How many other threads of this machine compute at this moment, where it can be known (Linux)."""
    found = []
    try:
        for _ in range(5):
            running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
            found.append(max(0, int(running) - 1))  # one of them is this one
            time.sleep(0.01)
    except (OSError, ValueError, IndexError):
        return 0
    return sorted(found)[len(found) // 2]


def slow_precision(precision: str, device: torch.device) -> str | None:
    """Why a precision that was asked for is slow here; None: it is not, or that cannot be known."""
    if precision != "bf16" or device.type != "cpu":
        return None
    try:
        units = "bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return None if units else "trainer.precision=bf16: this CPU has no units for it, and fp32 is many times faster"
