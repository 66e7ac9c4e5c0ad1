"""Several processes under torchrun: who am I, and the few collectives that training and evaluation need.

Gradients are averaged by one all-reduce over a flat buffer after ``backward``. That serves any number of turns and any
method that a loss calls, where DistributedDataParallel knows only ``forward``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gencli.core import processes
from gencli.core.errors import GencliError, RunFailed, quoted

T = TypeVar("T")

NOTICED = 2.0
"""Seconds in which an exchange may fail before the system knows that the other process has ended."""

_peers: list[dict[str, Any]] = []
"""The processes of the group by rank, as ``processes.this`` describes them."""


@dataclass(frozen=True)
class World:
    """This process's rank, its rank on this machine, and the number of processes."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def join() -> World:
    """Read torchrun's variables and join the group: NCCL between GPUs, gloo between CPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)  # objects are exchanged through the current device
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        _peers[:] = gather(processes.this())
    return World(int(os.environ["RANK"]), local_rank, size)


def leave() -> None:
    """Leave the group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Around an exchange: what its backend says when another process has died, in one line."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunFailed(f"{_lost()} has ended ({quoted(reason, 200)}); resume= goes on from last") from error


def _lost() -> str:
    """Which other process is gone, as far as this host can tell."""
    until = time.monotonic() + NOTICED
    while _peers:
        gone = [rank for rank, peer in enumerate(_peers) if processes.alive(peer) is False]
        if gone:
            told = [f"rank {rank} (process {_peers[rank]['pid']} on {quoted(_peers[rank]['host'])})" for rank in gone]
            return " and ".join(told)
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return "another process of this run"


def by_main(work: Callable[[], T]) -> T:
    """What rank 0 makes of ``work``, which the others do not do, or its refusal; on every rank."""
    made: Any = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            made = work()
        except GencliError as error:
            made = error
    made = share(made)
    if isinstance(made, GencliError):
        raise made
    return made  # type: ignore[no-any-return]


def share(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not dist.is_initialized():
        return value
    box = [value]
    with _together():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Every rank's value, in order of rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    with _together():
        dist.all_gather_object(values, value)
    return values


def largest(value: Tensor) -> Tensor:
    """The elementwise maximum over ranks."""
    if dist.is_initialized():
        with _together():
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def total(value: Tensor) -> Tensor:
    """The elementwise sum over ranks."""
    if dist.is_initialized():
        with _together():
            dist.all_reduce(value)
    return value


def average_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Replace every gradient by its mean over ranks, a parameter without one counting as zero; the mean loss.

    The loss goes along in the same message, so that all ranks see one that is not finite.
    """
    if not dist.is_initialized():
        return loss
    parameters = [p for p in parameters if p.requires_grad]
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([*(p.grad.flatten() for p in parameters if p.grad is not None), loss.flatten()])
    with _together():
        dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for p in parameters:
        assert p.grad is not None
        p.grad.copy_(flat[offset : offset + p.numel()].view_as(p))
        offset += p.numel()
    return flat[-1]


def broadcast_state(*modules: nn.Module) -> None:
    """Rank 0's parameters and buffers, on every rank."""
    if not dist.is_initialized():
        return
    for module in modules:
        for tensor in module.state_dict().values():
            with _together():
                dist.broadcast(tensor, src=0)
