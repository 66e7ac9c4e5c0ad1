"""States in the order of time as examples: x is a state, y the states before it.

A split is a stretch of time, or whole trajectories. The rows of one depend on each other, so that errors are over
trajectories, or over blocks of time where there is one (``Split.groups``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.uncertainty import BLOCKS
from gencli.data.split import SPLITS, TensorSplit


def transitions(states: Tensor, lags: int = 1, lead: int = 1, clock: Tensor | None = None) -> TensorSplit:
    """Rows x = S_(t+lead), y = (S_(t-lags+1), ..., S_t) of N trajectories, in the order of time within each.

    Args:
        states: (N, T, *): trajectories of T states.
        lags: states in y, along its first axis, the latest one last.
        lead: steps from the latest of them to x.
        clock: (N, T, *) what is known of each time; that of the latest state stands before the states in y.

    Raises:
        ValueError: a trajectory is too short for a row.
    """
    N, T = states.shape[:2]
    rows = T - lags - lead + 1
    if rows < 1:
        raise ValueError(f"{T:,} states in a row make no example of data.lags={lags} and data.lead={lead}")
    past = [states[:, k : k + rows] for k in range(lags)]
    if clock is not None:
        past.insert(0, clock[:, lags - 1 : lags - 1 + rows])
    y = torch.cat(past, 2) if len(past) > 1 else past[0]
    split = TensorSplit(states[:, lags + lead - 1 :].flatten(0, 1), y.flatten(0, 1))
    block = torch.arange(rows) * min(BLOCKS, rows) // rows
    split.groups = torch.arange(N).repeat_interleave(rows) if N > 1 else block
    return split


def stretches(total: int, val: int, test: int, lags: int, lead: int, gap: int) -> dict[str, range]:
    """The times of the states that the rows of each split are made of, without overlap.

    The states x of test rows are the last ``test`` ones, those of validation rows ``val`` ones before. Between the
    states of two splits ``gap`` are left out.

    Args:
        total: T, the number of states.
        val: rows of the validation split; 0: there is none.
        test: rows of the test split; 0: there is none.
        lags: states in y.
        lead: steps from the latest of them to x.
        gap: states that no split has, between two of them.

    Raises:
        ValueError: nothing is left for training.
    """
    found, end = {}, total
    for name, rows in (("test", test), ("val", val)):
        if rows:
            found[name] = range(end - rows - lags - lead + 1, end)
            end = found[name].start - gap
    if end < lags + lead + 1:
        raise ValueError(
            f"data.val and data.test: {val:,} and {test:,} of {total:,} states, with data.gap={gap} between splits, "
            "leave none for training"
        )
    return {name: found[name] for name in SPLITS[1:] if name in found} | {"train": range(end)}
