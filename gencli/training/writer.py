"""Checkpoints are written while training goes on, where that pays."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencli.run import checkpoint as checkpoints


def aside(device: torch.device) -> bool:
    """Whether checkpoints are written by a thread: a GPU would wait, and a CPU is busy with training anyway."""
    return device.type == "cuda"


class Writer:
    """Writes checkpoints one after the other, in the order in which they were given.

    By a thread, each is what the tensors were when it was given: they are copied first, and the next one waits until
    this one is on disk. A run that is killed meanwhile has the file that was there before, whole.

    Args:
        aside: by a thread.
    """

    def __init__(self, aside: bool) -> None:
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if aside else None
        self.pending: Future[None] | None = None

    def write(self, path: Path, tensors: dict[str, Tensor], meta: dict[str, Any], *, keep_previous: bool) -> None:
        """See ``checkpoint.write``.

        Raises:
            RunFailed: it cannot be written, or the one before could not.
        """
        self.wait()
        if self.pool is None:
            checkpoints.write(path, tensors, meta, keep_previous=keep_previous)
            return
        still = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        self.pending = self.pool.submit(checkpoints.write, path, still, meta, keep_previous=keep_previous)

    def wait(self) -> None:
        """Until all are on disk.

        Raises:
            RunFailed: one could not be written.
        """
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()
