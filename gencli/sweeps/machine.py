"""What the machine offers to a sweep: devices, cores, and a process that can be forked."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
Workers = int | Literal["auto"]


@dataclass(frozen=True)
class Shares:
    """How jobs share the machine.

    Args:
        slots: variables of the environment of each job that runs at the same time.
        threads: of each on the CPU.
        what: the same in words.
    """

    slots: list[dict[str, str]]
    threads: int
    what: str


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_asked() -> int | None:
    """Threads of a job as the user has set them."""
    text = os.environ.get(THREADS, "")
    return int(text) if text.isdigit() and int(text) else None


def on_cores(configs: Sequence[Mapping[str, Any]], workers: Workers) -> Shares:
    """Share out the cores; ``OMP_NUM_THREADS``, where it is set, is the number of threads of a job.

    Args:
        configs: of all jobs of the sweep, the finished ones too, so that a second start shares out the same.
        workers: jobs at a time; auto: as many as there are cores for their threads.
    """
    count = workers if workers != "auto" else max(1, cores() // (threads_asked() or 1))
    if workers == "auto" and {config["device"] for config in configs} - {"cpu", "auto", "cuda"}:
        count = 1  # all on one device, which the command names
    return _shares([{}] * min(count, len(configs)), "")


def on_gpus(configs: Sequence[Mapping[str, Any]], workers: Workers) -> Shares | None:
    """Share out the GPUs, one job a GPU if workers say no more; None: there are none, or jobs name their devices.

    It imports torch, but leaves CUDA untouched: a process that has begun with CUDA cannot be forked.
    """
    if any(config["device"] not in ("auto", "cuda") for config in configs):
        return None
    import torch

    found = torch.cuda.device_count()
    if not found:
        return None
    visible = os.environ.get(VISIBLE)
    names = [name.strip() for name in visible.split(",")][:found] if visible else [str(k) for k in range(found)]
    count = min(found if workers == "auto" else workers, len(configs))
    return _shares([{VISIBLE: names[k % found]} for k in range(count)], f" on {found} GPU{'s' * (found > 1)}")


def _shares(slots: list[dict[str, str]], where: str) -> Shares:
    asked = threads_asked()
    threads = asked or max(1, cores() // len(slots))
    most = "up to " * (threads > 1 and not asked and not where)  # a training on a CPU may take fewer
    return Shares(slots, threads, f"{len(slots)} at a time{where}, {most}{threads} thread{'s' * (threads > 1)} each")


def can_fork() -> bool:
    """Whether jobs may be forks of this process: a Linux process that has not begun to compute."""
    return sys.platform.startswith("linux") and "torch" not in sys.modules
