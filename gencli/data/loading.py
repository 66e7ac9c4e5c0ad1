"""From splits to batches.

The k-th global batch of training is a function of (seed, k) alone: positions k B .. (k + 1) B - 1 of the endless
sequence perm_0, perm_1, ... of the epochs' permutations. So a run resumes without a saved generator, every example
appears once an epoch, there is no short batch, and processes share one order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
import torch.utils.data
from torch import Tensor

from gencli.core.errors import RunFailed, UsageError
from gencli.core.noise import mix_seed
from gencli.core.spec import Batch
from gencli.data.base import Split
from gencli.data.split import StreamSplit


def train_batches(
    split: Split,
    batch_size: int,
    seed: int,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    device: torch.device | None = None,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Endless training batches in data space, from the batch number ``start`` on.

    Args:
        split: the training examples.
        batch_size: rows of the global batch, B; rank r takes its rows r, r + world, ...
        seed: of the permutations.
        start: number of the first batch, for a resumed run.
        rank: this process.
        world: number of processes.
        device: where batches are wanted; None: the CPU.
        workers: processes that read a stream; None: one for each core of this machine but one, 8 at most.

    Raises:
        ValueError: an empty split, or fewer rows than processes.
    """
    if len(split) == 0:
        raise ValueError("the training split is empty")
    if batch_size < world:
        raise ValueError(f"trainer.batch_size={batch_size}: at least one row for each of the {world} processes")
    device = device or torch.device("cpu")
    if isinstance(split, StreamSplit):
        indices = _indices(len(split), batch_size, seed, start, rank, world, torch.device("cpu"))
        for batch in _stream(split, indices, device, workers, world):
            yield batch
            start += 1
        split = split.in_memory()
    split = split.to(device)
    for index in _indices(len(split), batch_size, seed, start, rank, world, device):
        yield split.gather(index)


def held_out_batches(
    split: Split,
    batch_size: int,
    *,
    rank: int = 0,
    world: int = 1,
    device: torch.device | None = None,
    workers: int | None = None,
    order: Tensor | None = None,
) -> Iterator[tuple[Tensor, Batch]]:
    """Each example exactly once over all ranks, unpadded: (ids, batch), where ids (b,) are positions in the split.

    Args:
        split: the examples.
        batch_size: rows of a batch on this process; the last one may be shorter.
        rank: this process, which takes examples rank, rank + world, ...
        world: number of processes.
        device: where ids and batches are wanted; None: the CPU.
        workers: as in ``train_batches``.
        order: (N,) of the positions; None: as they are.
    """
    device = device or torch.device("cpu")
    own = (torch.arange(len(split)) if order is None else order)[rank::world]
    if len(own) == 0:
        return
    ids = [*own.split(batch_size)]
    if isinstance(split, StreamSplit):
        for batch in _stream(split, iter([*ids]), device, workers, world):
            yield ids.pop(0).to(device), batch
        if not ids:
            return
        split = split.in_memory()
    split = split.to(device)
    for index in ids:
        yield index.to(device), split.gather(index.to(device))


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation (n,) of an epoch; made on the CPU, so that every device sees the same one."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix_seed(seed, epoch)))


def _indices(
    n: int, batch_size: int, seed: int, start: int, rank: int, world: int, device: torch.device
) -> Iterator[Tensor]:
    """Positions of this rank's rows, batch after batch."""
    epoch, offset = divmod(start * batch_size, n)
    order = epoch_order(n, seed, epoch).to(device)
    while True:
        parts, missing = [], batch_size
        while missing:
            part = order[offset : offset + missing]
            parts.append(part)
            missing -= len(part)
            offset += len(part)
            if offset == n:
                epoch, offset = epoch + 1, 0
                order = epoch_order(n, seed, epoch).to(device)
        yield (parts[0] if len(parts) == 1 else torch.cat(parts))[rank::world]


def _stream(
    split: StreamSplit, indices: Iterator[Tensor], device: torch.device, workers: int | None, world: int
) -> Iterator[Batch]:
    """Read rows in worker processes, ahead of their use and in the order of the indices, until all are in memory."""
    if split.complete:
        return
    if workers is None:
        workers = min(8, max(1, (os.cpu_count() or 1) // world - 1))
    pinned = device.type == "cuda"
    loader = torch.utils.data.DataLoader(
        _Rows(split),
        batch_size=None,  # an item is a batch already
        sampler=_Positions(indices),
        num_workers=workers,
        pin_memory=pinned,
        generator=torch.Generator(),  # or a resumed run, whose loader starts later, would draw another dropout there
    )
    for x, index in loader:
        if isinstance(x, UsageError):
            raise RunFailed(str(x)) from x
        split.keep(index, x)
        y = None if split.y is None else split.y[index].to(device)
        yield Batch(x.to(device, non_blocking=pinned), y)
        if split.complete:
            return


class _Rows(torch.utils.data.Dataset[tuple[Tensor | UsageError, Tensor]]):
    """Positions -> (rows, positions); an error is handed over, for a worker that raised it would add its traceback."""

    def __init__(self, split: StreamSplit) -> None:
        self.split = split

    def __getitem__(self, index: Tensor) -> tuple[Tensor | UsageError, Tensor]:
        try:
            return self.split.files(index), index
        except UsageError as error:
            return UsageError(str(error)), index


class _Positions(torch.utils.data.Sampler[Tensor]):
    """Batches of positions, possibly without end."""

    def __init__(self, indices: Iterator[Tensor]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[Tensor]:
        return self.indices
